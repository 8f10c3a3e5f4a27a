"""What is true at the end: the log, what Redis holds, what was published; and how they differ."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.judge.judge_rows import MODELS_TABLE
from streams.judge.saved_model import Saved
from streams.observe.partition_state import Checkpoint
from tests.faults.cohort_rows import TABLES, live_entries
from tests.faults.ground import PARTITIONS, PREFIX, Ground, until
from tests.faults.load import Plan, Truth, count

COUNTED = [
    "predictions",
    "labels",
    "joined",
    "late",
    "revised",
    "too_early",
    "duplicate_predictions",
    "repeated_labels",
    "late_labels",
]  # what does not depend on which of the two topics was read first
OF_MODEL = ["rows", "joined", "late", "revised", "too_early", "duplicate"]
ID = "leadline-id"


class Message(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    timestamp: float
    id: str


def read(servers: str, topic: str, *, seconds: float = 60.0) -> list[Message]:
    """Every message that a reader of committed records sees, partition by partition; the log must still be whole."""
    options = {
        "bootstrap.servers": servers,
        "group.id": "verdict",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer({**options, "isolation.level": "read_committed", "log_level": 0})
    found: list[Message] = []
    try:
        ends: dict[int, int] = {}
        for partition in range(PARTITIONS):
            low, ends[partition] = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            assert low == 0, f"{topic}/{partition} begins at {low}: the broker forgot records, nothing can be said"
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        deadline, open_ = time.monotonic() + seconds, set(ends)
        while open_:
            assert time.monotonic() < deadline, f"{topic} was not read to its end"
            for message in consumer.consume(1000, 0.5):
                if message.error() is not None:
                    # The end of a partition; other errors pass by themselves.
                    if (
                        message.error().code() == KafkaError._PARTITION_EOF
                        and message.offset() >= ends[message.partition()]
                    ):
                        open_.discard(message.partition())
                    continue
                headers = dict(message.headers() or [])
                found.append(
                    Message(
                        message.partition() or 0,
                        message.offset() or 0,
                        message.key() or b"",
                        message.value(),
                        message.timestamp()[1] / 1e3,
                        headers.get(ID, b"").decode(),
                    )
                )
    finally:
        consumer.close()
    return sorted(found, key=lambda message: (message.partition, message.offset))


def drain(ground: Ground, ends: Mapping[tuple[str, int], int], seconds: float) -> None:
    """Wait until observers have read up to `ends`, judges all digests, and nothing is unsent."""
    topics = ground.config.kafka.topics
    store = ground.store.direct

    def meta(kind: str, partition: int) -> dict[str, str]:
        return {
            k.decode(): v.decode(errors="replace")
            for k, v in store.hgetall(f"{PREFIX}:i:{{{kind}:{partition}}}:meta").items()
        }  # type: ignore[union-attr]

    def behind(kind: str, wanted: Mapping[tuple[str, int], int]) -> dict[str, int]:
        ground.supervise()
        lag: dict[str, int] = {}
        for (topic, partition), end in wanted.items():
            stood = int(meta(kind, partition).get(f"o:{topic}", -1))
            if stood < end:
                lag[f"{topic}/{partition}"] = end - stood
        for partition in range(PARTITIONS):
            if unsent := int(store.hlen(f"{PREFIX}:i:{{{kind}:{partition}}}:outbox")):  # type: ignore[arg-type]
                lag[f"unsent {kind}:{partition}"] = unsent
        return lag

    until(lambda: not behind("o", ends), seconds, lambda: f"observers: {behind('o', ends)}")
    digests = log_ends(ground.broker.bootstrap_servers, topics.digests)
    until(lambda: not behind("j", digests), seconds, lambda: f"judges: {behind('j', digests)}")


def log_ends(servers: str, topic: str) -> dict[tuple[str, int], int]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "verdict", "log_level": 0})
    try:
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        return {(topic, place.partition): consumer.get_watermark_offsets(place, timeout=20)[1] for place in places}
    finally:
        consumer.close()


@dataclass
class Verdict:
    """`faults`: each one line that says what differs. Figures are of the log, not of what was meant to be sent.

    `lossy`: the store went back in time. Then what was sent in the lost time was sent again from batches that were cut
    otherwise, so under other ids: rejected records are put together by where they came from, and an id says no more that
    the content is the same. Every count must be as exact.
    """

    lossy: bool = False
    events: int = 0
    lost: int = 0
    doubled: int = 0
    alerts: int = 0
    alerts_repeated: int = 0
    rejected: int = 0
    faults: list[str] = field(default_factory=list)

    def compare(self, what: str, expected: Mapping[str, int], found: Mapping[str, int]) -> None:
        for name in sorted({*expected, *found}):
            wanted, got = expected.get(name, 0), found.get(name, 0)
            if wanted != got:
                self.lost += max(wanted - got, 0)
                self.doubled += max(got - wanted, 0)
                self.faults.append(f"{what}: {name} is {got}, should be {wanted}")


def judge(
    ground: Ground,
    plan: Plan,
    delivered: Counter[tuple[str, bytes | None]],
    *,
    drain_s: float = 60.0,
    lossy: bool = False,
) -> Verdict:
    """Wait until everything is counted, and compare."""
    topics, servers = ground.config.kafka.topics, ground.broker.bootstrap_servers
    logs = {source: read(servers, getattr(topics, source)) for source in ("predictions", "labels")}
    verdict = Verdict(lossy=lossy, events=sum(map(len, logs.values())))
    stood = Counter((source, message.value) for source, messages in logs.items() for message in messages)
    if missing := delivered - stood:
        verdict.faults.append(f"the broker lost {missing.total()} confirmed events: nothing can be said")
    ends = {(getattr(topics, source), m.partition): m.offset + 1 for source, messages in logs.items() for m in messages}
    drain(ground, ends, drain_s)
    truth = count({source: [(m.key, m.value) for m in messages] for source, messages in logs.items()}, plan.reasons)
    _observers(ground, truth, verdict)
    saved = _judges(ground, truth, verdict)
    _alerts(read(servers, topics.alerts), saved, verdict)
    bad = {
        (source, m.partition, m.offset): plan.reasons[source, m.value]
        for source, messages in logs.items()
        for m in messages
        if (source, m.value) in plan.reasons
    }
    _rejected(ground, read(servers, topics.rejected), bad, truth, verdict)
    _digests(read(servers, topics.digests), verdict)
    return verdict


def _observers(ground: Ground, truth: Truth, verdict: Verdict) -> None:
    counts: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        packed = ground.store.direct.hget(f"{PREFIX}:i:{{o:{partition}}}:meta", "checkpoint")
        state = msgspec.msgpack.decode(packed, type=Checkpoint) if packed else Checkpoint()  # type: ignore[arg-type]
        counts.update(state.counts)
        rejected.update(state.rejected)
    verdict.compare(
        "observers", {name: truth.counts[name] for name in COUNTED}, {name: counts[name] for name in COUNTED}
    )
    verdict.compare("rejected by observers", truth.rejected, rejected)


def cohorts(ground: Ground, config: Config) -> dict[str, dict[str, Any]]:
    """The judges' cohort rows of all traffic of each model, summed over days: section to numbers."""
    book = ReferenceBook(config)
    totals: dict[str, Any] = {}
    for partition in range(PARTITIONS):
        tables: Any = {
            table: ground.store.direct.hgetall(f"{PREFIX}:i:{{j:{partition}}}:t:{table}") for table in TABLES
        }
        for model_id, slots, values in live_entries(tables):
            total = totals.setdefault(model_id, np.zeros(book.get(model_id).layout.size))
            np.add.at(total, slots, values)
    return {
        model_id: {section: total[part] for section, part in book.get(model_id).layout.slots.items()}
        for model_id, total in totals.items()
    }


