"""The librdkafka that confluent-kafka has loaded, through ctypes: the few functions that its Python module does not
offer.
"""

import ctypes
import enum
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from confluent_kafka import cimpl

from streams.embedded.embedded_errors import EmbeddedUnavailable, MockBrokerError

PRODUCER = 0  # rd_kafka_type_t
CONF_OK = 0  # rd_kafka_conf_res_t

_handle, _int, _short, _size, _text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t, ctypes.c_char_p

# name without rd_kafka_: (result, arguments), after rdkafka.h and rdkafka_mock.h
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "conf_new": (_handle, ()),
    "conf_set": (_int, (_handle, _text, _text, _text, _size)),
    "conf_destroy": (None, (_handle,)),
    "new": (_handle, (_int, _handle, _text, _size)),
    "destroy": (None, (_handle,)),
    "mock_cluster_new": (_handle, (_handle, _int)),
    "mock_cluster_destroy": (None, (_handle,)),
    "mock_cluster_bootstraps": (_text, (_handle,)),
    "mock_topic_create": (_int, (_handle, _text, _int, _int)),
    "mock_group_initial_rebalance_delay_ms": (None, (_handle, _int)),
    "mock_broker_set_down": (_int, (_handle, _int)),
    "mock_broker_set_up": (_int, (_handle, _int)),
    "mock_broker_set_rtt": (_int, (_handle, _int, _int)),
    "mock_push_request_errors_array": (None, (_handle, _short, _size, ctypes.POINTER(ctypes.c_int))),
    "mock_clear_request_errors": (None, (_handle, _short)),
    "mock_partition_set_leader": (_int, (_handle, _text, _int, _int)),
    "mock_coordinator_set": (_int, (_handle, _text, _text, _int)),
}


class ApiKey(enum.IntEnum):
    """Kafka protocol requests that faults can be pushed for."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    INIT_PRODUCER_ID = 22


class Library:
    """Typed calls into librdkafka; ctypes lets go of the interpreter lock around each."""

    def __init__(self, shared: ctypes.CDLL) -> None:
        self._functions: dict[str, Any] = {}
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(shared, f"rd_kafka_{name}")  # AttributeError: not the library, or too old
            function.restype, function.argtypes = result, arguments
            self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> Any:
        return self._functions[name](*arguments)

    def new_client(self) -> int:
        """The client handle that a mock cluster needs for its bookkeeping; it connects to nothing."""
        why = ctypes.create_string_buffer(512)
        configuration = self.call("conf_new")
        # Errors only: the handle would otherwise complain that it has no bootstrap servers.
        if self.call("conf_set", configuration, b"log_level", b"3", why, len(why)) != CONF_OK:
            self.call("conf_destroy", configuration)
            raise MockBrokerError(why.value.decode(errors="replace"))
        client = self.call("new", PRODUCER, configuration, why, len(why))
        if not client:
            self.call("conf_destroy", configuration)  # only a successful `new` takes it over
            raise MockBrokerError(why.value.decode(errors="replace"))
        return int(client)


def candidates(extension: Path) -> Iterator[Path]:
    """Files that may give the symbols, best first, for the confluent-kafka extension module at `extension`.

    The extension itself is best: a symbol is looked up in what a module was linked against too, so this finds the very
    copy that confluent-kafka uses, wherever it lies (a Linux or macOS wheel, a distribution's package, a build of one's
    own). Windows looks in the named file alone, so there, and wherever else the first way fails, the wheel's folder of
    libraries is searched.
    """
    yield extension
    package = extension.parent
    for folder in (package.with_name("confluent_kafka.libs"), package / ".dylibs", package / ".libs", package):
        for pattern in ("librdkafka*.so*", "librdkafka*.dylib", "librdkafka*.dll"):
            yield from sorted(folder.glob(pattern))


@cache
def load_library() -> Library:
    """`EmbeddedUnavailable` where no candidate offers every function of `SIGNATURES`."""
    tried: list[str] = []
    for path in candidates(Path(cimpl.__file__)):
        try:
            return Library(ctypes.CDLL(str(path)))
        except (OSError, AttributeError) as error:
            tried.append(f"{path.name}: {error}")
    raise EmbeddedUnavailable(
        "no librdkafka with a mock broker; upgrade confluent-kafka (tried " + "; ".join(tried) + ")"
    )
