"""The judge: what it says depends on the events alone, not on batches, repeats or restarts."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from leadline.alert import Alert
from leadline.config import Config, Join, Model, Panes
from leadline.events import Digest, DigestCell
from streams.backtest.log_files import Arrived, merge
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import read_reference
from streams.core.stage import Effects, Record
from streams.counting.references import Reference
from streams.judge.judge import Judge
from streams.judge.judge_rows import VARIATION_TABLE
from streams.judge.model_judge import ModelJudge
from streams.judge.ticks import Tick
from streams.observe.observe import Observer
from streams.worker.factories import JudgeFactory
from tests.streams.logs import START, Log, make_log, write_reference
from tests.streams.stored_days import all_days

WINDOW = 2 * 3600.0
REQUESTS, EVERY_S = 1500, 10.0


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    path = tmp_path_factory.mktemp("reference") / "reference.csv"
    write_reference(path)
    return read_reference(path)


@pytest.fixture(scope="module")
def log() -> Log:
    """Older patients in the third quarter: an incident that opens and resolves."""
    return make_log(11, REQUESTS, bad=False, every_s=EVERY_S, fault=(0.5, 0.65), new_wards=False)


@pytest.fixture(scope="module")
def records(log: Log, known: Reference) -> list[Record]:
    """The log's digests, from one partition."""
    return digests_of(log, configuration(), {"risk": known})


@pytest.fixture(scope="module")
def judged(records: list[Record], known: Reference) -> Run:
    """A judge that has read them all, in one go. Tests do not change it."""
    return Run(configuration(), {"risk": known}).feed(records)


def configuration(learn_rows: int = 2000) -> Config:
    # Kept to the end: when exactly a row is dropped, and a late label then is nobody's, is a matter of batches. So are days.
    join = Join(delay_window=WINDOW, max_future=1e9, late_retention=1e6)
    panes = Panes(longest_span=7200.0, days_kept=1000)
    return Config(join=join, models={"*": Model(learn_rows=learn_rows)}, panes=panes)


def digests_of(
    log: Log, config: Config, given: dict[str, Reference], *, partitions: int = 1, seed: int = 0, largest: int = 200
) -> list[Record]:
    """What the observers of some partitions send, in order of sending; batches are cut at random."""
    book = ReferenceBook(config, given)
    observers = [Observer(partition, config, book) for partition in range(partitions)]
    arrivals = []
    for lines in (log.predictions, log.labels):
        events = [json.loads(line) for line in lines]
        arrivals.append(
            iter(
                Arrived(
                    event["arrived_at"], Record(at, event["request_id"].encode(), line.encode(), event["arrived_at"])
                )
                for at, (event, line) in enumerate(zip(events, lines, strict=True))
            )
        )
    cuts = random.Random(seed)
    sent: list[Record] = []
    batches: dict[int, dict[str, list[Record]]] = {}
    sizes = {partition: cuts.randint(1, largest) for partition in range(partitions)}

    def flush(partition: int) -> None:
        arrived = batches.pop(partition)
        effects = observers[partition].fold(arrived, {}, max(rows[-1].timestamp for rows in arrived.values()))
        for send in effects.sends:
            if send.topic == config.kafka.topics.digests:
                sent.append(Record(len(sent), send.key, send.value, 0.0))
        sizes[partition] = cuts.randint(1, largest)

    for source, record in merge(*arrivals):
        assert record.key is not None
        partition = sum(record.key) % partitions
        if sum(map(len, batches.get(partition, {}).values())) >= sizes[partition]:
            flush(partition)
        batches.setdefault(partition, {}).setdefault(source, []).append(record)
    for partition in list(batches):
        flush(partition)
    return sent


class Run:
    """A judge on a store of dictionaries."""

    def __init__(self, config: Config, given: dict[str, Reference]) -> None:
        self.config, self.given = config, given
        self.store: dict[str, dict[bytes, bytes]] = {}
        self.written = b""
        self.alerts: list[Alert] = []
        self.start()

    def start(self) -> None:
        factory = JudgeFactory(self.config, ReferenceBook(self.config, self.given))
        tables = {name: dict(self.store.get(name, {})) for name in factory.whole(self.written)}
        self.judge: Judge = factory.build(0, self.written, tables)

    def fold(self, records: Sequence[Record], now: float = 0.0) -> Effects:
        effects = self.judge.fold({"digests": records}, {}, now)
        for table, names in effects.removes.items():
            for name in names:
                self.store.get(table, {}).pop(name, None)
        for table, rows in effects.writes.items():
            self.store.setdefault(table, {}).update(rows)
        self.written = effects.checkpoint
        for send in effects.sends:
            assert send.topic == self.config.kafka.topics.alerts
            self.alerts.append(Alert.model_validate_json(send.value))
        return effects

    def feed(self, records: Sequence[Record], seed: int = 0, largest: int = 40, restart: float = 0.0) -> Run:
        rng = random.Random(seed)
        at = 0
        while at < len(records):
            size = rng.randint(1, largest)
            self.fold(records[at : at + size])
            at += size
            if rng.random() < restart:
                self.start()
        return self

    def cohorts(self) -> dict[tuple[Any, int], np.ndarray]:
        judge = self.judge.models["risk"]
        days = all_days(judge.cells)
        return {key: days.day(*key) for key in days.cells()}


