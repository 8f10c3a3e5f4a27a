"""The publisher on a broker: what arrives, what does not, and that each of both is counted."""

from __future__ import annotations

import inspect
import math
import threading
import time
import uuid
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from confluent_kafka import KafkaError

from leadline import Publisher, publisher_queue, publisher_values
from leadline.events import Change, Label, Prediction
from leadline.partition import partition_of
from leadline.publisher import InvalidEvent
from leadline.publisher_queue import DROP_REASONS
from streams.embedded.librdkafka import ApiKey
from streams.embedded.mock_broker import MockBroker
from tests.leadline.kafka_log import read_all
from tests.patience import seconds
from tests.real.backend import Backend

TOPICS = {"leadline.predictions": 4, "leadline.labels": 4, "leadline.changes": 1}
NOBODY = "127.0.0.1:1"  # nothing listens there


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(TOPICS) as running:
        yield running


def predict(publisher: Publisher, number: int, **more: object) -> bool:
    fields: dict[str, object] = {
        "model_id": "m",
        "model_version": "1",
        "score": 0.5,
        "features": {"age": 70.0 + number % 20},
    }
    return publisher.predict(request_id=f"r-{number}", **{**fields, **more})  # type: ignore[arg-type]


def test_what_is_published_is_the_contract_keyed_by_request_and_partitioned_as_java_does(backend: Backend) -> None:
    unique = uuid.uuid4().hex
    topics = {name: f"{unique}.{name}" for name in ("predictions", "labels", "changes")}
    backend.create_topics({topics["predictions"]: 4, topics["labels"]: 4, topics["changes"]: 1})
    with Publisher(
        backend.bootstrap_servers,
        predictions_topic=topics["predictions"],
        labels_topic=topics["labels"],
        changes_topic=topics["changes"],
        strict=True,
    ) as publisher:
        for number in range(40):
            assert predict(
                publisher,
                number,
                timestamp=1_700_000_000 + number,
                score={"yes": np.float64(0.75), "no": 0.25},
                prediction=np.bool_(True),
                features={"age": np.int64(71), "hba1c": math.nan, "ward": "surgery", "emergency": True, "sodium": None},
                segments={"site": "north"},
                stage="canary",
                latency_ms=np.float32(12.5),
                resources={"cpu_s": 0.01},
                confidence=0.9,
                entity_id="patient-7",
                context={"shift": "night"},
                embedding=np.array([3.0, 4.0]),
                probes={"dense": {"mean": 0.1, "std": 1.0}},
                pipeline_fingerprint="9f2c",
                runtime={"python": "3.12"},
            )
            assert publisher.label(
                request_id=f"r-{number}", label=np.int64(1), timestamp=1_700_000_100, values={"cost": 10.5}
            )
        assert publisher.change(model_id="m", kind="deploy", version="2", stage="live", share=0.5, note="at last")
    assert publisher.stats.delivered == 81
    assert publisher.stats.dropped == {}

    predictions = read_all(backend.bootstrap_servers, topics["predictions"])
    assert sorted(message.key.decode() for message in predictions) == sorted(f"r-{number}" for number in range(40))
    for message in predictions:
        event = msgspec.json.decode(message.value, type=Prediction)
        assert message.key.decode() == event.request_id
        assert message.partition == partition_of(message.key, 4)
        assert event.score == {"yes": 0.75, "no": 0.25}
        assert event.prediction is True
        assert event.features == {"age": 71.0, "hba1c": None, "ward": "surgery", "emergency": True, "sodium": None}
        assert (event.segments, event.stage, event.latency_ms) == ({"site": "north"}, "canary", 12.5)
        assert (event.resources, event.confidence, event.entity_id) == ({"cpu_s": 0.01}, 0.9, "patient-7")
        assert (event.context, event.embedding, event.pipeline_fingerprint) == ({"shift": "night"}, [3.0, 4.0], "9f2c")
        assert event.probes is not None
        assert event.probes["dense"].std == 1.0
        assert event.runtime == {"python": "3.12"}
    labels = read_all(backend.bootstrap_servers, topics["labels"])
    assert {message.key: message.partition for message in labels} == {
        message.key: message.partition for message in predictions
    }
    assert msgspec.json.decode(labels[0].value, type=Label).values == {"cost": 10.5}
    (change,) = read_all(backend.bootstrap_servers, topics["changes"])
    assert change.key == b"m"
    assert msgspec.json.decode(change.value, type=Change).note == "at last"


def test_absent_fields_are_not_written(broker: MockBroker) -> None:
    with Publisher(broker.bootstrap_servers) as publisher:
        publisher.predict(request_id="r", model_id="m", model_version="1", score=0.5, timestamp=7)
    (message,) = read_all(broker.bootstrap_servers, "leadline.predictions")
    assert message.value == b'{"request_id":"r","model_id":"m","model_version":"1","timestamp":7,"score":0.5}'


