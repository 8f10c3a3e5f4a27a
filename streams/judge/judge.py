"""The judge: the owner of one partition of digests and changes. Digests in, alerts, views and rows out. Knows models, no requests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from leadline.alert import Alert
from leadline.config import Config
from leadline.events import Change, Digest
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.stored_reference import load_reference
from streams.core.decode import Decoder
from streams.core.digest_cells import check_cells
from streams.core.records import Records
from streams.core.stage import Arrived, Effects, Record, Send
from streams.core.stored_state import require_same
from streams.judge.judge_rows import REFERENCES_TABLE, Tables, restore_models, saved_models, write_models
from streams.judge.model_judge import ModelJudge
from streams.judge.silence import Heard, Silence
from streams.judge.views import Views


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


class Judge:
    """One partition of digests. A digest that was merged before (by its source's sequence) is skipped, so a resend changes nothing."""

    def __init__(
        self,
        partition: int,
        config: Config,
        book: ReferenceBook,
        checkpoint: bytes = b"",
        tables: Tables | None = None,
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

    def _restore(self, tables: Tables) -> None:
        for field, row in tables.get(REFERENCES_TABLE, {}).items():
            model_id = field.decode()
            self.book.learn(model_id, load_reference(row, f"learned baseline of {model_id}"))
            self._learned.add(model_id)
        for model_id, _ in saved_models(tables):
            self._model(model_id)
        restore_models(self.models, tables)
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
        write_models((self.models[name] for name in sorted(self._touched)), self.book, self._learned, effects)
        effects.checkpoint = msgspec.msgpack.encode(
            Checkpoint(self.sources, self.clock, self.skipped, self.unreadable, self.silence.models, self.settings)
        )
        effects.views.update(self.views.refresh(self.models, self._touched, self.clock, now))
        self._touched.clear()
        if not any(arrived.values()) and not (effects.views or effects.sends or effects.writes or effects.removes):
            return Effects()  # nothing came, and time has changed nothing
        return effects

    def forget_rows(self) -> None:
        """Nothing changed since the last call, as far as rows go: a backtest stores none."""
        for judge in self.models.values():
            judge.cells.forget_rows()
            judge.variation.forget_changes()

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