def identities(alerts: Sequence[Alert]) -> list[tuple[str, str, str, float]]:
    return [(alert.alert_id, alert.incident_id, alert.life, alert.raised_at) for alert in alerts]


def assert_same_cohorts(one: Run, other: Run) -> None:
    left, right = one.cohorts(), other.cohorts()
    assert set(left) == set(right)
    for key, vector in left.items():
        assert np.allclose(vector, right[key], rtol=1e-9, atol=1e-9)


# -- laws ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_a_judge_that_is_restarted_says_what_one_says_that_is_not(
    records: list[Record], known: Reference, seed: int
) -> None:
    config = configuration()
    whole = Run(config, {"risk": known}).feed(records, seed)
    restarted = Run(config, {"risk": known}).feed(records, seed, restart=0.3)
    assert whole.alerts
    assert [alert.model_dump() for alert in restarted.alerts] == [alert.model_dump() for alert in whole.alerts]
    assert set(restarted.store) == set(whole.store)
    for table, rows in whole.store.items():
        assert set(restarted.store[table]) == set(rows), table
    assert whole.store[VARIATION_TABLE]
    assert restarted.store[VARIATION_TABLE] == whole.store[VARIATION_TABLE]
    assert_same_cohorts(whole, restarted)
    assert restarted.written == whole.written


def test_a_judge_without_a_reference_learns_one_and_keeps_it_over_restarts(log: Log) -> None:
    config = configuration(learn_rows=300)
    whole = Run(config, {}).feed(digests_of(log, config, {}), 1)
    restarted = Run(config, {}).feed(digests_of(log, config, {}), 1, restart=0.3)
    assert whole.judge.models["risk"].reference.learned
    assert whole.judge.models["risk"].reference.rows == 300
    assert identities(restarted.alerts) == identities(whole.alerts)
    assert_same_cohorts(whole, restarted)


def test_digests_that_come_twice_change_nothing(records: list[Record], judged: Run, known: Reference) -> None:
    twice = Run(configuration(), {"risk": known})
    for at in range(0, len(records), 25):
        twice.fold(records[at : at + 25])
        twice.fold(records[max(at - 10, 0) : at + 25])
    assert identities(twice.alerts) == identities(judged.alerts)
    assert_same_cohorts(judged, twice)
    assert twice.judge.skipped > 0


@pytest.mark.parametrize(("seed", "largest"), [(1, 1), (2, 30), (3, 4000)])
def test_other_batches_give_the_same_incidents_under_the_same_ids(
    log: Log, known: Reference, judged: Run, seed: int, largest: int
) -> None:
    config = configuration()
    other = Run(config, {"risk": known}).feed(
        digests_of(log, config, {"risk": known}, seed=seed, largest=largest), seed
    )
    assert identities(other.alerts) == identities(judged.alerts)
    assert_same_cohorts(judged, other)


def test_a_judge_keeps_the_counts_of_the_last_days_alone(known: Reference) -> None:
    every, last = configuration(), configuration()
    last = last.model_copy(update={"panes": last.panes.model_copy(update={"days_kept": 2})})
    records = digests_of(make_log(5, 700, bad=False, every_s=500.0, new_wards=False), every, {"risk": known})
    whole = Run(every, {"risk": known}).feed(records)
    run = Run(last, {"risk": known}).feed(records, restart=0.05)
    cells = run.judge.models["risk"].cells
    days = sorted({day for _, day in whole.judge.models["risk"].cells.days.cells()})
    assert len(days) > 3
    assert {day for _, day in cells.days.cells()} == {day for _, day in cells.arrivals.cells()} == set(days[-2:])
    assert {int(name.split(b"\x1f")[-1][1:].split(b"+")[0]) for name in run.store["days"]} == set(days[-2:])
    counts = whole.cohorts()
    assert all(np.allclose(vector, counts[key], rtol=1e-9, atol=1e-9) for key, vector in run.cohorts().items())
    assert whole.alerts
    assert identities(run.alerts) == identities(whole.alerts)