@pytest.mark.parametrize(("method", "struct"), [("predict", Prediction), ("label", Label), ("change", Change)])
def test_every_field_of_the_contract_is_a_keyword(method: str, struct: type[msgspec.Struct]) -> None:
    parameters = inspect.signature(getattr(Publisher, method)).parameters
    assert set(parameters) - {"self"} == set(struct.__struct_fields__)


def test_with_the_broker_away_a_publish_does_not_wait_and_memory_stays_bounded() -> None:
    publisher = Publisher(NOBODY, max_queued_events=500, exit_timeout_s=0.1)
    longest = 0.0
    for number in range(5_000):
        began = time.perf_counter()
        predict(publisher, number)
        longest = max(longest, time.perf_counter() - began)
    stats = publisher.stats
    assert longest < seconds(1)  # a connection attempt, let alone a flush, takes longer
    assert 0 < stats.accepted <= 1_000
    assert stats.queued <= 500
    assert stats.dropped["queue_full"] == 5_000 - stats.accepted
    publisher.close()
    assert publisher.stats.dropped["at_exit"] == stats.accepted
    assert "onnect" in publisher.stats.last_error  # why nothing could leave, not that it was purged
    assert publisher.stats.delivered == 0


def test_the_bytes_in_memory_are_bounded_too() -> None:
    publisher = Publisher(NOBODY, max_queued_bytes=64 * 1024)
    taken = sum(
        predict(publisher, number, entity_id="e" * 512, features={"note": "n" * 3_000}) for number in range(200)
    )
    assert 64 / 4.2 < taken < 64 / 3.5  # kibibytes by those of one event
    assert publisher.stats.dropped == {"queue_full": 200 - taken}
    publisher.close(0.1)


def test_before_the_producer_stands_events_wait_in_order_and_within_the_bounds(broker: MockBroker) -> None:
    with publisher_queue.starting:  # as if the import took long
        publisher = Publisher(broker.bootstrap_servers, max_queued_events=300)
        taken = [predict(publisher, number, timestamp=number) for number in range(400)]
    assert taken == [True] * 300 + [False] * 100
    assert publisher.start()
    publisher.close()
    assert publisher.stats.delivered == 300
    messages = read_all(broker.bootstrap_servers, "leadline.predictions")
    for partition in range(4):
        times = [
            msgspec.json.decode(message.value, type=Prediction).timestamp
            for message in messages
            if message.partition == partition
        ]
        assert times == sorted(times)
    assert len(messages) == 300


def test_what_is_not_acknowledged_in_time_is_counted_as_expired() -> None:
    publisher = Publisher(NOBODY, delivery_timeout_s=0.2, linger_ms=5)
    assert predict(publisher, 1)
    assert publisher.flush(15) == 0
    assert publisher.stats.dropped == {"expired": 1}
    assert publisher.stats.delivered == 0
    publisher.close()


def test_what_the_broker_refuses_is_counted_and_the_rest_arrives(broker: MockBroker) -> None:
    told: list[tuple[str, str]] = []
    publisher = Publisher(broker.bootstrap_servers, on_error=lambda reason, detail: told.append((reason, detail)))
    assert publisher.start()
    broker.push_errors(ApiKey.PRODUCE, [KafkaError.POLICY_VIOLATION])
    predict(publisher, 1)
    publisher.flush(15)
    predict(publisher, 2)
    publisher.close()
    assert publisher.stats.dropped == {"refused_by_broker": 1}
    assert publisher.stats.delivered == 1
    assert "policy" in publisher.stats.last_error.lower()
    assert [reason for reason, _ in told if reason != "broker"] == ["refused_by_broker"]


def test_a_broker_that_comes_back_gets_everything_once(broker: MockBroker) -> None:
    with Publisher(broker.bootstrap_servers, exit_timeout_s=20) as publisher:
        predict(publisher, 0)
        assert publisher.flush(15) == 0
        broker.set_down()
        for number in range(1, 200):
            assert predict(publisher, number)
        broker.set_up()
    assert publisher.stats.delivered == 200
    keys = [message.key for message in read_all(broker.bootstrap_servers, "leadline.predictions")]
    assert len(keys) == len(set(keys)) == 200


def test_a_producer_that_failed_for_good_is_replaced(broker: MockBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_queue, "RETRY_S", (0.01, 0.1))
    told = threading.Event()
    publisher = Publisher(broker.bootstrap_servers, on_error=lambda reason, _: told.set())
    # The idempotent producer takes this answer as final.
    broker.push_errors(ApiKey.INIT_PRODUCER_ID, [KafkaError.CLUSTER_AUTHORIZATION_FAILED])
    assert publisher.start()
    assert told.wait(15)
    accepted = 0
    until = time.monotonic() + 20
    while publisher.stats.delivered == 0:
        assert time.monotonic() < until, publisher.stats
        accepted += predict(publisher, accepted)
        publisher.flush(1)
    publisher.close()
    assert publisher.stats.delivered + sum(publisher.stats.dropped.values()) == accepted


