"""Labels that stop coming or change their meaning are incidents; slow ones, and those that come by the calendar, are not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from leadline.config import Rules
from leadline.events import Digest
from streams.judge.label_coverage import COHORT_S, LabelCoverage, ages
from streams.judge.label_definition import ACCEPTED_AFTER_S, LabelDefinitions
from streams.judge.label_watch import LabelState, LabelWatch
from tests.streams.rich import Played, configuration, events_of, known, rows_of

ALPHA = 1e-9
HOUR, DAY = 3600.0, 86_400.0
T0 = 1_735_689_600.0
Changes = list[tuple[int, int, int, int, int]]


def quarter(time: float) -> int:
    return int(time // COHORT_S) * COHORT_S


def traffic(
    seed: int, days: float, comes: Callable[[np.random.Generator, float], float | None], a_day: float = 1800.0
) -> Changes:
    """Digest entries of a model: `comes` gives the time of a prediction's label, or None."""
    rng = np.random.default_rng(seed)
    counts: dict[tuple[int, int], list[int]] = {}
    for time in np.sort(T0 + rng.random(int(days * a_day)) * days * DAY).tolist():
        start = quarter(time)
        counts.setdefault((start, start), [0, 0])[0] += 1
        told = comes(rng, time)
        if told is not None:
            counts.setdefault((start, quarter(told)), [0, 0])[1] += 1
    return [
        (start, rows, joined, 0, seen)
        for (start, seen), (rows, joined) in sorted(counts.items(), key=lambda item: item[0][1])
    ]


def watch(
    changes: Changes, days: float, window_s: float = 2 * DAY, rules: Rules | None = None
) -> Iterator[tuple[float, float]]:
    """(end, share of due labels that is missing) of each quarter hour that fires."""
    coverage = LabelCoverage(window_s, rules or Rules())
    coverage.take(changes)
    for step in range(int(days * 96)):
        for finding, _, end in coverage.advance(T0 + (step + 1) * COHORT_S, ALPHA):
            yield end, finding.strength * finding.threshold


def slow(rng: np.random.Generator, time: float) -> float | None:
    """Nine in ten are labelled, after hours."""
    return time + float(rng.lognormal(math.log(3 * HOUR), 1.0)) if rng.random() < 0.9 else None


def nightly(rng: np.random.Generator, time: float) -> float | None:
    """All labels of a day come at two in the morning."""
    return (math.floor((time - 2 * HOUR) / DAY) + 1) * DAY + 2 * HOUR + float(rng.random()) * 600


@pytest.mark.parametrize("comes", [slow, nightly])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_labels_that_come_as_they_always_did_raise_nothing(seed: int, comes: Callable[..., float | None]) -> None:
    assert list(watch(traffic(seed, 12.0, comes), 12.0)) == []


@pytest.mark.parametrize("comes", [slow, nightly])
def test_labels_that_stop_coming_are_told_and_named_by_how_much_is_missing(comes: Callable[..., float | None]) -> None:
    stop = T0 + 8 * DAY

    def until(rng: np.random.Generator, time: float) -> float | None:
        told = comes(rng, time)
        return told if told is not None and told < stop else None

    fired = list(watch(traffic(4, 11.0, until), 11.0))
    assert fired
    assert all(end > stop for end, _ in fired)
    assert fired[0][0] - stop < (6 * HOUR if comes is slow else 40 * HOUR)
    assert max(missing for _, missing in fired) > 0.5


def test_a_shortfall_is_over_when_labels_come_again() -> None:
    begin, end = T0 + 8 * DAY, T0 + 9 * DAY

    def gap(rng: np.random.Generator, time: float) -> float | None:
        told = slow(rng, time)
        return None if told is not None and begin <= told < end else told

    fired = [at for at, _ in watch(traffic(5, 14.0, gap), 14.0)]
    assert begin < fired[0] < begin + 6 * HOUR
    assert fired[-1] < end + DAY


def test_no_verdict_before_labels_were_watched_for_as_long_as_configured() -> None:
    def never(rng: np.random.Generator, time: float) -> float | None:
        return time + 60.0 if time < T0 + 0.8 * DAY else None

    assert list(watch(traffic(6, 1.9, never), 1.9)) == []


