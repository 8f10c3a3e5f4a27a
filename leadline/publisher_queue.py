"""The memory between a serving thread and Kafka: one producer of one process, made, polled and ended by a thread of
its own.

`send` never waits. Until the producer stands (importing confluent-kafka takes some 60 ms) events gather in a backlog;
afterwards they go straight into librdkafka's queue. Both have the same bounds, in events and in bytes of keys and
values. Each event beyond them is dropped and counted.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

log = logging.getLogger("leadline.publisher")

POLL_S = 0.1  # how long a hook, a log line or the end of the thread may be late
DRAIN_EVENTS = 100  # handed over under one lock: a serving thread waits for at most these, about 0.2 ms
LOG_EVERY_S = 60.0
RETRY_S = (1.0, 30.0)  # first and longest pause before a new producer takes the place of one that failed for good
NOTES = 256

# A fork while a thread imports confluent-kafka leaves the child with an import lock that nobody holds any more and
# nobody frees.
starting = threading.Lock()

# Queues with a thread, until they are closed. Held here, because a service may forget its publisher, not its events.
running: set[PublishQueue] = set()


class PublisherStats(NamedTuple):  # a dataclass would import `inspect`, and be slower to import
    """Counts of one process since it began to publish. Once the queue is empty, accepted = delivered + lost.

    `accepted`: taken into memory. `delivered`: acknowledged by all in-sync replicas. `queued`: in memory now, events.
    `dropped`: reason to events, for those refused at the door and for those lost on the way; the reasons are
    `DROP_REASONS` and those of an invalid event (`docs/events.md`). `last_error`: what the broker or librdkafka said
    last, or an empty string.
    """

    accepted: int
    delivered: int
    queued: int
    dropped: dict[str, int]
    last_error: str

    @property
    def dropped_total(self) -> int:
        return sum(self.dropped.values())


DROP_REASONS = frozenset(
    ("queue_full", "oversized", "closed", "not_started", "refused_by_broker", "expired", "at_exit")
)


def _never_free(producer: Any) -> None:
    """Keeps a producer that could not send: freeing it joins its threads, and one of them may never end.

    Seen in a child that was forked while a thread of the parent resolved the broker's name: glibc's lock is then held by nobody.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


