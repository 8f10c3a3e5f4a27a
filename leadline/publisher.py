"""Publish predictions, labels and changes from a Python service, without ever making a request wait.

    publisher = Publisher("kafka:9092")
    publisher.predict(request_id=rid, model_id="readmission", model_version="3.1.0", score=0.83, features=row)
    ...
    publisher.label(request_id=rid, label=True)

What it promises:

- *It never waits and never raises* in `predict`, `label` and `change` (unless `strict=True`, and then only for an
  invalid event). An event is encoded and put into memory, some ten microseconds; a thread of the publisher's own does
  the rest.
- *Its memory is bounded*, in events and in bytes. What does not fit is dropped, and every drop is counted with its
  reason in `.stats`.
- *What it accepts arrives once and in order*: an idempotent producer that waits for all in-sync replicas.
- *Labels meet their predictions*: keys are request ids, partitioned as Java's client does (`murmur2_random`).
- *Servers may fork* before or after it was used (gunicorn, multiprocessing): each process makes a producer of its own
  with its first event, and what a parent still held is left to the parent.
- *At exit it flushes* for at most `exit_timeout_s`. A process that is killed, or ends by `os._exit`, cannot; call
  `close` there.

Importing this module imports neither confluent-kafka nor msgspec.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from leadline import publisher_queue
from leadline import publisher_values as contract
from leadline.publisher_queue import PublisherStats, PublishQueue
from leadline.publisher_values import INFINITY as INF
from leadline.publisher_values import InvalidEvent

if TYPE_CHECKING:
    from leadline.events import ChangeKind, Stage

__all__ = ["InvalidEvent", "Publisher", "PublisherStats"]

# Without these a label may never meet its prediction, or counts may be wrong: no configuration of a service may undo
# them.
FIXED = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}


class Publisher:
    """A client for one cluster. Create one for the whole service; every method may be called from any thread.

    Nothing happens before the first event: no thread, no connection. `start` makes it happen earlier, for instance
    when a worker of a pre-fork server begins.

    Parameters
    ----------
    bootstrap_servers
        `host:port`, several by comma or as a sequence.
    predictions_topic, labels_topic, changes_topic
        Where events go.
    security_protocol, sasl_mechanism, sasl_username, sasl_password, ssl_ca_location, ssl_certificate_location,
    ssl_key_location, ssl_key_password
        As librdkafka names them, with dots for underscores.
    max_queued_bytes, max_queued_events
        Bounds of what waits in memory: bytes of keys and values, and events. librdkafka needs about 200 bytes more for
        each event.
    max_event_bytes
        Larger events are dropped as `oversized`; the broker and the worker have such a bound too.
    linger_ms
        How long an event may wait for others to travel with.
    delivery_timeout_s
        After this long without an acknowledgement an event is dropped as `expired`.
    strict
        Raise `InvalidEvent` for an event that the worker would reject, instead of dropping and counting it: for tests
        and notebooks.
    on_error
        Called as `on_error(reason, detail)` from the publisher's thread for each dropped event and, with the reason
        `broker`, for each error of the connection. At most the last 256 are kept between two calls.
    config
        Further properties of librdkafka, which win over the defaults here. `acks`, `enable.idempotence`, `partitioner`
        and those that have a parameter of their own are refused with `ValueError`.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        predictions_topic: str = "leadline.predictions",
        labels_topic: str = "leadline.labels",
        changes_topic: str = "leadline.changes",
        client_id: str = "leadline-publisher",
        security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] | None = None,
        sasl_mechanism: str | None = None,
        sasl_username: str | None = None,
        sasl_password: str | None = None,
        ssl_ca_location: str | None = None,
        ssl_certificate_location: str | None = None,
        ssl_key_location: str | None = None,
        ssl_key_password: str | None = None,
        max_queued_bytes: int = 32 * 1024 * 1024,
        max_queued_events: int = 100_000,
        max_event_bytes: int = 1_000_000,
        linger_ms: float = 20.0,
        compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4",
        delivery_timeout_s: float = 300.0,
        exit_timeout_s: float = 5.0,
        strict: bool = False,
        on_error: Callable[[str, str], None] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        servers = bootstrap_servers if isinstance(bootstrap_servers, str) else ",".join(bootstrap_servers)
        if not servers:
            raise ValueError("bootstrap_servers is empty")
        if max_queued_bytes < 1024 or max_queued_events < 1 or max_event_bytes < 1000:
            raise ValueError("the least bounds are max_queued_bytes=1024, max_queued_events=1 and max_event_bytes=1000")
        owned = {
            "bootstrap.servers": servers,
            "client.id": client_id,
            "security.protocol": security_protocol,
            "sasl.mechanism": sasl_mechanism,
            "sasl.username": sasl_username,
            "sasl.password": sasl_password,
            "ssl.ca.location": ssl_ca_location,
            "ssl.certificate.location": ssl_certificate_location,
            "ssl.key.location": ssl_key_location,
            "ssl.key.password": ssl_key_password,
            "queue.buffering.max.kbytes": max_queued_bytes // 1024,
            "queue.buffering.max.messages": max_queued_events,
            "message.max.bytes": max_event_bytes,
            "linger.ms": linger_ms,
            "compression.type": compression,
            "message.timeout.ms": int(delivery_timeout_s * 1000),
        }
        refused = sorted((config or {}).keys() & (owned.keys() | FIXED.keys() | {"on_delivery", "error_cb", "logger"}))
        if refused:
            raise ValueError(f"config may not set {', '.join(refused)}: the publisher does, see its parameters")
        # Reconnecting fast costs a service nothing and shortens what must wait in memory.
        # Connection errors reach `on_error`, `stats` and (once a minute) the log; librdkafka's own would repeat each.
        defaults = {"reconnect.backoff.max.ms": 2000, "socket.keepalive.enable": True, "log_level": 2}
        given = {name: value for name, value in owned.items() if value is not None}
        self._config = {**defaults, **(config or {}), **given, **FIXED}
        self._predictions_topic, self._labels_topic = predictions_topic, labels_topic
        self._changes_topic = changes_topic
        self._max_events, self._max_bytes = max_queued_events, max_queued_bytes
        self._exit_timeout_s = exit_timeout_s
        self._strict = strict
        self._on_error = on_error
        import msgspec  # some 20 ms, better here than in the first request

        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
        self._begin_process()
        _alive.add(self)

    def predict(
        self,
        *,
        request_id: Any,
        model_id: str,
        model_version: str,
        score: Any,
        prediction: Any = None,
        timestamp: float | str | datetime | None = None,
        features: Mapping[str, Any] | None = None,
        segments: Mapping[str, Any] | None = None,
        stage: Stage | None = None,
        latency_ms: Any = None,
        resources: Mapping[str, Any] | None = None,
        confidence: Any = None,
        entity_id: Any = None,
        context: Mapping[str, Any] | None = None,
        embedding: Any = None,
        probes: Mapping[str, Any] | None = None,
        pipeline_fingerprint: str | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> bool:
        """Publishes one answer of a model; `timestamp` None is now. True if it was taken, False if it was dropped and
        counted.

        Fields, types and units: `docs/events.md`. numpy scalars are taken as what they are; `features` may be a pandas
        row. A feature that is NaN is published as null; a score that is NaN makes the event invalid (`not_finite`).
        """
        try:
            rid = request_id if _is_id(request_id, 512) else contract.identifier(request_id, "request_id", 512)
            event: dict[str, Any] = {
                "request_id": rid,
                "model_id": model_id if _is_id(model_id, 200) else contract.identifier(model_id, "model_id", 200),
                "model_version": model_version
                if _is_id(model_version, 200)
                else contract.identifier(model_version, "model_version", 200),
                "timestamp": time.time() if timestamp is None else contract.timestamp(timestamp),
                "score": score if type(score) is float and -INF < score < INF else contract.score(score),
            }
            if prediction is not None:
                event["prediction"] = contract.plain(prediction)
            if features is not None:
                event["features"] = contract.features(features)
            if segments is not None:
                event["segments"] = contract.strings(segments, "segments")
            if latency_ms is not None:
                event["latency_ms"] = contract.number(latency_ms, "latency_ms")
            if stage is not None:
                event["stage"] = contract.one_of(stage, contract.STAGES, "stage")
            if resources is not None:
                event["resources"] = contract.numbers(resources, "resources")
            if confidence is not None:
                event["confidence"] = contract.number(confidence, "confidence")
            if entity_id is not None:
                event["entity_id"] = contract.identifier(entity_id, "entity_id", 512)
            if context is not None:
                event["context"] = contract.features(context)
            if embedding is not None:
                event["embedding"] = contract.embedding(embedding)
            if probes is not None:
                event["probes"] = contract.probes(probes)
            if pipeline_fingerprint is not None:
                event["pipeline_fingerprint"] = contract.text(pipeline_fingerprint, "pipeline_fingerprint")
            if runtime is not None:
                event["runtime"] = contract.strings(runtime, "runtime")
            key, value = rid.encode(), self._encode(event)
        except Exception as error:  # any object may have been passed, and its conversions may raise anything
            return self._invalid(error)
        return self._queue_here().send(self._predictions_topic, key, value)

    def label(
        self,
        *,
        request_id: Any,
        label: Any,
        timestamp: float | str | datetime | None = None,
        values: Mapping[str, Any] | None = None,
        definition_version: str | None = None,
    ) -> bool:
        """Publishes the truth about one request; `timestamp` is when it became known. A second label corrects."""
        try:
            event: dict[str, Any] = {
                "request_id": contract.identifier(request_id, "request_id", 512),
                "label": contract.required_class(label, "label"),
                "timestamp": contract.timestamp(timestamp),
            }
            if values is not None:
                event["values"] = contract.numbers(values, "values")
            if definition_version is not None:
                event["definition_version"] = contract.text(definition_version, "definition_version")
            key, value = event["request_id"].encode(), self._encode(event)
        except Exception as error:  # see predict
            return self._invalid(error)
        return self._queue_here().send(self._labels_topic, key, value)

    def change(
        self,
        *,
        model_id: str,
        kind: ChangeKind,
        timestamp: float | str | datetime | None = None,
        version: str | None = None,
        stage: Stage | None = None,
        share: Any = None,
        note: str | None = None,
    ) -> bool:
        """Publishes what people did to a model: an incident names it. `share` of traffic is in [0, 1]."""
        try:
            event: dict[str, Any] = {
                "model_id": contract.identifier(model_id, "model_id", 200),
                "kind": contract.one_of(kind, contract.KINDS, "kind"),
                "timestamp": contract.timestamp(timestamp),
            }
            if version is not None:
                event["version"] = contract.text(version, "version")
            if stage is not None:
                event["stage"] = contract.one_of(stage, contract.STAGES, "stage")
            if share is not None:
                event["share"] = contract.number(share, "share")
            if note is not None:
                event["note"] = contract.text(note, "note")
            key, value = event["model_id"].encode(), self._encode(event)
        except Exception as error:  # see predict
            return self._invalid(error)
        return self._queue_here().send(self._changes_topic, key, value)

    @property
    def stats(self) -> PublisherStats:
        """Counts of this process."""
        return self._queue_here().stats()

    def start(self, timeout_s: float = 10.0) -> bool:
        """Imports and makes the producer; True once it stands. Raises what is wrong with the configuration."""
        return self._queue_here().start(timeout_s)

    def flush(self, timeout_s: float = 10.0) -> int:
        """Waits until all is acknowledged or dropped, at most `timeout_s`; returns how many are still in memory."""
        return self._queue_here().flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Flushes for at most `timeout_s` (default `exit_timeout_s`) and ends.

        What is left is dropped as `at_exit`, though it may have arrived; later events are dropped as `closed`.
        """
        self._queue_here().close(self._exit_timeout_s if timeout_s is None else timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # Never the password.
        return f"Publisher({self._config['bootstrap.servers']!r}, client_id={self._config['client.id']!r})"

    def _invalid(self, error: Exception) -> bool:
        if isinstance(error, InvalidEvent):
            reason = error.reason
        elif isinstance(error, UnicodeEncodeError):
            reason = "lone_surrogate"
        else:
            reason = "wrong_type"
        if self._strict:
            if isinstance(error, InvalidEvent):
                raise error
            raise InvalidEvent(reason, str(error)) from error
        self._queue_here().drop(reason, str(error)[:200])
        return False

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._queue = PublishQueue(
            self._config,
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            exit_timeout_s=self._exit_timeout_s,
            on_error=self._on_error,
        )

    def _queue_here(self) -> PublishQueue:
        # Not only by the hook below: a server may fork in C without telling Python.
        if self._pid != os.getpid():
            self._after_fork()
        return self._queue

    def _after_fork(self) -> None:
        # Freeing the parent's producer would wait for threads that do not exist here: it stays, untouched, until this
        # process ends.
        _inherited.append(self._queue)
        self._begin_process()


def _is_id(value: Any, longest: int) -> bool:
    return type(value) is str and 0 < len(value) <= longest


_alive: weakref.WeakSet[Publisher] = weakref.WeakSet()
_inherited: list[PublishQueue] = []
_starting_held = False


def _close_all() -> None:
    """Closes what the program did not; all together within the longest time that one of them may take."""
    queues = list(publisher_queue.running)
    until = time.monotonic() + max((queue.exit_timeout_s for queue in queues), default=0.0)
    for queue in queues:
        queue.close(max(0.0, min(queue.exit_timeout_s, until - time.monotonic())))


def _before_fork() -> None:
    global _starting_held
    _starting_held = publisher_queue.starting.acquire(timeout=5.0)


def _after_fork_in_parent() -> None:
    if _starting_held:
        publisher_queue.starting.release()


def _after_fork_in_child() -> None:
    publisher_queue.starting = threading.Lock()
    _inherited.extend(publisher_queue.running)
    publisher_queue.running.clear()
    for publisher in list(_alive):
        publisher._after_fork()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
