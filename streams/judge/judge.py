"""The judge: the owner of one partition of digests and changes. Digests in, alerts, views and rows out. Knows models, no requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Change, Digest
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.stored_reference import dump_reference, load_reference
from streams.core.decode import Decoder
from streams.core.digest_cells import check_cells
from streams.core.records import Records
from streams.core.stage import Arrived, Effects, Record, Send
from streams.core.stored_state import require_same
from streams.judge.incidents import Where
from streams.judge.model_judge import ModelJudge
from streams.judge.saved_model import Saved, restore, save
from streams.judge.silence import Heard, Silence
from streams.judge.views import Views

BLOCKS_TABLE, DAYS_TABLE, OPEN_TABLE, SEQUENTIAL_TABLE = "blocks", "days", "open", "sequential"
MODELS_TABLE, REFERENCES_TABLE = "models", "references"
LIVE_TABLE = "live"
SEPARATOR = "\x1f"


class Source(msgspec.Struct):
    """One observer's partition as this judge sees it: the last message merged, its clock, and when it was last heard."""

    sequence: int = 0
    clock: float = float("-inf")
    heard_at: float = float("-inf")


class Checkpoint(msgspec.Struct):
    sources: dict[int, Source] = {}
    clock: float = float("-inf")
    skipped: int = 0
    unreadable: int = 0
    heard: dict[str, Heard] = {}
    settings: dict[str, float] = {}


def pack_where(where: Where) -> str:
    return SEPARATOR.join(
        [
            where.version if where.version is not None else "\x00",
            where.stage,
            where.segment if where.segment is not None else "\x00",
        ]
    )


def unpack_where(parts: Sequence[str]) -> Where:
    version, stage, segment = parts
    return Where(None if version == "\x00" else version, stage, None if segment == "\x00" else segment)


def _by_model(rows: Mapping[bytes, bytes]) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for field, row in rows.items():
        model_id, _, name = field.decode().partition(SEPARATOR)
        found.setdefault(model_id, {})[name] = row
    return found