def test_other_batches_share_the_budget_out_alike(log: Log, known: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second version comes in the middle of the log: what a tick knows of it must not depend on how much is read at once.

    Ticks at which a correction alone is counted are not the same: it counts in the oldest pane that is open when it comes.
    """
    seen: dict[int, float] = {}
    handle = ModelJudge._judge

    def note(judge: ModelJudge, tick: Tick) -> None:
        seen[tick.end] = tick.alpha
        handle(judge, tick)

    monkeypatch.setattr(ModelJudge, "_judge", note)
    config, told = configuration(), []
    for seed, largest, at_once in ((1, 30, 1), (2, 400, 5), (3, 4000, 10_000)):
        seen.clear()
        Run(config, {"risk": known}).feed(
            digests_of(log, config, {"risk": known}, seed=seed, largest=largest), seed, at_once
        )
        told.append(dict(seen))
    common = told[0].keys() & told[1].keys() & told[2].keys()
    assert len(common) > 0.9 * max(map(len, told))
    alphas = {end: told[0][end] for end in common}
    assert len(set(alphas.values())) > 1
    for other in told[1:]:
        assert {end: other[end] for end in common} == alphas


def test_partitions_that_come_interleaved_give_the_cohorts_of_one(log: Log, known: Reference, judged: Run) -> None:
    config = configuration()
    one = judged
    three = Run(config, {"risk": known}).feed(digests_of(log, config, {"risk": known}, partitions=3))
    assert_same_cohorts(one, three)
    assert len(three.judge.sources) == 3
    assert {alert.subject for alert in three.alerts if alert.life == "open"} == {
        alert.subject for alert in one.alerts if alert.life == "open"
    }


# -- lives -----------------------------------------------------------------------------------------------------------------


def test_an_incident_opens_after_the_fault_begins_and_resolves_after_it_ends(judged: Run) -> None:
    run = judged
    begins, ends = START + 0.5 * REQUESTS * EVERY_S, START + 0.65 * REQUESTS * EVERY_S
    judge = run.judge.models["risk"]
    opened = [alert for alert in run.alerts if alert.life == "open"]
    resolved = [alert for alert in run.alerts if alert.life == "resolved"]
    assert opened
    assert all(begins < alert.opened_at < ends + 600 for alert in opened)
    first = opened[0]
    assert first.opened_at < begins + 80 * EVERY_S, (
        "eighty rows are enough to see a shift of more than a standard deviation"
    )
    assert first.onset_at == pytest.approx(begins, abs=40 * EVERY_S)
    assert {alert.incident_id for alert in resolved} == {alert.incident_id for alert in opened}
    assert not judge.incidents
    assert all(alert.resolved_at is not None and alert.resolved_at > ends for alert in resolved)
    assert len({alert.alert_id for alert in run.alerts}) == len(run.alerts)


def test_a_log_without_a_fault_raises_no_alert(known: Reference) -> None:
    config = configuration()
    quiet = make_log(12, REQUESTS, bad=False, every_s=EVERY_S, fault=(1.0, 1.0), new_wards=False)
    run = Run(config, {"risk": known}).feed(digests_of(quiet, config, {"risk": known}))
    assert [alert.title for alert in run.alerts] == []


# -- the clock -------------------------------------------------------------------------------------------------------------


def clock(source: int, sequence: int, time: float, sent_at: float) -> Digest:
    return Digest(source, sequence, "", "", time, sent_at, [])


def test_the_clock_is_the_least_of_the_sources_and_never_goes_back() -> None:
    judge = Judge(0, configuration(), ReferenceBook(configuration()))
    told = [(0, 100.0), (1, 50.0), (0, 200.0), (1, 150.0), (1, 120.0), (2, 10.0), (2, 400.0), (1, 300.0)]
    clocks = []
    for sequence, (source, time) in enumerate(told, 1):
        judge.take(clock(source, sequence, time, 0.0))
        clocks.append(judge.clock)
    assert clocks == [100.0, 100.0, 100.0, 150.0, 150.0, 150.0, 150.0, 200.0]


def test_an_idle_source_does_not_hold_the_clock() -> None:
    config = configuration()
    judge = Judge(0, config, ReferenceBook(config))
    judge.take(clock(0, 1, 100.0, 0.0))
    judge.take(clock(1, 1, 100.0, 0.0))
    judge.take(clock(0, 2, 500.0, config.panes.idle_after))
    assert judge.clock == 100.0
    judge.take(clock(0, 3, 600.0, config.panes.idle_after + 1))
    assert judge.clock == 600.0
    judge.take(clock(1, 2, 300.0, config.panes.idle_after + 2))
    assert judge.clock == 600.0


def test_a_message_that_is_no_digest_is_counted_and_stops_nothing(records: list[Record], known: Reference) -> None:
    run = Run(configuration(), {"risk": known})
    run.fold([Record(0, b"", b"nonsense", 0.0), *records[:50], Record(1, b"", None, 0.0), Record(2, b"", b"\xff", 0.0)])
    assert run.judge.unreadable == 3
    assert run.judge.models["risk"].cells.spans


# -- layouts ---------------------------------------------------------------------------------------------------------------


def test_counts_over_other_edges_are_counted_as_foreign_and_never_added(
    records: list[Record], known: Reference
) -> None:
    run = Run(configuration(), {"risk": known}).feed(records[:100])
    before = run.cohorts()
    run.judge.take(
        Digest(
            0,
            10**9,
            "risk",
            "0" * 32,
            math.inf,
            0.0,
            [DigestCell("1", "live", None, 10**9, 20_000, 1, 0)],
            bytes(2),
            b"\5",
        )
    )
    assert run.judge.models["risk"].foreign == 1
    after = run.cohorts()
    assert set(after) == set(before)
    assert all((after[key] == before[key]).all() for key in before)


def test_a_digest_of_an_observer_that_does_not_know_the_learned_baseline_still_counts() -> None:
    config = configuration(learn_rows=300)
    log = make_log(13, 600, bad=False, every_s=EVERY_S, fault=(1.0, 1.0))
    run = Run(config, {}).feed(digests_of(log, config, {}))
    judge = run.judge.models["risk"]
    assert judge.reference.learned
    total = sum(
        judge.reference.layout.one(vector, "rows")
        for (where, _), vector in run.cohorts().items()
        if where == (None, "live", None)
    )
    assert total == len({json.loads(line)["request_id"] for line in log.predictions})
    assert judge.foreign == 0


def test_every_alert_is_one_that_sinks_can_read(judged: Run) -> None:
    assert judged.alerts
    for alert in judged.alerts:
        assert alert.evidence
        assert alert.title
        assert Alert.model_validate_json(alert.model_dump_json()) == alert
        msgspec.json.decode(alert.model_dump_json())


def test_views_show_the_model_its_signals_and_its_incidents(log: Log, records: list[Record], known: Reference) -> None:
    run = Run(configuration(), {"risk": known})
    views: dict[str, Any] = {}
    signals: dict[str, Any] = {}
    for at in range(0, len(records), 30):
        # Signals of spans are of recent rows: where there are none any more, they go.
        shown = run.fold(records[at : at + 30], now=float(at)).views
        views.update({name: value for name, value in shown.items() if value is not None})
        of_now = shown.get("leadline:model:risk:signals")
        if of_now is not None:
            assert isinstance(of_now, dict)
            signals.update({name: json.loads(text) for name, text in of_now.items()})
    model = views["leadline:model:risk"]
    assert model["task"] == "binary"
    assert int(model["join:predictions"]) == len({json.loads(line)["request_id"] for line in log.predictions})
    rows = [json.loads(text) for text in views["leadline:model:risk:incidents"].values()]
    assert {row["id"] for row in rows} == {alert.incident_id for alert in run.alerts}
    psi = signals["*|*|psi|age"]
    assert psi["verdict"] in ("ok", "warn", "critical", "insufficient_data")
    assert psi["n"] > 0


def test_a_restarted_judge_shows_what_the_one_before_it_may_not_have_shown(
    records: list[Record], known: Reference
) -> None:
    run = Run(configuration(), {"risk": known})
    shown = run.fold(records[:60], now=100.0).views["leadline:model:risk"]
    run.start()
    assert run.fold([], now=101.0).views["leadline:model:risk"] == shown
    assert not run.fold([], now=200.0).views


def test_reference_file_round_trip_keeps_the_fingerprint(tmp_path: Path, known: Reference) -> None:
    from streams.baselines.stored_reference import dump_reference

    path = tmp_path / "reference.json"
    path.write_bytes(dump_reference(known))
    again = read_reference(path)
    assert again.fingerprint == known.fingerprint
    assert all((again.cells[segment] == known.cells[segment]).all() for segment in known.cells)
