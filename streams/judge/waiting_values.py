"""Sampled values that wait for their tick: a tick takes the oldest of each group, in order of (time, hash), in whole chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.events import DigestSample
from streams.counting.sampling import LEVELS
from streams.counting.value_streams import Kind

CHUNK = 32  # values of a stream are fed by multiples of so many: as often as ADWIN looks
MAX_WAITING = 200_000
SEPARATOR = "\x1f"


class Group(NamedTuple):
    """Streams whose values come together: those of one kind, of one version and stage."""

    version: str
    stage: str
    kind: Kind


class Chunk(NamedTuple):
    """`times` [n], `values` [streams, n] on the unit scale, NaN where there is none; n is a multiple of `CHUNK`."""

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


class Piece(NamedTuple):
    """What one digest brought, or what a tick left: times, hashes, and levels [streams, n]."""

    times: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]
    levels: npt.NDArray[np.int64]

    @classmethod
    def of(cls, times: Sequence[float], order: Sequence[int], levels: Sequence[Sequence[int]]) -> Piece:
        return cls(
            np.array(times, dtype=np.float64),
            np.array(order, dtype=np.int64),
            np.array(levels, dtype=np.int64).reshape(len(levels), len(times)),
        )

    def pack(self) -> bytes:
        return msgspec.msgpack.encode((self.times.tolist(), self.order.tolist(), self.levels.tolist()))

    @classmethod
    def unpack(cls, row: bytes) -> Piece:
        return cls.of(*msgspec.msgpack.decode(row, type=tuple[list[float], list[int], list[list[int]]]))


class Queue:
    """The pieces of one group. The first is in order; what came after it is put in order when a chunk may be due."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.waiting = 0
        self._sorted: Piece | None = None
        self._full_at = math.inf
        """The time of the last value of the first whole chunk."""

    def append(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.waiting += len(piece.times)
        self._sorted = None

    def take(self, before: float) -> Piece | None:
        """Whole chunks of values before a time, the oldest first; what is left is one piece. None where there is no whole chunk."""
        if not self.is_due(before):
            return None
        assert self._sorted is not None
        times, order, levels = self._sorted
        n = int(np.searchsorted(times, before, side="left")) // CHUNK * CHUNK
        rest = Piece(times[n:], order[n:], levels[:, n:])
        self.pieces = [rest] if len(rest.times) else []
        self.waiting -= n
        self._hold(rest)
        return Piece(times[:n], order[:n], levels[:, :n])

    def is_due(self, before: float) -> bool:
        """Whether a whole chunk of values lies before a time."""
        if self.waiting < CHUNK:
            return False
        if self._sorted is None:
            times, order = (np.concatenate([piece[part] for piece in self.pieces]) for part in (0, 1))
            sequence = np.lexsort((order, times))
            levels = np.concatenate([piece.levels for piece in self.pieces], axis=1)
            self._hold(Piece(times[sequence], order[sequence], levels[:, sequence]))
        return self._full_at < before

    def _hold(self, piece: Piece) -> None:
        self._sorted = piece
        self._full_at = float(piece.times[CHUNK - 1]) if len(piece.times) >= CHUNK else math.inf


class WaitingValues:
    """Each piece is a row of its own: a commit writes what came, not all that waits."""

    def __init__(self) -> None:
        self.queues: dict[Group, Queue] = {}
        self.dropped = 0
        self._written: dict[tuple[Group, int], None] = {}
        self._gone: dict[tuple[Group, int], None] = {}

    def keep(self, sample: DigestSample) -> None:
        """Takes a digest's sample in; beyond `MAX_WAITING` values it is dropped, and counted."""
        group = Group(sample.version, sample.stage, sample.kind)
        queue = self.queues.setdefault(group, Queue())
        if queue.waiting >= MAX_WAITING:
            self.dropped += len(sample.times)
            return
        queue.append(Piece.of(sample.times, sample.order, sample.values))
        self._write(group, len(queue.pieces) - 1)

    def take(self, group: Group, before: float) -> Chunk | None:
        """The values before a time, the oldest first: as many whole chunks as there are, together. Digests may cut them as they like."""
        queue = self.queues[group]
        pieces = len(queue.pieces)
        taken = queue.take(before)
        if taken is None:
            return None
        self._forget(group, pieces)
        if queue.pieces:
            self._write(group, 0)
        return Chunk(taken.times, np.where(taken.levels < 0, np.nan, taken.levels / LEVELS))

    def due(self, before: float) -> list[Group]:
        """The groups of which whole chunks wait, in order."""
        some = [group for group, queue in self.queues.items() if queue.is_due(before)]
        return sorted(some) if len(some) > 1 else some

    def clear(self) -> None:
        """Forgets all."""
        for group, queue in self.queues.items():
            self._forget(group, len(queue.pieces))
            self.queues[group] = Queue()

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def _write(self, group: Group, number: int) -> None:
        self._gone.pop((group, number), None)
        self._written[group, number] = None

    def _forget(self, group: Group, pieces: int) -> None:
        for number in range(pieces):
            self._written.pop((group, number), None)
            self._gone[group, number] = None

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call, by name."""
        written = {_name(*key): self.queues[key[0]].pieces[key[1]].pack() for key in self._written}
        gone = [_name(*key) for key in self._gone]
        self._written, self._gone = {}, {}
        return written, gone

    def restore(self, rows: dict[str, bytes]) -> None:
        """Takes back the rows."""
        numbered: dict[Group, dict[int, Piece]] = {}
        for name, row in rows.items():
            version, stage, kind, number = name.split(SEPARATOR)
            group = Group(version, stage, kind)  # type: ignore[arg-type]
            numbered.setdefault(group, {})[int(number)] = Piece.unpack(row)
        self.queues = {}
        for group, pieces in numbered.items():
            queue = self.queues[group] = Queue()
            for at in sorted(pieces):
                queue.append(pieces[at])


def _name(group: Group, number: int) -> str:
    return SEPARATOR.join([*group, str(number)])