def test_the_order_of_digests_and_the_size_of_steps_change_nothing() -> None:
    changes = traffic(7, 6.0, slow)
    one, other = LabelCoverage(2 * DAY, Rules()), LabelCoverage(2 * DAY, Rules())
    one.take(changes)
    np.random.default_rng(0).shuffle(changes)
    for at in range(0, len(changes), 100):
        other.take(changes[at : at + 100])
    one.advance(T0 + 5 * DAY, ALPHA)
    for step in range(5 * 96):
        other.advance(T0 + (step + 1) * COHORT_S, ALPHA)
    assert one.state == other.state


def test_coverage_of_what_is_due_leaves_out_what_may_still_come() -> None:
    coverage = LabelCoverage(6 * HOUR, Rules())
    coverage.take(traffic(8, 3.0, lambda rng, time: time + 5 * HOUR if rng.random() < 0.7 else None))
    coverage.advance(T0 + 3 * DAY, ALPHA)
    due = coverage.due()
    assert due is not None
    assert float(due.value) == pytest.approx(0.7, abs=0.03)
    expected = coverage.expected()
    assert expected is not None
    live, usual = expected
    assert float(live.value) == pytest.approx(usual, abs=0.05)
    assert usual < 0.3


class Counting(LabelCoverage):
    """Says how many quarter hours it went through."""

    steps = 0

    def _settle(self, end: int) -> None:
        self.steps += 1
        super()._settle(end)


def test_the_silence_of_years_is_one_step() -> None:
    coverage = Counting(2 * DAY, Rules())
    coverage.take([(quarter(T0), 10, 10, 0, quarter(T0)), (quarter(T0 + 9e8), 5, 5, 0, quarter(T0 + 9e8))])
    coverage.advance(T0 + 1.5e9, ALPHA)
    assert coverage.steps < 600
    assert coverage.state.by_age[1][:2] == (15, 15)


def test_ages_reach_the_delay_window() -> None:
    assert ages(48 * HOUR)[-1] == 193
    assert ages(60.0) == [1, 2]
    assert ages(31 * DAY)[-1] == 2977
    assert ages(48 * HOUR) == sorted(set(ages(48 * HOUR)))


# -- versions --------------------------------------------------------------------------------------------------------------


def said(changes: dict[str, Changes]) -> list[Digest]:
    """Digests of a quarter hour each: what was seen in it of each version."""
    by_time: dict[int, dict[str, Changes]] = {}
    for version, entries in changes.items():
        for entry in entries:
            by_time.setdefault(entry[4], {}).setdefault(version, []).append(entry)
    return [
        Digest(
            0, number, "m", "", 0.0, 0.0,
            cohorts=[entry for _, entries in sorted(of.items()) for entry in entries],
            cohort_versions=[(version, len(entries)) for version, entries in sorted(of.items())],
        )
        for number, (_, of) in enumerate(sorted(by_time.items()))
    ]  # fmt: skip


def versions_that_fire(changes: dict[str, Changes], days: float) -> dict[str | None, float]:
    """Version (None: all together) to the first time, in days, at which its labels were told to fall short; restarted at half time."""
    digests, fired = said(changes), dict[str | None, float]()
    watched = LabelWatch(2 * DAY, 10.0, Rules())
    for step in range(int(days * 96)):
        now = T0 + (step + 1) * COHORT_S
        while digests and digests[0].cohorts[0][4] < now:
            watched.take(digests.pop(0))
        for firing in watched.advance(int(now / 10), ALPHA):
            assert firing.finding.signal == "label_coverage"
            fired.setdefault(firing.where.version, (now - T0) / DAY)
        if step == int(days * 48):
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(watched.save()), type=LabelState)
            watched = LabelWatch(2 * DAY, 10.0, Rules())
            watched.restore(state)
    return fired


def until(stop: float) -> Callable[[np.random.Generator, float], float | None]:
    def comes(rng: np.random.Generator, time: float) -> float | None:
        told = slow(rng, time)
        return told if told is not None and told < T0 + stop * DAY else None

    return comes


def test_a_version_whose_labels_stop_while_the_others_come_is_told_as_that_versions() -> None:
    half = versions_that_fire({"1": traffic(1, 10.0, slow, 900.0), "2": traffic(2, 10.0, until(8), 900.0)}, 10.0)
    assert set(half) == {"2"}
    assert 8.0 < half["2"] < 8.5
    tenth = versions_that_fire({"1": traffic(1, 10.0, slow), "2": traffic(2, 10.0, until(8), 300.0)}, 10.0)
    assert set(tenth) == {"2"}