def _judges(ground: Ground, truth: Truth, verdict: Verdict) -> dict[str, Saved]:
    shown = cohorts(ground, ground.config)
    for model_id, wanted in truth.models.items():
        sections: Mapping[str, Any] = shown.get(model_id, defaultdict(lambda: np.zeros(4)))
        found = {name: int(sections[name][0]) for name in OF_MODEL}
        confusion = [int(value) for value in sections["confusion"]]
        expected = {name: wanted[name] for name in OF_MODEL}
        cells = ("confusion00", "confusion01", "confusion10", "confusion11")  # label, prediction
        expected.update({name: wanted[name] for name in cells})
        found.update(zip(cells, confusion, strict=True))
        expected.update(positives=wanted["positive"], negatives=wanted["joined"] - wanted["positive"])
        found.update({name: int(sections[name].sum()) for name in ("positives", "negatives")})
        expected.update(score=wanted["rows"], ages=wanted["rows"], wards=wanted["rows"])
        named = (("score", "score"), ("ages", "feature:age"), ("wards", "feature:ward"))
        found.update({name: int(sections[section].sum()) for name, section in named})
        verdict.compare(f"cohorts of {model_id}", expected, found)
    saved: dict[str, Saved] = {}
    for partition in range(PARTITIONS):
        rows: dict[bytes, bytes] = ground.store.direct.hgetall(f"{PREFIX}:i:{{j:{partition}}}:t:{MODELS_TABLE}")  # type: ignore[assignment]
        saved.update({name.decode(): msgspec.msgpack.decode(row, type=Saved) for name, row in rows.items()})
    return saved