def test_an_event_larger_than_its_bound_is_dropped(broker: MockBroker) -> None:
    with Publisher(broker.bootstrap_servers, max_event_bytes=2_000) as publisher:
        publisher.start()
        assert not predict(publisher, 1, features={"note": "n" * 3_000})
        assert predict(publisher, 2)
    assert publisher.stats.dropped == {"oversized": 1}
    assert publisher.stats.delivered == 1


class Hostile:
    def __float__(self) -> float:
        raise RuntimeError("no")

    as_integer_ratio = __float__


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"score": math.nan}, "not_finite"),
        ({"score": Hostile()}, "wrong_type"),
        ({"features": {"age": [1]}}, "wrong_type"),
        ({"features": 7}, "wrong_type"),
        ({"features": {(1, 2): 1.0}}, "wrong_type"),
        ({"features": {"name": "\ud800"}}, "lone_surrogate"),
        ({"request_id": ""}, "empty_id"),
        ({"request_id": "\udfff"}, "lone_surrogate"),
        ({"model_version": "v" * 201}, "wrong_type"),
        ({"timestamp": 1_700_000_000_000}, "timestamp_in_milliseconds"),
        ({"stage": "production"}, "wrong_type"),
    ],
)
def test_an_invalid_event_is_counted_and_raises_only_where_strict(fields: dict[str, object], reason: str) -> None:
    event = {"request_id": "r", "model_id": "m", "model_version": "1", "score": 0.5, **fields}
    lenient = Publisher(NOBODY)
    assert lenient.predict(**event) is False  # type: ignore[arg-type]
    assert lenient.stats.dropped == {reason: 1}
    with pytest.raises(InvalidEvent) as refused:
        Publisher(NOBODY, strict=True).predict(**event)  # type: ignore[arg-type]
    assert refused.value.reason == reason


def test_invalid_labels_and_changes_are_counted() -> None:
    publisher = Publisher(NOBODY)
    assert not publisher.label(request_id="r", label=math.nan)
    assert not publisher.label(request_id="r", label=None)
    assert not publisher.change(model_id="m", kind="exorcism")  # type: ignore[arg-type]
    assert publisher.stats.dropped == {"not_finite": 1, "wrong_type": 2}


def test_reasons_are_bounded() -> None:
    assert len(DROP_REASONS | publisher_values.INVALID_REASONS) == 16


def test_threads_share_a_publisher(broker: MockBroker) -> None:
    with Publisher(broker.bootstrap_servers, exit_timeout_s=30) as publisher:

        def serve(first: int) -> None:
            for number in range(first, first + 500):
                assert predict(publisher, number)

        threads = [threading.Thread(target=serve, args=(500 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (publisher.stats.accepted, publisher.stats.delivered) == (4_000, 4_000)
    assert len({message.key for message in read_all(broker.bootstrap_servers, "leadline.predictions")}) == 4_000


def test_after_close_events_are_dropped_and_a_second_close_is_nothing(broker: MockBroker) -> None:
    publisher = Publisher(broker.bootstrap_servers)
    predict(publisher, 1)
    publisher.close()
    publisher.close()
    assert not predict(publisher, 2)
    assert publisher.stats.dropped == {"closed": 1}
    assert publisher.stats.delivered == 1


def test_a_hook_that_fails_stops_nothing(broker: MockBroker) -> None:
    def hook(reason: str, detail: str) -> None:
        raise RuntimeError(reason)

    with Publisher(broker.bootstrap_servers, on_error=hook) as publisher:
        publisher.label(request_id="", label=1)
        predict(publisher, 1)
    assert publisher.stats.delivered == 1


def test_a_configuration_that_librdkafka_refuses_is_told_by_start_and_costs_a_request_nothing() -> None:
    publisher = Publisher(NOBODY, config={"no.such.property": 1})
    predict(publisher, 1)
    with pytest.raises(Exception, match=r"no\.such\.property"):
        publisher.start()
    assert not predict(publisher, 2)
    assert publisher.stats.dropped == {"not_started": 2}
    assert "no.such.property" in publisher.stats.last_error
    publisher.close()


@pytest.mark.parametrize("name", ["acks", "enable.idempotence", "partitioner", "sasl.password", "linger.ms"])
def test_config_may_not_undo_what_the_publisher_promises(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Publisher(NOBODY, config={name: "1"})


@pytest.mark.parametrize("bounds", [{"max_queued_bytes": 0}, {"max_queued_events": 0}, {"max_event_bytes": 1}])
def test_bounds_that_hold_nothing_are_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        Publisher(NOBODY, **bounds)  # type: ignore[arg-type]


def test_a_password_is_never_shown() -> None:
    publisher = Publisher(["a:1", "b:2"], sasl_username="u", sasl_password="hunter2", security_protocol="sasl_ssl")
    assert "hunter2" not in repr(publisher)
    assert "a:1,b:2" in repr(publisher)
