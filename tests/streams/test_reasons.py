"""Why a worker ends is said in words of ours, whoever noticed."""

from __future__ import annotations

from aiokafka.errors import KafkaConnectionError

from streams.transport.topics import BrokerUnreachable
from streams.worker.worker import in_our_words


def test_a_broker_that_is_gone_as_the_group_is_joined_is_a_broker_that_cannot_be_reached() -> None:
    reason = in_our_words(KafkaConnectionError("Unable to bootstrap from [...]"), "kafka:9092")
    assert isinstance(reason, BrokerUnreachable)
    assert str(reason).startswith("no broker at kafka:9092")


def test_any_other_reason_stays_what_it_is() -> None:
    other = ValueError("x")
    assert in_our_words(other, "kafka:9092") is other
    assert in_our_words(None, "kafka:9092") is None
