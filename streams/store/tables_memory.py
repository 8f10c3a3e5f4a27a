"""The tables in this process's memory: for tests and for runs that may forget everything."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streams.store.tables import Change, Claimed, Outcome, Outgoing, Owner, Rows, View


@dataclass(slots=True)
class _State:
    fence: str = ""
    claims: int = 0
    known: bool = False
    offsets: dict[str, int] = field(default_factory=dict)
    checkpoint: bytes = b""
    sequence: int = 0
    outbox: dict[int, Outgoing] = field(default_factory=dict)
    tables: dict[str, Rows] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


class MemoryTables:
    """`streams.store.tables.Tables` without a server. Several workers of one process may share one instance."""

    def __init__(self) -> None:
        self._owners: dict[Owner, _State] = {}
        self.views: dict[str, dict[str, str] | str] = {}

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def _state(self, owner: Owner) -> _State:
        return self._owners.setdefault(owner, _State())

    async def claim(self, owner: Owner) -> Claimed:
        state = self._state(owner)
        state.claims += 1
        state.fence = f"{state.claims}:{uuid.uuid4().hex[:12]}"
        outbox = [state.outbox[sequence] for sequence in sorted(state.outbox)]
        return Claimed(state.fence, state.known, dict(state.offsets), state.checkpoint, state.sequence, outbox)

    async def holds(self, owner: Owner, fence: str, offsets: Mapping[str, int] | None = None) -> bool:
        state = self._state(owner)
        return state.fence == fence and all(state.offsets.get(name) == at for name, at in (offsets or {}).items())

    async def read(self, owner: Owner, wanted: Mapping[str, Sequence[bytes]]) -> dict[str, Rows]:
        tables = self._state(owner).tables
        found: dict[str, Rows] = {}
        for table, fields in wanted.items():
            rows = tables.get(table, {})
            found[table] = {field: rows[field] for field in fields if field in rows}
        return found

    async def load(self, owner: Owner, tables: Sequence[str]) -> dict[str, Rows]:
        state = self._state(owner)
        return {table: dict(state.tables.get(table, {})) for table in tables}

    async def lines(self, owner: Owner, fences: Sequence[str]) -> dict[str, int]:
        known = self._state(owner).lines
        return {fence: known[fence] for fence in fences if fence in known}

    async def commit(self, owner: Owner, change: Change) -> Outcome:
        state = self._state(owner)
        if state.fence != change.fence:
            return Outcome.FENCED
        if any(state.offsets.get(topic) != offset for topic, offset in change.expected.items()):
            return Outcome.MISMATCH
        effects = change.effects
        for table in effects.drops:
            state.tables.pop(table, None)
        for table, fields in effects.removes.items():
            rows = state.tables.get(table, {})
            for name in fields:
                rows.pop(name, None)
        for table, written in effects.writes.items():
            state.tables.setdefault(table, {}).update(written)
        state.offsets.update(change.offsets)
        state.checkpoint = effects.checkpoint or state.checkpoint
        for message in change.outbox:
            state.outbox[message.sequence] = message
            state.sequence = state.lines[change.fence] = max(state.sequence, message.sequence)
        state.known = True
        return Outcome.COMMITTED

    async def acknowledge(self, owner: Owner, messages: Sequence[tuple[int, str]]) -> None:
        outbox = self._state(owner).outbox
        for sequence, line in messages:
            if sequence in outbox and outbox[sequence].line == line:
                del outbox[sequence]

    async def owed(self, owner: Owner) -> int:
        return len(self._state(owner).outbox)

    async def show(self, views: Mapping[str, View], expire_s: int | None = None) -> None:
        for key, view in views.items():
            if view is None or view == {}:
                self.views.pop(key, None)
            else:
                self.views[key] = dict(view) if isinstance(view, dict) else view
