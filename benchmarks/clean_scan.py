"""Clean rows without end, for :mod:`benchmarks.detection`: how often scans and sequential detectors speak in vain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import Progress
from scipy.special import ndtri

from detectors.adwin import AdwinConfig
from detectors.binning import NumericBins, count
from detectors.divergence import compare
from detectors.edetector import EDetectorConfig
from detectors.ks import ks_p_value, ks_statistic
from detectors.moments import MomentScale, mean_shift_z

FEATURES = 50
REFERENCE = 50_000
PANE = 5_000
LONGEST = 256
"""Panes in the longest span."""

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Rule:
    """A rule, the false alarms it promises over the whole run (None: it promises nothing) and those it raised."""

    rule: str
    budget: float | None
    alarms: int = 0


def draw(rng: np.random.Generator, n: int) -> Floats:
    """n clean rows: ten features each of five kinds (normal, lognormal, beta, sparse amounts, counts)."""
    return np.concatenate(
        [
            rng.normal(size=(n, 10)),
            rng.lognormal(0.0, 1.0, (n, 10)),
            rng.beta(2.0, 5.0, (n, 10)),
            np.where(rng.random((n, 10)) < 0.1, rng.exponential(1.0, (n, 10)), 0.0),
            rng.poisson(2.0, (n, 10)).astype(np.float64),
        ],
        axis=1,
    )


def looks(panes: int) -> int:
    """How many (span, end) pairs a scan makes: a span of L panes is looked at every L / 8."""
    return sum(panes // max(1, span // 8) for span in spans())


def spans() -> list[int]:
    """Spans of doubling length, panes."""
    return [1 << power for power in range(LONGEST.bit_length())]


def false_alarm_table(rows: int, progress: Progress) -> list[Rule]:
    """Run every rule over the same clean rows; each promise is one false alarm in the whole run."""
    rng = np.random.default_rng(2024)
    reference = draw(rng, REFERENCE)
    panes = max(rows // PANE, 1)
    alpha = 1.0 / (looks(panes) * FEATURES)
    scan = _Scan(reference, alpha)
    low, high = np.quantile(reference, [0.005, 0.995], axis=0)
    low, high = np.minimum(low, reference.mean(axis=0) - 1.0), np.maximum(high, low + 1.0)
    clipped = np.clip(reference, low, high)
    error = 4.0 * clipped.std(axis=0) / np.sqrt(REFERENCE)
    e_alpha = 1.0 / (panes * PANE * FEATURES)
    betting = [
        EDetectorConfig(baseline=b, tolerance=t, low=x, high=y, alpha=e_alpha).build()
        for b, t, x, y in zip(clipped.mean(axis=0).tolist(), error.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    windows = [AdwinConfig(low=x, high=y).build() for x, y in zip(low.tolist(), high.tolist(), strict=True)]
    bets, cuts = Rule("e-detector, every value", 1.0), Rule("ADWIN (0.002), every value", None)
    task = progress.add_task("clean panes", total=panes)
    for _ in range(panes):
        pane = draw(rng, PANE)
        scan.look(pane)
        for feature in range(FEATURES):
            column = np.ascontiguousarray(pane[:, feature])
            bets.alarms += len(betting[feature].update_many(column))
            cuts.alarms += len(windows[feature].update_many(column))
        progress.advance(task)
    return [*scan.rules, bets, cuts]


class _Scan:
    """PSI, KS and mean shift over spans of doubling length, tested at ``alpha`` and, naively, as is usual."""

    def __init__(self, reference: Floats, alpha: float) -> None:
        self._alpha = alpha
        self._coarse = [NumericBins.from_reference(column) for column in reference.T]
        self._fine = [NumericBins.fine(column) for column in reference.T]
        self._scale = MomentScale.from_reference(reference)
        self._reference = self._tables(reference)
        self._known = self._scale.fold(reference)
        self._panes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._seen = 0
        self.rules = [
            Rule("PSI past its floor at alpha = 1 / looks", 1.0),
            Rule("... and past 0.1", 1.0),
            Rule("KS p below 1 / looks", 1.0),
            Rule("mean shift past its error at 1 / looks", 1.0),
            Rule("KS p below 0.01 at every look", None),
        ]

    def look(self, pane: Floats) -> None:
        """Add a pane and test every span that is due."""
        coarse, fine = self._tables(pane)
        self._panes = [*self._panes[-LONGEST + 1 :], (coarse, fine, self._scale.fold(pane).table)]
        self._seen += 1
        for span in spans():
            if span <= self._seen and self._seen % max(1, span // 8) == 0:
                self._test(span)

    def _test(self, span: int) -> None:
        coarse, fine, table = (np.sum([pane[i] for pane in self._panes[-span:]], axis=0) for i in range(3))
        psi = compare(coarse, self._reference[0], alpha=self._alpha)
        past = (psi.psi > psi.psi_floor) & np.isfinite(psi.psi)
        p = ks_p_value(ks_statistic(fine, self._reference[1]), span * PANE, REFERENCE)
        live = type(self._known)(self._scale, table)
        z, error = mean_shift_z(live.n, live.mean, live.std, self._known.n, self._known.mean, self._known.std)
        shifted = z > -ndtri(self._alpha / 2) * error
        for rule, hits in zip(
            self.rules, (past, past & (psi.psi > 0.1), p < self._alpha, shifted, p < 0.01), strict=True
        ):
            rule.alarms += int(hits.sum())

    def _tables(self, rows: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        tables = []
        for mappings in (self._coarse, self._fine):
            width = max(mapping.ordered for mapping in mappings)
            table = np.zeros((FEATURES, width), dtype=np.int64)
            for feature, mapping in enumerate(mappings):
                codes = mapping.assign(np.ascontiguousarray(rows[:, feature]))
                table[feature, : mapping.ordered] = count(codes, mapping.size)[: mapping.ordered]
            tables.append(table)
        return tables[0], tables[1]