class PublishQueue:
    """`config` is librdkafka's, without callbacks. `on_error(reason, detail)` is called from the queue's thread."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        max_events: int,
        max_bytes: int,
        exit_timeout_s: float,
        on_error: Callable[[str, str], None] | None = None,
    ) -> None:
        self._config = dict(config)
        self._max_events, self._max_bytes = max_events, max_bytes
        self.exit_timeout_s = exit_timeout_s
        self._on_error = on_error
        # Reentrant, because a signal handler may publish in the middle of a publish.
        self._lock = threading.RLock()
        self._producer: Any = None  # where events go; None: into the backlog
        self._polled: Any = None  # the one whose reports are still to come
        self._kafka_error: type[Exception] = BufferError  # KafkaException, once it is imported
        self._thread: threading.Thread | None = None
        self._backlog: deque[tuple[str, bytes, bytes]] = deque()
        # Since the backlog was opened, so that backlog and librdkafka's queue together stay within the bounds.
        self._taken_events = self._taken_bytes = 0
        self._failure: Exception | None = None
        self._fatal = self._closing = False
        self._ready = threading.Event()  # the producer stands and the backlog is empty, or it failed
        self._ended = threading.Event()
        self._accepted = self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._notes: deque[tuple[str, str]] = deque(maxlen=NOTES)
        self._last_error = ""
        self._logged_at = self._broker_logged_at = float("-inf")
        self._logged = 0

    def send(self, topic: str, key: bytes, value: bytes) -> bool:
        """Takes the event, or drops it and says False. Never waits, never raises."""
        with self._lock:
            if self._producer is None or self._closing:
                return self._keep(topic, key, value)
            try:
                self._producer.produce(topic, value, key)
            except BufferError:
                reason, detail = "queue_full", ""
            except self._kafka_error as error:
                if self._is_fatal(error):  # the thread has not yet seen that a new producer is needed
                    self._open_backlog()
                    return self._keep(topic, key, value)
                reason, detail = self._reason(error.args[0]), str(error)
            else:
                self._accepted += 1
                return True
        self.drop(reason, detail)
        return False

    def drop(self, reason: str, detail: str = "", *, accepted: bool = False) -> None:
        """Counts one event that is not published; `accepted`: it had been taken before."""
        with self._lock:
            self._dropped[reason] += 1
            self._lost += accepted
            if detail:
                self._last_error = detail
        if self._on_error is not None:
            self._notes.append((reason, detail))

    def start(self, timeout_s: float) -> bool:
        """Makes the producer now, not with the first event. True once it stands; raises what confluent-kafka raised."""
        with self._lock:
            self._start_thread()
        self._ready.wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        return self._producer is not None

    def flush(self, timeout_s: float) -> int:
        """Waits until all is acknowledged or lost, at most `timeout_s`. Returns how many events are still in memory."""
        until = time.monotonic() + timeout_s
        if self._thread is not None:
            self._ready.wait(timeout_s)
        producer = self._producer
        if producer is not None:
            producer.flush(max(0.0, until - time.monotonic()))
        return self.queued

    def close(self, timeout_s: float) -> None:
        """Takes nothing more, flushes for at most `timeout_s`, counts the rest as `at_exit`. Safe to call twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        until = time.monotonic() + timeout_s
        self.flush(timeout_s)
        with self._lock:
            producer, self._producer = self._producer, None
            self._dropped["at_exit"] += len(self._backlog)
            self._lost += len(self._backlog)
            self._backlog.clear()
        if producer is not None and len(producer):
            producer.purge()
            producer.flush(max(POLL_S, min(1.0, until - time.monotonic())))  # to hear the reports of what was purged
            _never_free(producer)
        self._ended.set()
        running.discard(self)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * POLL_S)
        if not self.queued:
            self._polled = None  # or its destructor runs while the interpreter ends
        self._tell(final=True)

    @property
    def queued(self) -> int:
        polled = self._polled
        return len(self._backlog) + (len(polled) if polled is not None else 0)

    def stats(self) -> PublisherStats:
        with self._lock:
            queued = min(self.queued, self._accepted - self._lost)  # librdkafka counts its own news too
            dropped = {reason: count for reason, count in sorted(self._dropped.items()) if count}
            delivered = self._accepted - self._lost - queued
            return PublisherStats(self._accepted, delivered, queued, dropped, self._last_error)

    # -- the lock is held
    # -----------------------------------------------------------------------------------------------

    def _keep(self, topic: str, key: bytes, value: bytes) -> bool:
        size = len(key) + len(value)
        if self._closing or self._failure is not None:
            self.drop("closed" if self._closing else "not_started")
            return False
        if self._taken_events >= self._max_events or self._taken_bytes + size > self._max_bytes:
            self.drop("queue_full")
            return False
        self._start_thread()
        self._taken_events += 1
        self._taken_bytes += size
        self._backlog.append((topic, key, value))
        self._accepted += 1
        return True

    def _start_thread(self) -> None:
        if self._thread is not None or self._closing:
            return
        thread = threading.Thread(target=self._run, name="leadline-publisher", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending: the next event tries again
            self._last_error = str(error)
            return
        self._thread = thread
        running.add(self)
        # A child of multiprocessing ends without running what `atexit` holds, but runs these.
        process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
        if process is not None and util is not None and process.parent_process() is not None:
            util.Finalize(self, self.close, args=(self.exit_timeout_s,), exitpriority=100)

    def _open_backlog(self) -> None:
        self._producer = None
        self._fatal = True
        self._taken_events = self._taken_bytes = 0
        self._ready.clear()

    # -- the queue's own thread
    # -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause, longest = RETRY_S
        while not self._ended.is_set():
            try:
                producer = self._make()
            except Exception as error:  # of the configuration or the installation: told, not thrown at a request
                self._give_up(error)
                return
            self._polled = producer
            self._hand_over(producer)
            began = time.monotonic()
            while not self._ended.is_set() and not self._fatal:
                try:
                    producer.poll(POLL_S)
                except self._kafka_error as error:  # how confluent-kafka tells of a fatal error, beside the callback
                    self._on_broker_error(error.args[0])
                    self._fatal = True
                self._tell()
            if not self._fatal:
                return
            with self._lock:
                self._open_backlog()
            producer.purge()
            producer.flush(1.0)
            if time.monotonic() - began > longest:
                pause = RETRY_S[0]
            self._ended.wait(pause)
            pause = min(2 * pause, longest)

    def _make(self) -> Any:
        with starting:
            from confluent_kafka import KafkaException, Producer

            self._kafka_error = KafkaException
            self._fatal = False
            # Reports of failures only: successes follow from the counts, and cost the service's interpreter lock
            # nothing.
            hooks = {"on_delivery": self._on_delivery, "delivery.report.only.error": True}
            return Producer({**self._config, **hooks, "error_cb": self._on_broker_error}, logger=log)

    def _hand_over(self, producer: Any) -> None:
        while not self._ended.is_set():
            with self._lock:
                for _ in range(min(DRAIN_EVENTS, len(self._backlog))):
                    topic, key, value = self._backlog.popleft()
                    try:
                        producer.produce(topic, value, key)
                    except (BufferError, self._kafka_error) as error:
                        self._accepted -= 1
                        full = isinstance(error, BufferError)
                        self.drop("queue_full" if full else self._reason(error.args[0]), str(error))
                if not self._backlog:
                    self._producer = producer
                    self._ready.set()
                    return

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            self._failure = error
            self._accepted -= len(self._backlog)
            self._dropped["not_started"] += len(self._backlog)
            self._backlog.clear()
            self._last_error = str(error)
            self._ready.set()
        log.error("leadline publishes nothing from this process: %s", error)
        if self._on_error is not None:
            self._notes.append(("not_started", str(error)))
        self._tell()

    def _is_fatal(self, error: Exception) -> bool:
        from confluent_kafka import KafkaError

        return bool(error.args and error.args[0].code() == KafkaError._FATAL)

    def _reason(self, error: Any) -> str:
        from confluent_kafka import KafkaError

        code = error.code()
        if self._closing and code in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            return "at_exit"
        if code in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT_QUEUE):
            return "expired"
        return "oversized" if code == KafkaError.MSG_SIZE_TOO_LARGE else "refused_by_broker"

    def _on_delivery(self, error: Any, _message: Any) -> None:
        reason = self._reason(error)
        # What was purged at the exit has no error of its own: why it was still there is the last one that the broker told.
        self.drop(reason, "" if reason == "at_exit" else error.str(), accepted=True)

    def _on_broker_error(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        self._last_error = error.str()
        if error.code() == KafkaError._FATAL:
            self._fatal = True
        if time.monotonic() - self._broker_logged_at >= LOG_EVERY_S:
            log.warning("Kafka: %s", error.str())
            self._broker_logged_at = time.monotonic()
        if self._on_error is not None:
            self._notes.append(("broker", error.str()))

    def _tell(self, final: bool = False) -> None:
        while self._notes:
            reason, detail = self._notes.popleft()
            try:
                assert self._on_error is not None
                self._on_error(reason, detail)
            except Exception:  # the hook is the service's; its fault must not end deliveries
                log.exception("the on_error hook of a Publisher failed")
        dropped = self._dropped.total()
        now = time.monotonic()
        if dropped > self._logged and (final or now - self._logged_at >= LOG_EVERY_S):
            with self._lock:
                reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self._dropped.items()) if count)
            log.warning("%d events were not published so far: %s", dropped, reasons)
            self._logged, self._logged_at = dropped, now