def _alerts(messages: list[Message], saved: Mapping[str, Saved], verdict: Verdict) -> None:
    """Every alert that a judge has committed is on the topic; one id never carries two different messages."""
    expected = {
        f"{incident.id}-{number}"
        for state in saved.values()
        for incident in [*state.lives.incidents, *state.lives.resolved]
        for number in range(1, incident.messages + 1)
    }
    by_id: dict[str, set[str]] = defaultdict(set)
    by_header: dict[str, set[bytes]] = defaultdict(set)
    for message in messages:
        by_id[json.loads(message.value or b"{}")["alert_id"]].add(message.id)
        by_header[message.id].add(message.value or b"")
    verdict.alerts = len(by_id)
    verdict.alerts_repeated = len(messages) - len(by_id)
    verdict.compare("alerts", dict.fromkeys(expected, 1), {name: 1 for name in by_id if name in expected})
    if verdict.lossy:
        return
    for name, ids in by_id.items():
        if len(ids) > 1:
            verdict.faults.append(f"alert {name} left under {len(ids)} ids: {sorted(ids)}")
    for name, values in by_header.items():
        if len(values) > 1:
            verdict.faults.append(f"alerts: {name} carries {len(values)} different messages")
    for name in by_id.keys() - expected:
        verdict.faults.append(f"alert {name} is on the topic, and no judge knows it")


def _rejected(
    ground: Ground, messages: list[Message], bad: Mapping[tuple[str, int, int], str], truth: Truth, verdict: Verdict
) -> None:
    """Each bad record once, after repetitions under one id are put together; so are repeated predictions."""
    topics = ground.config.kafka.topics
    sources = {topics.predictions: "predictions", topics.labels: "labels"}
    by_id = {message.id: json.loads(message.value or b"{}") for message in messages}
    found: Counter[str] = Counter()
    for told in by_id.values():
        place = f"{sources[told['source_topic']]}/{told['source_partition']}/{told['source_offset']} {told['reason']}"
        found[place] = 1 if verdict.lossy else found[place] + 1
    repeats = {name: number for name, number in found.items() if name.endswith(" duplicate")}
    expected = {f"{source}/{partition}/{offset} {reason}": 1 for (source, partition, offset), reason in bad.items()}
    verdict.rejected = len(by_id)
    verdict.compare("on the topic of rejected", expected, {k: v for k, v in found.items() if k not in repeats})
    verdict.compare(
        "on the topic of rejected",
        {"duplicate": truth.counts["duplicate_predictions"]},
        {"duplicate": sum(repeats.values())},
    )


def _digests(messages: list[Message], verdict: Verdict) -> None:
    by_header: dict[str, set[bytes]] = defaultdict(set)
    for message in messages:
        by_header[message.id].add(message.value or b"")
    for name, values in by_header.items():
        if not name or (len(values) > 1 and not verdict.lossy):
            verdict.faults.append(f"digests: id {name!r} carries {len(values)} different messages")
