"""Sequential detectors of one model: every stream of single values has its ADWIN and its e-detector; what they detect are firings.

Pure. Values wait for the tick and go in order of (time, hash), by multiples of `CHUNK`, so that a replay feeds the same ones in the
same order. The page comes from the e-detector, which holds a false-alarm budget: per stream on its own alarm, and over the features of a
version by e-BH. ADWIN has no such budget over an endless stream: on the score, past an effect that matters, it opens a warning; elsewhere
its adaptive window is a figure and its detections are evidence of incidents that others opened. Page-Hinkley runs where a rule asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from detectors.ebh import e_bh
from detectors.errors import CorruptState, ForeignState
from detectors.sequential import Detection
from detectors.shares import normal_log_p
from leadline.config import Panes
from leadline.events import DigestSample
from streams.counting.figure import NAN, Figure
from streams.counting.value_streams import Kind, ValueStream, stream_rate, value_streams
from streams.judge.incidents import Firing, Where
from streams.judge.stream_detectors import (
    BUDGET_SHARE,
    VERSIONS,
    Detectors,
    DetectorsRow,
    adwin_significance,
    build_detectors,
)
from streams.judge.variation import Variation
from streams.judge.waiting_values import CHUNK, SEPARATOR, Chunk, Group, WaitingValues
from streams.rules.evaluate import Evaluator
from streams.rules.finding import LN10, Finding

MONTH_S = 30 * 86_400.0
ADWIN_EFFECT = 0.25  # a change of the score's mean below this many standard deviations of the reference is no news


class Sequential:
    """`keep` takes sampled values, `feed` gives all that lie before a tick to their detectors and returns what these detected."""

    def __init__(self, evaluator: Evaluator, panes: Panes) -> None:
        self.panes = panes
        self.waiting = WaitingValues()
        self.detectors: dict[tuple[str, str, str], Detectors] = {}
        self._fed: set[tuple[str, str, str]] = set()
        self._gone: list[str] = []
        self._take(evaluator)

    def _take(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.streams = value_streams(evaluator.reference, evaluator.rules)
        self._places = {stream.subject: stream for streams in self.streams.values() for stream in streams}

    def use(self, evaluator: Evaluator) -> None:
        """Judges by this evaluator from now on: the model's reference is another, and all detectors begin anew."""
        self._take(evaluator)
        self._gone += [SEPARATOR.join(key) for key in self.detectors]
        self.detectors.clear()
        self._fed.clear()
        self.waiting.clear()

    # -- values ----------------------------------------------------------------------------------------------------------------

    def keep(self, sample: DigestSample) -> None:
        """Keeps a digest's sampled values until their tick."""
        if len(sample.values) == len(self.streams.get(sample.kind, ())):
            self.waiting.keep(sample)

    def feed(self, when: float, several: bool) -> list[Firing]:
        """Feeds the values before the tick `when`; a detection is a firing of its version, or of all where there are not `several`."""
        rules = self.evaluator.rules
        if not rules.adwin and not rules.sequential and rules.page_hinkley is None:
            self.waiting.clear()
            return []
        fired: list[Firing] = []
        for group in self.waiting.due(when):
            where = _cell(group.version, group.stage, several)
            chunk = self.waiting.take(group, when)
            if chunk is None:
                continue
            of_chunk = list(self._feed(group, chunk, where, when))
            if group.kind == "features" and rules.sequential:
                of_chunk += self._together(group, chunk.times, where, when, {firing.finding.key for firing in of_chunk})
            fired += of_chunk
        off = rules.disabled
        return [firing for firing in fired if firing.finding.signal not in off] if off else fired

    def among_spans(self, firing: Firing, variation: Variation, alpha: float) -> Firing | None:
        """The firing with what is left of its evidence; None where the values since its onset lie no farther off than such spans do.

        The detectors' promises hold for independent values. Where spans vary by themselves a detection must stand out among them.
        """
        finding = firing.finding
        level = variation.level_of(firing.end - firing.start)
        design_effect = variation.design_effect(firing.where, level, firing.start / variation.pane_s, finding)
        if design_effect <= 1.0:
            return firing
        stream = self._places[str(finding.subject)]
        moved = finding.strength * finding.threshold * stream.unit / stream.sd
        log_p = float(normal_log_p(moved * math.sqrt(finding.n / design_effect)))
        if log_p > math.log(alpha):
            return None
        log10_p = max(finding.log10_p, log_p / LN10)
        return firing._replace(finding=finding._replace(log10_p=log10_p, design_effect=design_effect))

    def _feed(self, group: Group, chunk: Chunk, where: Where, when: float) -> Iterator[Firing]:
        rules = self.evaluator.rules
        version, stage, kind = group
        for stream, row in zip(self.streams[kind], chunk.values, strict=True):
            there = np.flatnonzero(~np.isnan(row))
            if not len(there):
                continue
            detectors = self._of(version, stage, kind, stream)
            values, times = row[there], chunk.times[there]
            detectors.begin(times)
            for detection in detectors.adwin.update_many(values) if rules.adwin else ():
                finding = self._adwin(stream, kind, detection)
                if finding is not None:
                    yield Firing(
                        where,
                        finding,
                        detectors.time(detection.index - detection.onset + 1, times),
                        when,
                        opens=kind == "score",
                    )
            for detection in detectors.edetector.update_many(values) if rules.sequential else ():
                finding = _by_evidence(
                    stream, detection.before, detection.after, detection.onset, detectors.edetector.threshold
                )
                if finding is not None:
                    yield Firing(where, finding, detectors.time(detection.index - detection.onset + 1, times), when)
            for detection in detectors.page_hinkley.update_many(values) if detectors.page_hinkley is not None else ():
                finding = _page_hinkley(stream, detection)
                if finding is not None:
                    yield Firing(where, finding, detectors.time(detection.index - detection.onset + 1, times), when)
            self._fed.add((version, stage, stream.subject))

    def _together(
        self,
        group: Group,
        times: npt.NDArray[np.float64],
        where: Where,
        when: float,
        fired: set[tuple[str, str | None]],
    ) -> Iterator[Firing]:
        """e-BH over the features of a version: several that have each gathered some evidence may speak before one has gathered all."""
        version, stage, kind = group
        streams = self.streams[kind]
        held = [self.detectors.get((version, stage, stream.subject)) for stream in streams]
        log_e = np.array([one.edetector.log_e_value if one is not None else -math.inf for one in held])
        looks = MONTH_S * self._rate(kind) / CHUNK * VERSIONS
        alpha = min(BUDGET_SHARE * self.evaluator.rules.false_alarms_per_month / looks, 0.05)
        for at in np.flatnonzero(e_bh(log_e, alpha)).tolist():
            stream, one = streams[at], held[at]
            assert one is not None
            leading = one.edetector.leading()
            finding = _by_evidence(stream, leading.before, leading.after, leading.onset, max(float(log_e[at]), 0.0))
            if finding is not None and finding.key not in fired:
                yield Firing(where, finding, one.time(len(times) - leading.onset, times), when)

    def _rate(self, kind: Kind) -> float:
        return stream_rate(kind, self.panes, self.evaluator.reference)

    # -- detectors -------------------------------------------------------------------------------------------------------------

    def _of(self, version: str, stage: str, kind: Kind, stream: ValueStream) -> Detectors:
        key = (version, stage, stream.subject)
        found = self.detectors.get(key)
        if found is None:
            found = self.detectors[key] = self._build(kind, stream, DetectorsRow())
        return found

    def _build(self, kind: Kind, stream: ValueStream, row: DetectorsRow) -> Detectors:
        streams = sum(len(streams) for streams in self.streams.values())
        return build_detectors(stream, self.evaluator.rules, streams, MONTH_S * self._rate(kind), row)

    def _adwin(self, stream: ValueStream, kind: Kind, detection: Detection) -> Finding | None:
        if not (math.isfinite(detection.before) and math.isfinite(detection.after)):
            return None
        # Its cut is cautious and leaves old values in the window: the distance that it shows is less than the truth.
        effect = stream.effects.warn / 2 if kind == "loss" else ADWIN_EFFECT
        unit = stream.unit
        moved = abs(detection.after - detection.before) / unit
        away = abs(detection.after - stream.mean) > abs(detection.before - stream.mean)
        if moved < effect or not away or (stream.worse and detection.after < stream.mean):
            return None  # a return to the reference is the end of a fault, not a fault
        after, before = stream.value(detection.after), stream.value(detection.before)
        significance = adwin_significance(self.evaluator.rules, MONTH_S * self._rate(kind))
        return Finding(
            "adwin",
            stream.subject,
            stream.layer,
            after,
            before,
            detection.onset,
            effect,
            math.inf,
            0.0,
            math.log10(significance),
            moved / effect,
        )

    # -- figures ---------------------------------------------------------------------------------------------------------------

    def figures(self, several: bool) -> Iterator[tuple[Where, Figure]]:
        """The adaptive window's mean (n is its width), and ln of the evidence against the reference, of every stream."""
        for (version, stage, subject), found in sorted(self.detectors.items()):
            stream = self._places[subject]
            where = _cell(version, stage, several)
            reference = stream.value(stream.mean)
            if found.adwin.width:
                mean = stream.value(found.adwin.estimate)
                yield where, Figure(stream.layer, "adwin_mean", subject, mean, found.adwin.width, reference, NAN)
            if found.edetector.width:
                evidence = max(found.edetector.log_e / LN10, 0.0)
                floor = found.edetector.threshold / LN10
                yield (
                    where,
                    Figure(stream.layer, "log10_evidence", subject, evidence, found.edetector.width, 0.0, floor),
                )

    # -- rows ------------------------------------------------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Rows written and removed since the last call, by name: "d" for detectors, "w" for values that wait."""
        values, gone = self.waiting.take_changes()
        written = {f"w{SEPARATOR}{name}": row for name, row in values.items()}
        written |= {
            f"d{SEPARATOR}{SEPARATOR.join(key)}": msgspec.msgpack.encode(self.detectors[key].row())
            for key in sorted(self._fed)
        }
        removed = [f"w{SEPARATOR}{name}" for name in gone] + [f"d{SEPARATOR}{name}" for name in self._gone]
        self._fed, self._gone = set(), []
        return written, [name for name in removed if name not in written]

    def restore(self, rows: dict[str, bytes], same_reference: bool) -> None:
        """Takes back the rows. Under another reference the values are of other ranges: all begin anew."""
        by_sort: dict[str, dict[str, bytes]] = {"d": {}, "w": {}}
        for name, row in rows.items():
            sort, _, rest = name.partition(SEPARATOR)
            by_sort[sort][rest] = row
        self.waiting.restore(by_sort["w"])
        if not same_reference:
            self.waiting.clear()
            self._gone += by_sort["d"]
            return
        kinds = {stream.subject: kind for kind, streams in self.streams.items() for stream in streams}
        for name, row in by_sort["d"].items():
            version, stage, subject = name.split(SEPARATOR)
            raw = msgspec.msgpack.decode(row, type=DetectorsRow)
            try:
                built = self._build(kinds[subject], self._places[subject], raw)
            except (KeyError, ForeignState, CorruptState):
                self._gone.append(name)  # a rule or a budget has changed: what was gathered under another begins anew
            else:
                self.detectors[version, stage, subject] = built