class Judge:
    """One partition of digests. A digest that was merged before (by its source's sequence) is skipped, so a resend changes nothing."""

    def __init__(
        self,
        partition: int,
        config: Config,
        book: ReferenceBook,
        checkpoint: bytes = b"",
        tables: Mapping[str, Mapping[bytes, bytes]] | None = None,
    ) -> None:
        self.partition = partition
        self.config = config
        self.book = book
        state = msgspec.msgpack.decode(checkpoint, type=Checkpoint) if checkpoint else Checkpoint()
        self.sources = state.sources
        self.clock = state.clock
        self.skipped, self.unreadable = state.skipped, state.unreadable
        self.models: dict[str, ModelJudge] = {}
        self.views = Views(config)
        self.settings = {"panes.pane": config.panes.pane, "panes.longest_span": config.panes.longest_span}
        require_same(f"judge of partition {partition}", state.settings, self.settings)
        self._decoder = Decoder(Change)
        self.silence = Silence(config.panes.silence_after, state.heard)
        self._touched: set[str] = set()
        self._learned: set[str] = set()
        self._restore(tables or {})

    def _restore(self, tables: Mapping[str, Mapping[bytes, bytes]]) -> None:
        for field, row in tables.get(REFERENCES_TABLE, {}).items():
            model_id = field.decode()
            self.book.learn(model_id, load_reference(row, f"learned baseline of {model_id}"))
            self._learned.add(model_id)
        blocks: dict[str, dict[Where, dict[str, bytes]]] = {}
        for field, row in tables.get(BLOCKS_TABLE, {}).items():
            model_id, *where, name = field.decode().split(SEPARATOR)
            blocks.setdefault(model_id, {}).setdefault(unpack_where(where), {})[name] = row
        days: dict[str, dict[Where, dict[str, bytes]]] = {}
        for field, row in tables.get(DAYS_TABLE, {}).items():
            model_id, *where, name = field.decode().split(SEPARATOR)
            days.setdefault(model_id, {}).setdefault(unpack_where(where), {})[name] = row
        opened, sequential = (_by_model(tables.get(table, {})) for table in (OPEN_TABLE, SEQUENTIAL_TABLE))
        for field, row in sorted(tables.get(MODELS_TABLE, {}).items()):
            model_id = field.decode()
            judge = self._model(model_id)
            restore(
                judge,
                msgspec.msgpack.decode(row, type=Saved),
                blocks.get(model_id, {}),
                days.get(model_id, {}),
                opened.get(model_id, {}),
                sequential.get(model_id, {}),
            )
            if (learned := tables.get(LIVE_TABLE, {}).get(field)) is not None:
                judge.live.restore(learned)
        self.views.owe(self.models)

    def _model(self, model_id: str) -> ModelJudge:
        judge = self.models.get(model_id)
        if judge is None:
            judge = self.models[model_id] = ModelJudge(model_id, self.config, self.book)
        return judge

    # -- the shell's side ------------------------------------------------------------------------------------------------------

    def needed(self, arrived: Arrived) -> Mapping[str, Sequence[bytes]]:
        """Nothing: a judge holds its models whole."""
        return {}

    def fold(self, arrived: Arrived, found: Mapping[str, Mapping[bytes, bytes]], now: float) -> Effects:
        """Takes a batch of changes and digests in; the effects hold alerts, changed rows and what people read."""
        effects = Effects()
        alerts: list[Alert] = []
        self.unreadable += self._changes(arrived.get("changes", ()))
        for value in Records.of(arrived.get("digests", ())).values:
            try:
                digest = msgspec.json.decode(value or b"", type=Digest)
                check_cells(digest)
            except (msgspec.DecodeError, ValueError):
                self.unreadable += 1
                continue
            self.take(digest)
            if digest.model_id and (over := self.silence.hear(digest.model_id, digest.sent_at)) is not None:
                alerts.append(over)
        alerts += self.silence.check(now)
        for alert in [*self.take_alerts(), *alerts]:
            effects.sends.append(
                Send(self.config.kafka.topics.alerts, alert.incident_id.encode(), alert.model_dump_json().encode())
            )
        self._rows(effects)
        effects.checkpoint = msgspec.msgpack.encode(
            Checkpoint(self.sources, self.clock, self.skipped, self.unreadable, self.silence.models, self.settings)
        )
        effects.views.update(self.views.refresh(self.models, self._touched, self.clock, now))
        self._touched.clear()
        if not any(arrived.values()) and not (effects.views or effects.sends or effects.writes or effects.removes):
            return Effects()  # nothing came, and time has changed nothing
        return effects

    def _rows(self, effects: Effects) -> None:
        blocks: dict[bytes, bytes] = {}
        gone: list[bytes] = []
        sequential: dict[bytes, bytes] = {}
        consumed: list[bytes] = []
        days: dict[bytes, bytes] = {}
        whole: list[bytes] = []
        opened: dict[bytes, bytes] = {}
        ended: list[bytes] = []
        states: dict[bytes, bytes] = {}
        references: dict[bytes, bytes] = {}
        live: dict[bytes, bytes] = {}
        for model_id in sorted(self._touched):
            judge = self.models[model_id]
            for where, spans in judge.cells.spans.items():
                prefix = f"{model_id}{SEPARATOR}{pack_where(where)}{SEPARATOR}"
                written, removed = spans.take_changes()
                blocks.update({f"{prefix}{name}".encode(): row for name, row in written.items()})
                gone += [f"{prefix}{name}".encode() for name in removed]
            for axis, cohorts in (("c", judge.cells.days), ("a", judge.cells.arrivals)):
                of_days, added = cohorts.take_changes()
                for (where, name), row in of_days.items():
                    days[f"{model_id}{SEPARATOR}{pack_where(where)}{SEPARATOR}{axis}{name}".encode()] = row
                whole += [
                    f"{model_id}{SEPARATOR}{pack_where(where)}{SEPARATOR}{axis}{name}".encode() for where, name in added
                ]
            parts, over = judge.cells.open.take_changes()
            opened.update({f"{model_id}{SEPARATOR}{name}".encode(): row for name, row in parts.items()})
            ended += [f"{model_id}{SEPARATOR}{name}".encode() for name in over]
            values, fed = judge.sequential.take_changes()
            sequential.update({f"{model_id}{SEPARATOR}{name}".encode(): row for name, row in values.items()})
            consumed += [f"{model_id}{SEPARATOR}{name}".encode() for name in fed]
            if judge.live.dirty:
                live[model_id.encode()] = judge.live.pack()
            states[model_id.encode()] = msgspec.msgpack.encode(save(judge))
            reference = self.book.find(model_id)
            if reference is not None and reference.learned and model_id not in self._learned:
                references[model_id.encode()] = dump_reference(reference)
                self._learned.add(model_id)
        for table, rows in (
            (BLOCKS_TABLE, blocks),
            (DAYS_TABLE, days),
            (OPEN_TABLE, opened),
            (SEQUENTIAL_TABLE, sequential),
            (MODELS_TABLE, states),
            (REFERENCES_TABLE, references),
            (LIVE_TABLE, live),
        ):
            if rows:
                effects.writes[table] = rows
        for table, names in (
            (BLOCKS_TABLE, gone),
            (DAYS_TABLE, whole),
            (OPEN_TABLE, ended),
            (SEQUENTIAL_TABLE, consumed),
        ):
            if names:
                effects.removes[table] = names

    def forget_rows(self) -> None:
        """Nothing changed since the last call, as far as rows go: a backtest stores none."""
        for judge in self.models.values():
            judge.cells.forget_rows()

    # -- the core --------------------------------------------------------------------------------------------------------------

    def take(self, digest: Digest) -> None:
        """Merges one digest; a clock moves time on and judges all that lies before it."""
        source = self.sources.setdefault(digest.source, Source())
        if digest.sequence <= source.sequence:
            self.skipped += 1
            return
        source.sequence = digest.sequence
        source.heard_at = max(source.heard_at, digest.sent_at)
        if digest.model_id:
            self._model(digest.model_id).take(digest)
            self._touched.add(digest.model_id)
            return
        source.clock = max(source.clock, digest.clock)
        self._move(self._time())

    def _time(self) -> float:
        """The least clock of the sources that are not idle. Idleness is by the observers' own stamps, so that a replay agrees."""
        latest = max(source.heard_at for source in self.sources.values())
        heard = [
            source.clock
            for source in self.sources.values()
            if source.heard_at >= latest - self.config.panes.idle_after and source.clock > -math.inf
        ]
        return min(heard, default=-math.inf)  # a source that has told no clock yet holds nobody

    def _move(self, clock: float) -> None:
        if not math.isfinite(clock) or clock <= self.clock:
            return
        self.clock = clock
        pane = int(clock // self.config.panes.pane)
        for model_id, judge in self.models.items():
            if judge.due(pane):
                self._touched.add(model_id)
            judge.advance(pane)

    def _changes(self, records: Sequence[Record]) -> int:
        decoded = self._decoder.decode(records, max_future_s=math.inf)
        for at, time in enumerate(decoded.times.tolist()):
            change = decoded.event(at)
            self._model(change.model_id).take_change(change, time)
            self._touched.add(change.model_id)
        return len(decoded.faults)

    def take_alerts(self) -> list[Alert]:
        """Alerts since the last call, in order of event time."""
        found: list[Alert] = []
        for model_id in sorted(self.models):
            found += self.models[model_id].take_alerts()
        return sorted(found, key=lambda alert: (alert.raised_at, alert.alert_id))