def test_labels_of_all_versions_that_stop_are_told_of_the_model() -> None:
    fired = versions_that_fire({"1": traffic(3, 10.0, until(8), 900.0), "2": traffic(4, 10.0, until(8), 900.0)}, 10.0)
    assert None in fired
    assert 8.0 < fired[None] < 8.5


def test_versions_whose_labels_come_raise_nothing() -> None:
    assert versions_that_fire({"1": traffic(5, 10.0, slow, 900.0), "2": traffic(6, 10.0, slow, 900.0)}, 10.0) == {}


def test_a_second_version_finds_the_first_as_if_it_had_been_watched_alone() -> None:
    first, second = traffic(7, 4.0, slow), [(quarter(T0 + 4 * DAY), 5, 0, 0, quarter(T0 + 4 * DAY))]
    alone, watched = LabelCoverage(2 * DAY, Rules()), LabelWatch(2 * DAY, 10.0, Rules())
    alone.take(first)
    for digest in said({"1": first}):
        watched.take(digest)
    alone.advance(T0 + 3 * DAY, ALPHA)
    watched.advance(int((T0 + 3 * DAY) / 10), ALPHA)
    assert watched.versions == {}
    for digest in said({"2": second}):
        watched.take(digest)
    assert watched.versions["1"].state == alone.state
    assert [watched.tests(versions) for versions in (0, 1, 2, 3)] == [2, 2, 4, 5]


def test_observers_say_which_version_a_prediction_is_of() -> None:
    frame = rows_of(3, 2400)
    watched = Played(configuration(), known(n=300), events_of(frame)).judge.labels
    counted = {
        version: sum(n for n, _ in of.state.cohorts.values()) + sum(n for _, _, n, _ in of.state.waiting)
        for version, of in {**watched.versions, "all": watched.coverage}.items()
    }
    assert counted == {**frame["version"].value_counts().to_dict(), "all": len(frame)}


def test_a_shadow_is_no_version_that_serves() -> None:
    watched = LabelWatch(2 * DAY, 10.0, Rules())
    for digest in said({"1": traffic(8, 1.0, slow), "": traffic(9, 1.0, slow)}):
        watched.take(digest)
    assert set(watched.versions) == {"1"}


# -- the definition of the label -------------------------------------------------------------------------------------------


def definitions(entries: list[tuple[int, str, int]], last: int) -> list[tuple[int, str, float]]:
    """(pane, subject, share) of each finding, panes of ten seconds."""
    watched = LabelDefinitions(10.0, Rules())
    watched.take(entries)
    return [
        (pane, str(renamed.finding.subject), renamed.finding.value)
        for pane in range(1, last + 1)
        for renamed in watched.advance(pane, ALPHA)
    ]


def test_a_new_definition_is_told_with_the_old_one_and_its_share() -> None:
    entries = [(pane, "v1" if pane < 200 else "v2", 3) for pane in range(300)]
    fired = definitions(entries, 310)
    assert fired[0][0] in range(201, 215)
    assert {subject for _, subject, _ in fired} == {"v1 -> v2"}
    assert fired[-1][2] == pytest.approx(1.0)


def test_single_labels_of_another_definition_are_no_news() -> None:
    entries = [(pane, "v2" if pane in (250, 900) else "v1", 3) for pane in range(1500)]
    assert definitions(entries, 1510) == []


def test_two_definitions_from_the_start_are_both_known() -> None:
    entries = [(pane, f"v{pane % 2}", 3) for pane in range(500)]
    assert definitions(entries, 510) == []


def test_a_definition_in_force_for_a_day_is_what_labels_are() -> None:
    step = int(ACCEPTED_AFTER_S / 10) + 200
    entries = [(pane, "v1", 3) for pane in range(200)] + [(pane, "v2", 3) for pane in range(200, step + 300)]
    watched = LabelDefinitions(10.0, Rules())
    watched.take(entries)
    assert watched.advance(400, ALPHA)
    assert watched.advance(step + 250, ALPHA) == []
    assert watched.advance(step + 290, ALPHA) == []
    assert set(watched.state.known) == {"v1", "v2"}


def test_shares_of_definitions_are_those_of_the_labels() -> None:
    watched = LabelDefinitions(10.0, Rules())
    watched.take([(0, "v1", 30), (8640, "v2", 10), (8641, "v1", 30)])
    assert {name: float(part.value) for name, part in watched.shares().items()} == {"v1": 60 / 70, "v2": 10 / 70}
    assert {name: float(part.value) for name, part in watched.shares(1).items()} == {"v1": 0.75, "v2": 0.25}
