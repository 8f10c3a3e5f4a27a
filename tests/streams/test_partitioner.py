"""Producers with another partitioner: noticed by their keys, told once, over once; joined where it can be."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.config import Config
from leadline.partition import partition_of
from streams.core.records import Records
from streams.core.stage import Record, Send
from streams.observe.partitioner import (
    CALM,
    ENOUGH,
    RECENT,
    SAMPLE,
    Finding,
    KeyCheck,
    Keys,
    Misplacements,
    partitions_of,
)
from streams.worker.key_alert import key_alert
from streams.worker.run import KeysTold
from tests.real.backend import Backend
from tests.streams.inside import PARTITIONS, Inside, until


def records(keys: Sequence[bytes | None], first: int = 0) -> Records:
    return Records.of(Record(first + at, key, b"{}", 0.0) for at, key in enumerate(keys))


def of_partition(partition: int, partitions: int, count: int) -> list[bytes]:
    """Keys that Java's partitioner puts there."""
    found = (b"id-%d" % number for number in range(10**9))
    return [next(key for key in found if partition_of(key, partitions) == partition) for _ in range(count)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=60), st.integers(1, 64))
def test_many_keys_at_once_go_where_each_goes_alone(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [partition_of(key, partitions) for key in keys]


@pytest.mark.parametrize("length", range(9))
def test_keys_of_one_length_go_where_each_goes_alone(length: int) -> None:
    keys = [bytes((number * 37 + at * 11) % 256 for at in range(length)) for number in range(64)]
    assert partitions_of(keys, 7).tolist() == [partition_of(key, 7) for key in keys]


def test_keys_in_their_partition_are_looked_at_and_none_is_misplaced() -> None:
    check = KeyCheck(3, {})
    check.see("labels", records(of_partition(3, 8, 50)), 8)
    assert check.topics == {"labels": Keys(50, 0)}


def test_misplaced_and_missing_keys_are_counted_with_an_example() -> None:
    check = KeyCheck(3, {})
    check.see("labels", records([*of_partition(3, 8, 6), *of_partition(5, 8, 3), None], first=100), 8)
    assert check.topics["labels"].looked_at == 10
    assert check.topics["labels"].misplaced == 4
    check.see("labels", records(of_partition(5, 8, 1), first=200), 8)
    assert check.topics["labels"].example == (200, 5)


def test_of_a_large_batch_a_sample_over_all_of_it_is_looked_at() -> None:
    check = KeyCheck(0, {})
    check.see("labels", records([*of_partition(0, 2, 4_000), *of_partition(1, 2, 4_000)]), 2)
    assert SAMPLE / 2 < check.topics["labels"].looked_at <= SAMPLE
    assert check.topics["labels"].share == pytest.approx(0.5, abs=0.02)


def test_a_topic_of_one_partition_has_no_wrong_one() -> None:
    check = KeyCheck(0, {})
    check.see("labels", records([None, b"a"]), 1)
    check.see("labels", records([None, b"a"]), 0)  # the broker did not say how many
    assert check.topics == {}


def test_what_was_counted_is_found_again_by_the_next_owner() -> None:
    check = KeyCheck(3, {})
    check.see("labels", records(of_partition(5, 8, 3)), 8)
    again = KeyCheck(3, check.rows(["labels", "predictions"]))
    assert again.topics == check.topics


def look(incidents: Misplacements, now: float, **seen: tuple[int, int]) -> list[Finding]:
    """One look at (keys looked at, misplaced) of partitions `p0`, `p1`, …"""
    return incidents.look({int(name[1:]): {"t": Keys(*counts)} for name, counts in seen.items()}, now)


def test_one_incident_opens_over_all_partitions_and_resolves_when_keys_are_right_for_long_enough() -> None:
    incidents = Misplacements(b"")
    assert look(incidents, 1.0, p0=(100, 0), p1=(100, ENOUGH - 1)) == []
    (opened,) = look(incidents, 2.0, p0=(200, 40), p1=(200, 60))
    assert (opened.begun, opened.number, opened.since, opened.misplaced, opened.n) == (True, 1, 2.0, 100, 400)
    assert opened.share == pytest.approx(0.25)
    assert look(incidents, 3.0, p0=(300, 60), p1=(200, 60)) == []
    incidents = Misplacements(incidents.row())  # another worker takes over
    assert look(incidents, 4.0, p0=(300 + CALM - 1, 60), p1=(200, 60)) == []
    (over,) = look(incidents, 5.0, p0=(300 + CALM, 60), p1=(200, 60))
    assert (over.begun, over.number, over.since) == (False, 1, 2.0)
    assert look(incidents, 6.0, p0=(9 * CALM, 60), p1=(200, 60)) == []
    (again,) = look(incidents, 7.0, p0=(9 * CALM + 100, 160), p1=(200, 60))
    assert (again.begun, again.number, again.misplaced) == (True, 2, 100)


def test_a_few_keys_sent_by_hand_now_and_then_are_no_incident() -> None:
    incidents = Misplacements(b"")
    for day in range(1, 20):
        assert look(incidents, day, p0=(day * CALM * 2, day)) == []
        assert look(incidents, day, p0=(day * CALM * 2 + CALM, day)) == []


def test_counts_that_went_back_with_the_store_open_nothing_twice() -> None:
    incidents = Misplacements(b"")
    assert len(look(incidents, 1.0, p0=(500, 100))) == 1
    assert look(incidents, 2.0, p0=(400, 80)) == []
    assert look(incidents, 3.0, p0=(500, 100)) == []
    (over,) = look(incidents, 4.0, p0=(500 + CALM, 100))
    assert not over.begun


def test_the_alert_names_the_topic_the_share_and_an_example_under_a_stable_id() -> None:
    finding = Finding("leadline.labels", 2, True, 0.75, 300, 400, 10.0, (3, 77, 1))
    alert = key_alert(finding, 20.0)
    assert (alert.layer, alert.life, alert.severity, alert.value) == ("operation", "open", "critical", 0.75)
    assert alert.alert_id == key_alert(finding, 99.0).alert_id
    assert "75.0%" in alert.title
    assert "leadline.labels/3 offset 77: its key belongs in partition 1" in alert.summary
    over = key_alert(Finding("leadline.labels", 2, False, 0.0, 300, 9000, 10.0, None), 30.0)
    assert (over.incident_id, over.life, over.resolved_at) == (alert.incident_id, "resolved", 30.0)
    assert over.alert_id != alert.alert_id
    (send,) = KeysTold(Config())(finding)
    assert (send.topic, send.key) == ("leadline.alerts", alert.incident_id.encode())


@pytest.mark.parametrize("both", [False, True])
def test_a_producer_with_another_partitioner_is_reported_and_joined_where_it_can_be(
    embedded: Backend, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    inside, findings = Inside(embedded), list[Finding]()
    # Enough to end the incident, and for the shares of both partitions to forget it: a share is of two spans at most.
    well = CALM + PARTITIONS * 2 * (RECENT + SAMPLE)
    monkeypatch.setattr("streams.worker.owners.KEYS_S", 0.1)
    topics = inside.topics

    def alert(finding: Finding) -> Sequence[Send]:
        findings.append(finding)
        return [Send(topics.changes, b"alert", b"{}", 0)]

    wrong = [topics.labels, topics.predictions] if both else [topics.labels]
    if not both:
        inside.send(400, [topics.predictions])
        inside.sent = 0
    inside.send(400, wrong, partitioner="consistent_random")  # librdkafka's default

    async def body() -> None:
        async with inside.worker(on_keys=alert, batch_records=SAMPLE) as worker:
            await until(lambda: len(findings) == len(wrong), 20, worker)
            assert {finding.topic for finding in findings} == set(wrong)
            assert all(finding.begun and 0.4 < finding.share < 0.6 for finding in findings)
            assert 0.4 < worker.progress().misplaced_keys < 0.6
            shown = worker.progress().view()
            assert "misplaced keys" in shown[f"{topics.labels}/0"]
            assert ("misplaced keys" in shown[f"{topics.predictions}/0"]) == both
            inside.send(well)
            await until(
                lambda: inside.totals().get("labels") == well + 400 and inside.judged() == 2 * (well + 400), 30, worker
            )
            await until(lambda: len(findings) == 2 * len(wrong), 20, worker)
            assert not any(finding.begun for finding in findings[len(wrong) :])
            assert worker.progress().misplaced_keys == 0

    asyncio.run(body())
    keys = [b"id-%d" % number for number in range(400)]
    # What librdkafka's default chose, and whether both halves of a pair lie together.
    met = sum(both or zlib.crc32(key) % PARTITIONS == partition_of(key, PARTITIONS) for key in keys)
    assert inside.totals()["pairs"] == met + well
    assert "repeats" not in inside.totals()
