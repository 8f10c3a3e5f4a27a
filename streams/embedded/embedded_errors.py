"""What can go wrong with the embedded broker and store; `reason` is bounded and serves as a metric label."""


class EmbeddedError(RuntimeError):
    """Root of the embedded mode's errors."""

    reason = "embedded"


class EmbeddedUnavailable(EmbeddedError):
    """A part that the embedded mode needs is not installed; the text says how to mend it."""

    reason = "unavailable"


class EmbeddedStartFailed(EmbeddedError):
    """A part is there and did not start."""

    reason = "start_failed"


class FolderInUse(EmbeddedError):
    """Another Redis server holds the data folder."""

    reason = "folder_in_use"


class FolderTooNew(EmbeddedError):
    """The data folder was written by a newer Redis, which this one would take for an empty folder."""

    reason = "folder_too_new"


class MockBrokerError(EmbeddedError):
    """librdkafka's mock cluster refused a call."""

    reason = "mock_broker"


class EmbeddedDataLost(EmbeddedError):
    """The mock broker forgot records `[start, end)` of a partition that nobody had read."""

    reason = "data_lost"

    def __init__(self, topic: str, partition: int, start: int, end: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: the embedded broker forgot {end - start} unread records, offsets [{start}, {end}). "
            "It keeps about 5 MiB or 100,000 batches a partition: publish more slowly, use more partitions, or run a "
            "real Kafka (docker compose up)"
        )
        self.topic, self.partition, self.start, self.end = topic, partition, start, end


class EmbeddedLogRestarted(EmbeddedError):
    """A position lies beyond the end of the log: it belongs to an earlier life of the broker."""

    reason = "log_restarted"

    def __init__(self, topic: str, partition: int, position: int, end: int) -> None:
        super().__init__(
            f"{topic}[{partition}]: position {position} lies beyond the end of the log, {end}. The embedded broker "
            "keeps its log in memory: after a restart offsets begin at 0 again, and positions kept in Redis belong to "
            "the old log"
        )
        self.topic, self.partition, self.position, self.end = topic, partition, position, end
