"""Single values of one model in order of time: each stream has its sequential detector, and what it detects is a firing.

Pure. A stream is one version's sampled values of one name (the score); values wait for the tick, so that a replay feeds the same ones in
the same order.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import msgspec
import numpy as np

from detectors.adwin import Adwin, AdwinConfig
from detectors.state import State
from leadline.events import DigestSample
from streams.evaluate import Evaluator
from streams.finding import Finding
from streams.incidents import Firing, Where
from streams.sampling import LEVELS

MONTH_S = 30 * 86_400.0
ADWIN_EFFECT = 0.25  # a change of the score's mean below this many standard deviations of the reference is no news
ADWIN_CHECKS = 32
MAX_SAMPLES = 200_000


class SequentialState(msgspec.Struct):
    """Detectors and waiting values by stream: "version, stage, name" parted by unit separators."""

    detectors: dict[str, bytes] = {}
    samples: dict[str, list[tuple[float, int, int]]] = {}


class Sequential:
    """`keep` takes sampled values, `feed` gives all that lie before a tick to their detectors and returns what these detected."""

    def __init__(self, evaluator: Evaluator, sample_per_second: float) -> None:
        self.evaluator = evaluator
        self.sample_per_second = sample_per_second
        self.detectors: dict[str, Adwin] = {}
        self.samples: dict[str, list[tuple[float, int, int]]] = {}

    def use(self, evaluator: Evaluator) -> None:
        """Judges by this evaluator from now on: the model's reference is another. Detectors go on: levels do not depend on it."""
        self.evaluator = evaluator

    def save(self) -> SequentialState:
        return SequentialState(
            {name: detector.snapshot().to_bytes() for name, detector in self.detectors.items()}, self.samples
        )

    def restore(self, state: SequentialState, same_reference: bool) -> None:
        """Takes back what `save` held; under another reference the detectors begin anew."""
        self.samples = state.samples
        if same_reference:
            self.detectors = {
                name: self._adwin_config().build(State.from_bytes(raw)) for name, raw in state.detectors.items()
            }

    def keep(self, sample: DigestSample) -> None:
        """Keeps a digest's sampled values until their tick; beyond the cap they are dropped."""
        kept = self.samples.setdefault(f"{sample.version}\x1f{sample.stage}\x1f{sample.stream}", [])
        if len(kept) < MAX_SAMPLES:
            kept += zip(sample.times, sample.order, sample.values, strict=True)
            kept.sort()

    def feed(self, when: float, several: bool) -> list[Firing]:
        """Feeds all values before the tick `when`, in order of (time, id); a detection is a firing of its version, of all where there are
        not `several`."""
        rules = self.evaluator.rules
        if not rules.adwin or "adwin" in rules.disabled:
            self.samples.clear()
            return []
        found = []
        for name in sorted(self.samples):
            waiting = self.samples[name]
            ready = waiting[: bisect_left(waiting, (when, -1, 0))]
            if not ready:
                continue
            del waiting[: len(ready)]
            version, stage, stream = name.split("\x1f")
            detector = self.detectors.get(name)
            if detector is None:
                detector = self.detectors[name] = self._adwin_config().build()
            values = np.array([value for _, _, value in ready], dtype=np.float64) / LEVELS
            for detection in detector.update_many(values):
                finding = self._change_found(stream, detection.before, detection.after, detection.onset)
                if finding is not None:
                    at = max(detection.index - detection.onset + 1, 0)
                    shadow = stage == "shadow"
                    where = Where(version if several or shadow else None, "shadow" if shadow else "live", None)
                    found.append(Firing(where, finding, ready[at][0], when))
        return found

    def _adwin_config(self) -> AdwinConfig:
        checks = MONTH_S * self.sample_per_second / ADWIN_CHECKS
        return AdwinConfig(
            low=0.0,
            high=1.0,
            significance=max(self.evaluator.rules.false_alarms_per_month / checks, 1e-9),
            clock=ADWIN_CHECKS,
        )

    def _change_found(self, stream: str, before: float, after: float, n: int) -> Finding | None:
        base = self.evaluator.baseline(None)
        reference = self.evaluator.reference
        score = reference.score
        if base is None or score is None or not (math.isfinite(before) and math.isfinite(after)):
            return None
        low, high = (0.0, 1.0) if reference.task != "regression" else (score.low, score.high)
        before, after = low + before * (high - low), low + after * (high - low)
        moved = abs(after - before) / base.score_sd
        away = abs(after - base.score_mean) > abs(before - base.score_mean)
        if moved < ADWIN_EFFECT or not away:
            return None  # a return to the reference is the end of a fault, not a fault
        significance = self._adwin_config().significance
        return Finding(
            "adwin",
            stream,
            "model",
            after,
            before,
            n,
            ADWIN_EFFECT,
            math.inf,
            0.0,
            math.log10(significance),
            moved / ADWIN_EFFECT,
        )