def _cell(version: str, stage: str, several: bool) -> Where:
    """The cell of a version's values: one version alone is the same as all."""
    shadow = stage == "shadow"
    return Where(version if several or shadow else None, "shadow" if shadow else "live", None)


def _by_evidence(stream: ValueStream, before: float, after: float, n: int, log_e: float) -> Finding | None:
    """What an e-detector says. By Markov's inequality evidence of M has a chance of at most 1 / M without a change."""
    moved = after - stream.mean
    if not math.isfinite(after) or (stream.worse and moved < 0) or abs(moved) < stream.effects.warn * stream.unit:
        return None
    effect = abs(moved) / stream.unit
    return Finding(
        "edetector",
        stream.subject,
        stream.layer,
        stream.value(after),
        stream.value(stream.mean),
        n,
        stream.effects.warn,
        stream.effects.critical,
        stream.tolerance / stream.unit,
        -log_e / LN10,
        effect / stream.effects.warn,
    )


def _page_hinkley(stream: ValueStream, detection: Detection) -> Finding | None:
    """It has no guarantee: a rule asks for it, and its p-value is not known (1)."""
    finding = _by_evidence(stream, detection.before, detection.after, detection.onset, 0.0)
    return finding._replace(signal="page_hinkley") if finding is not None else None
