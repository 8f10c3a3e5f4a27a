"""Sampled values that wait for their tick: a tick takes the oldest of each group, in order of (time, hash), in whole chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from leadline.events import DigestSample
from streams.sampling import LEVELS
from streams.value_streams import Kind

CHUNK = 32  # values of a stream are fed so many at a time: as often as ADWIN looks
MAX_WAITING = 200_000
SEPARATOR = "\x1f"


class Group(NamedTuple):
    """Streams whose values come together: those of one kind, of one version and stage."""

    version: str
    stage: str
    kind: Kind


class Chunk(NamedTuple):
    """`times` [CHUNK], `values` [streams, CHUNK] on the unit scale, NaN where there is none."""

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


class Piece(msgspec.Struct, array_like=True):
    """What one digest brought, or what a tick left: times, hashes, and levels [streams, n]."""

    times: list[float]
    order: list[int]
    values: list[list[int]]


class WaitingValues:
    """Each piece is a row of its own: a commit writes what came, not all that waits."""

    def __init__(self) -> None:
        self.pieces: dict[Group, list[Piece]] = {}
        self.dropped = 0
        self._written: dict[str, bytes] = {}
        self._gone: dict[str, None] = {}

    def keep(self, sample: DigestSample) -> None:
        """Takes a digest's sample in; beyond `MAX_WAITING` values it is dropped, and counted."""
        pieces = self.pieces.setdefault(Group(sample.version, sample.stage, sample.kind), [])
        if sum(len(piece.times) for piece in pieces) >= MAX_WAITING:
            self.dropped += len(sample.times)
            return
        self._append(Group(sample.version, sample.stage, sample.kind), Piece(sample.times, sample.order, sample.values))

    def take(self, group: Group, before: float) -> Iterator[Chunk]:
        """Whole chunks of values before a time, the oldest first. However the values come, a chunk holds the same ones."""
        pieces = self.pieces[group]
        if sum(len(piece.times) for piece in pieces) < CHUNK:
            return
        times = np.concatenate([np.asarray(piece.times, dtype=np.float64) for piece in pieces])
        order = np.concatenate([np.asarray(piece.order, dtype=np.int64) for piece in pieces])
        sequence = np.lexsort((order, times))
        n = int(np.searchsorted(times[sequence], before, side="left")) // CHUNK * CHUNK
        if not n:
            return
        levels = np.concatenate([np.asarray(piece.values, dtype=np.int64) for piece in pieces], axis=1)
        taken, rest = sequence[:n], sequence[n:]
        self._forget(group)
        if len(rest):
            self._append(group, Piece(times[rest].tolist(), order[rest].tolist(), levels[:, rest].tolist()))
        for at in range(0, n, CHUNK):
            chosen = levels[:, taken[at : at + CHUNK]]
            yield Chunk(times[taken[at : at + CHUNK]], np.where(chosen < 0, np.nan, chosen / LEVELS))

    def clear(self) -> None:
        """Forgets all."""
        for group in self.pieces:
            self._forget(group)

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def _append(self, group: Group, piece: Piece) -> None:
        pieces = self.pieces[group]
        name = SEPARATOR.join([*group, str(len(pieces))])
        pieces.append(piece)
        self._gone.pop(name, None)
        self._written[name] = msgspec.msgpack.encode(piece)

    def _forget(self, group: Group) -> None:
        for number in range(len(self.pieces[group])):
            name = SEPARATOR.join([*group, str(number)])
            self._written.pop(name, None)
            self._gone[name] = None
        self.pieces[group] = []

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call, by name."""
        changes = self._written, list(self._gone)
        self._written, self._gone = {}, {}
        return changes

    def restore(self, rows: dict[str, bytes]) -> None:
        """Takes back the rows."""
        numbered: dict[Group, dict[int, Piece]] = {}
        for name, row in rows.items():
            version, stage, kind, number = name.split(SEPARATOR)
            group = Group(version, stage, kind)  # type: ignore[arg-type]
            numbered.setdefault(group, {})[int(number)] = msgspec.msgpack.decode(row, type=Piece)
        self.pieces = {group: [pieces[at] for at in sorted(pieces)] for group, pieces in numbered.items()}
