"""The judgement of one span: which signals are past their effect limit *and* past what noise alone could do.

Each test has two doors. The first is the effect that matters to people (the rules' limits); the second is the false-alarm budget: the
p-value must be below `alpha`, the budget divided by the number of looks. Approximations that lie so far out are guarded: rare bins
are pooled, shares are judged by the exact binomial against the confidence limit of the reference, AUC needs rows of both classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import auc_from_histograms, hanley_mcneil_se
from detectors.binning import CategoryBins
from detectors.calibration import expected_calibration_error
from detectors.cbpe import CalibrationMap, calibration_map, positives_departure
from detectors.shares import binomial_log_tail, lower_limit, normal_log_p, upper_limit
from leadline.alert import Layer
from leadline.config import Limits, Rules
from streams.figure import subject_of
from streams.layout import Vector
from streams.log_bins import LATENCY_MS
from streams.references import Feature, Reference
from streams.screen import SLACK, PooledPsi, calibration_floor, departure_is_likely, share_is_likely

LIMIT_ALPHA = 1e-3  # the reference's confidence limit: spent once per reference, not once per look
LN10 = math.log(10.0)


class Finding(NamedTuple):
    """One signal of one span. `strength` is the effect over its warning limit; `log10_p` under no change."""

    signal: str
    subject: str | None
    layer: Layer
    value: float
    reference: float
    n: int
    threshold: float
    critical: float
    floor: float
    log10_p: float
    strength: float

    @property
    def key(self) -> tuple[str, str | None]:
        return (self.signal, self.subject)

    @property
    def severity(self) -> str:
        return "critical" if self.strength * self.threshold >= self.critical else "warn"


@dataclass(frozen=True)
class Baseline:
    """One cell's reference, prepared once: grouped counts and the limits of its shares."""

    vector: Vector
    groups: npt.NDArray[np.int64]
    occupied: npt.NDArray[np.bool_]
    rows: float
    null_limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    invalid_limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    null_share: npt.NDArray[np.float64]
    invalid_share: npt.NDArray[np.float64]
    mean_z: npt.NDArray[np.float64]
    sd_z: npt.NDArray[np.float64]
    valid: npt.NDArray[np.float64]
    score_mean: float
    score_sd: float
    score_valid: float
    positives: float
    negatives: float
    auc: float
    auc_se: float
    calibration: CalibrationMap | None
    label_noise: npt.NDArray[np.float64] | None
    """Variance of one label in each bin of the score."""
    pooled: PooledPsi
    limits: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """share signal to (reference share, lower limit, upper limit)."""


class Evaluator:
    """Tests every signal of a model's spans against its reference. Holds no state between spans but prepared references."""

    def __init__(self, reference: Reference, rules: Rules, latency_slo_ms: float | None = None) -> None:
        self.reference = reference
        self.rules = rules
        self.layout = reference.layout
        self.latency_slo_ms = latency_slo_ms
        self.subjects: list[Feature] = [
            *reference.features,
            *([reference.score] if reference.score is not None else []),
        ]
        self.sections = [f"feature:{feature.name}" for feature in reference.features] + (
            ["score"] if reference.score is not None else []
        )
        self.names = [subject_of(feature.name) for feature in reference.features] + (
            ["score"] if reference.score is not None else []
        )
        self.width = max((feature.group_count for feature in self.subjects), default=1)
        slots, places = [], []
        for at, (feature, section) in enumerate(zip(self.subjects, self.sections, strict=True)):
            slots.append(np.arange(self.layout.slots[section].start, self.layout.slots[section].stop))
            places.append(at * self.width + feature.groups)
        self.slots = np.concatenate(slots) if slots else np.empty(0, np.int64)
        self.places = np.concatenate(places) if places else np.empty(0, np.int64)
        features = self.subjects
        starts = np.array([self.layout.offset(section) for section in self.sections], dtype=np.int64)
        self.missing = starts + np.array([feature.bins.missing for feature in features], dtype=np.int64)
        self.invalid = starts + np.array([feature.bins.invalid for feature in features], dtype=np.int64)
        self.numeric = [at for at, feature in enumerate(reference.features) if feature.kind == "numeric"]
        self.z = np.array(
            [self.layout.offset(f"z:{reference.features[at].name}") for at in self.numeric], dtype=np.int64
        )
        self.zz = np.array(
            [self.layout.offset(f"zz:{reference.features[at].name}") for at in self.numeric], dtype=np.int64
        )
        self.categorical = [
            (at, int(starts[at] + feature.bins.new))
            for at, feature in enumerate(reference.features)
            if isinstance(feature.bins, CategoryBins) and feature.bins.complete
        ]
        self.absent = np.array(
            [self.layout.offset(f"absent:{feature.name}") for feature in reference.features], dtype=np.int64
        )
        self.psi_limits = [rules.score_psi if section == "score" else rules.psi for section in self.sections]
        self.psi_warn = np.array([limits.warn for limits in self.psi_limits])
        self.slow = LATENCY_MS.middles() > (latency_slo_ms if latency_slo_ms is not None else math.inf)
        self._baselines: dict[str | None, Baseline | None] = {}
        self._tests = self._count_tests()

    def _count_tests(self) -> int:
        return len(self.subjects) * 4 + len(self.numeric) + len(self.absent) + 10

    @property
    def tests(self) -> int:
        """How many signals one look at one cell tests: the budget is shared among them."""
        return self._tests

    def baseline(self, segment: str | None) -> Baseline | None:
        """The prepared reference of a segment; None where the reference has no row of it."""
        if segment not in self._baselines:
            vector = self.reference.cell(segment)
            self._baselines[segment] = (
                self.prepare(vector) if vector is not None and self.layout.one(vector, "rows") > 0 else None
            )
        return self._baselines[segment]

    def prepare(self, vector: Vector) -> Baseline:
        layout = self.layout
        groups = self.grouped(vector)
        totals = np.maximum(groups.sum(axis=1), 1)
        missing, invalid = vector[self.missing], vector[self.invalid]
        valid = (
            np.maximum(groups[self.numeric].sum(axis=1) - missing[self.numeric] - invalid[self.numeric], 1.0)
            if self.numeric
            else np.empty(0)
        )
        mean = vector[self.z] / valid
        sd = np.sqrt(np.maximum(vector[self.zz] / valid - mean**2, 1e-12))
        rows = layout.one(vector, "rows")
        score_valid = max(rows, 1.0)
        score_mean = layout.one(vector, "score_sum") / score_valid
        score_sd = max(layout.one(vector, "score_squares") / score_valid - score_mean**2, 1e-12) ** 0.5
        positives = negatives = 0.0
        auc = auc_se = float("nan")
        calibration = label_noise = None
        shares = {"out_of_distribution_rate": (layout.one(vector, "out_of_distribution"), rows)}
        shares["extra"] = (layout.one(vector, "extra"), rows)
        shares["output_collapse"] = (float(layout.part(vector, "collapse").max()), rows)
        if self.reference.task == "binary":
            pos, neg = layout.part(vector, "positives"), layout.part(vector, "negatives")
            positives, negatives = float(pos.sum()), float(neg.sum())
            if positives > 1 and negatives > 1:
                auc = float(auc_from_histograms(pos, neg).value)
                auc_se = float(hanley_mcneil_se(auc, positives, negatives))
            tn, fp, fn, tp = layout.part(vector, "confusion").tolist()
            shares["accuracy"] = (tn + tp, tn + fp + fn + tp)
            shares["false_negative_rate"] = (fn, fn + tp)
            shares["label_rate"] = (positives, positives + negatives)
            if self.reference.score is not None and positives + negatives > 0:
                ordered = self.reference.score.bins.ordered
                hits, labelled = (
                    layout.part(vector, "labelled_positives")[:ordered],
                    layout.part(vector, "labelled")[:ordered],
                )
                calibration = calibration_map(hits, labelled - hits)
                steady = (calibration.share * calibration.weight + 0.5) / (calibration.weight + 1.0)
                label_noise = steady * (1.0 - steady)
        elif self.reference.task == "multiclass":
            width = len(self.reference.classes) + 1
            matrix = layout.part(vector, "confusion").reshape(width, width)
            shares["accuracy"] = (float(np.trace(matrix[: width - 1, : width - 1])), float(matrix.sum()))
        limits = {
            name: (k / n, float(lower_limit(k, n, LIMIT_ALPHA)), float(upper_limit(k, n, LIMIT_ALPHA)))
            for name, (k, n) in shares.items()
            if n > 0
        }
        return Baseline(
            vector=vector,
            groups=groups,
            occupied=groups > 0,
            rows=rows,
            null_limits=(lower_limit(missing, totals, LIMIT_ALPHA), upper_limit(missing, totals, LIMIT_ALPHA)),
            invalid_limits=(lower_limit(invalid, totals, LIMIT_ALPHA), upper_limit(invalid, totals, LIMIT_ALPHA)),
            null_share=missing / totals,
            invalid_share=invalid / totals,
            mean_z=mean,
            sd_z=sd,
            valid=valid,
            score_mean=score_mean,
            score_sd=score_sd,
            score_valid=score_valid,
            positives=positives,
            negatives=negatives,
            auc=auc,
            auc_se=auc_se,
            calibration=calibration,
            label_noise=label_noise,
            pooled=PooledPsi(groups),
            limits=limits,
        )

    def grouped(self, vector: Vector) -> npt.NDArray[np.int64]:
        """Counts of every subject by coarse group, [subjects, widest group count]."""
        counted = np.bincount(self.places, weights=vector[self.slots], minlength=len(self.subjects) * self.width)
        return np.rint(np.maximum(counted, 0.0)).astype(np.int64).reshape(len(self.subjects), self.width)

    # -- one look --------------------------------------------------------------------------------------------------------------

    def findings(
        self, vector: Vector, baseline: Baseline, alpha: float, *, minimum: int | None = None
    ) -> list[Finding]:
        """Every signal of the span that passes both doors. `alpha` holds for each test; `minimum` rows default to the rules'."""
        least = self.rules.minimum_rows if minimum is None else minimum
        disabled = self.rules.disabled
        found: list[Finding] = []
        rows = self.layout.one(vector, "rows")
        if rows >= least:
            found += self._data(vector, baseline, alpha, rows)
        outcomes = self.layout.one(vector, "outcomes")
        if outcomes >= least:
            found += self._outcome(vector, baseline, alpha, outcomes)
        return [finding for finding in found if finding.signal not in disabled] if disabled else found

    def _data(self, vector: Vector, base: Baseline, alpha: float, rows: float) -> Iterator[Finding]:
        rules = self.rules
        log_alpha = math.log(alpha)
        subjects = len(self.subjects)
        if subjects:
            live = self.grouped(vector)
            totals = np.maximum(live.sum(axis=1), 1)
            yield from self._divergences(live, totals, base, alpha)
            yield from self._special(
                "null_rate", vector[self.missing], totals, base.null_share, base.null_limits, rules.null_rate, log_alpha
            )
            yield from self._special(
                "invalid_rate",
                vector[self.invalid],
                totals,
                base.invalid_share,
                base.invalid_limits,
                rules.invalid_rate,
                log_alpha,
            )
            yield from self._means(vector, live, base, log_alpha)
            for at, slot in self.categorical:
                k = vector[slot]
                if k > 0:
                    # Against the whole reference, never a small segment's: there a known value may simply not have come.
                    everything = self.baseline(None)
                    m = everything.rows if everything is not None else base.rows
                    yield from self._share(
                        "new_category_rate",
                        self.names[at],
                        "data",
                        k,
                        totals[at],
                        (0.0, 0.0, 1 - LIMIT_ALPHA ** (1 / max(m, 1))),
                        rules.new_category_rate,
                        log_alpha,
                    )
            for at in np.flatnonzero(vector[self.absent] > 0).tolist():
                limits = (0.0, 0.0, float(upper_limit(0, base.rows, LIMIT_ALPHA)))
                yield from self._share(
                    "absent_rate",
                    self.names[at],
                    "schema",
                    vector[self.absent[at]],
                    rows,
                    limits,
                    rules.schema_rate,
                    log_alpha,
                )
            extra = self.layout.one(vector, "extra")
            if extra:
                yield from self._share(
                    "extra_feature_rate",
                    None,
                    "schema",
                    extra,
                    rows,
                    base.limits["extra"],
                    rules.schema_rate,
                    log_alpha,
                )
            out = self.layout.one(vector, "out_of_distribution")
            yield from self._share(
                "out_of_distribution_rate",
                None,
                "data",
                out,
                rows,
                base.limits["out_of_distribution_rate"],
                rules.out_of_distribution_rate,
                log_alpha,
            )
        top = float(self.layout.part(vector, "collapse").max())
        if top > rules.output_collapse.warn * rows:
            reference = base.limits["output_collapse"]
            if reference[0] < rules.output_collapse.warn / 2:
                log_p = float(binomial_log_tail(top, rows, reference[2]))
                if log_p <= log_alpha:
                    yield self._finding(
                        "output_collapse",
                        "score",
                        "model",
                        top / rows,
                        reference[0],
                        rows,
                        rules.output_collapse,
                        reference[2],
                        log_p,
                        top / rows,
                    )
        if self.latency_slo_ms is not None:
            counted = self.layout.part(vector, "latency")
            slow = float(counted[self.slow].sum())
            timed = float(counted.sum())
            if timed >= rules.minimum_rows and slow > 0.01 * timed:
                log_p = float(binomial_log_tail(slow, timed, 0.01))
                if log_p <= log_alpha:
                    yield self._finding(
                        "latency_over_slo",
                        "latency_ms",
                        "model",
                        slow / timed,
                        0.01,
                        timed,
                        Limits(warn=0.01, critical=0.05),
                        0.01,
                        log_p,
                        slow / timed,
                    )

    def _divergences(
        self, live: npt.NDArray[np.int64], totals: npt.NDArray[np.int64], base: Baseline, alpha: float
    ) -> Iterator[Finding]:
        n = int(totals[0])
        if (totals != n).any():
            return  # a row counts once for every subject; where it did not, a layout is mixed up and shares mean nothing
        shift = base.pooled.shift(live, n, alpha)
        suspects = np.flatnonzero((shift.psi > shift.floor) & (shift.debiased >= self.psi_warn))
        if not len(suspects):
            return
        plain = self._plain_psi(live, base)
        for at in suspects.tolist():
            if plain[at] >= self.psi_warn[at]:
                layer: Layer = "model" if self.sections[at] == "score" else "data"
                floor, effect = float(shift.floor[at]), float(shift.debiased[at])
                yield self._finding(
                    "psi",
                    self.names[at],
                    layer,
                    float(plain[at]),
                    0.0,
                    n,
                    self.psi_limits[at],
                    floor,
                    shift.log_p(at),
                    effect,
                )

    @staticmethod
    def _plain_psi(live: npt.NDArray[np.int64], base: Baseline) -> npt.NDArray[np.float64]:
        """`detectors.divergence.psi` of all subjects, without its checks: for people, before rare bins are pooled."""
        used = (live > 0) | base.occupied
        a, b = (live + 0.5) * used, (base.groups + 0.5) * used
        a /= np.maximum(a.sum(axis=1, keepdims=True), 1.0)
        b /= np.maximum(b.sum(axis=1, keepdims=True), 1.0)
        ratio = np.divide(a, b, out=np.ones_like(a), where=used)
        total: npt.NDArray[np.float64] = ((a - b) * np.log(ratio)).sum(axis=1)
        return total

    def _special(
        self,
        signal: str,
        counted: Vector,
        totals: npt.NDArray[np.int64],
        shares: npt.NDArray[np.float64],
        limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
        rule: Limits,
        log_alpha: float,
    ) -> Iterator[Finding]:
        delta = counted / totals - shares
        for at in np.flatnonzero(np.abs(delta) >= rule.warn).tolist():
            triple = (float(shares[at]), float(limits[0][at]), float(limits[1][at]))
            layer: Layer = "model" if self.sections[at] == "score" else "data"
            yield from self._share(
                signal,
                self.names[at],
                layer,
                float(counted[at]),
                float(totals[at]),
                triple,
                rule,
                log_alpha,
                two_sided=True,
            )

    def _share(
        self,
        signal: str,
        subject: str | None,
        layer: Layer,
        k: float,
        n: float,
        limits: tuple[float, float, float],
        rule: Limits,
        log_alpha: float,
        *,
        two_sided: bool = False,
        side: str = "upper",
    ) -> Iterator[Finding]:
        reference, low, high = limits
        delta = k / n - reference
        effect = abs(delta) if two_sided else (delta if side == "upper" else -delta)
        if effect < rule.warn:
            return
        rises = delta > 0
        bound = high if rises else low
        if share_is_likely(k, n, bound, log_alpha):
            return
        log_p = float(binomial_log_tail(k, n, bound, "upper" if rises else "lower"))
        if two_sided:
            log_p = min(log_p + math.log(2.0), 0.0)
        if log_p <= log_alpha:
            yield self._finding(signal, subject, layer, k / n, reference, n, rule, bound, log_p, effect)

    def _means(
        self, vector: Vector, live: npt.NDArray[np.int64], base: Baseline, log_alpha: float
    ) -> Iterator[Finding]:
        rules = self.rules
        if self.numeric:
            special = vector[self.missing][self.numeric] + vector[self.invalid][self.numeric]
            valid = live[self.numeric].sum(axis=1) - special
            enough = valid >= rules.minimum_rows
            count = np.where(enough, valid, 1.0)
            mean = vector[self.z] / count
            shift = np.abs(mean - base.mean_z) / base.sd_z
        if self.numeric and (enough & (shift >= rules.mean_shift.warn)).any():
            variance = np.maximum(vector[self.zz] / count - mean**2, 0.0)
            error = np.sqrt(variance / count + base.sd_z**2 / base.valid) / base.sd_z
            with np.errstate(divide="ignore", invalid="ignore"):
                log_p = normal_log_p(np.where(error > 0, shift / error, np.where(shift > 0, 1e3, 0.0)))
            for place in np.flatnonzero(enough & (shift >= rules.mean_shift.warn) & (log_p <= log_alpha)).tolist():
                at = self.numeric[place]
                feature = self.reference.features[at]
                yield self._finding(
                    "mean_shift",
                    self.names[at],
                    "data",
                    feature.center + feature.scale * float(mean[place]),
                    feature.center + feature.scale * float(base.mean_z[place]),
                    float(valid[place]),
                    rules.mean_shift,
                    3 * float(error[place]),
                    float(log_p[place]),
                    float(shift[place]),
                )
        rows = self.layout.one(vector, "rows")
        if self.reference.score is not None and rows:
            mean_score = self.layout.one(vector, "score_sum") / rows
            variance_score = max(self.layout.one(vector, "score_squares") / rows - mean_score**2, 0.0)
            moved = abs(mean_score - base.score_mean) / base.score_sd
            spread = (variance_score / rows + base.score_sd**2 / base.score_valid) ** 0.5 / base.score_sd
            if moved >= rules.score_mean_shift.warn and spread > 0:
                p = float(normal_log_p(moved / spread))
                if p <= log_alpha:
                    yield self._finding(
                        "mean_shift",
                        "score",
                        "model",
                        mean_score,
                        base.score_mean,
                        rows,
                        rules.score_mean_shift,
                        3 * spread,
                        p,
                        moved,
                    )

    # -- outcomes --------------------------------------------------------------------------------------------------------------

    def _outcome(self, vector: Vector, base: Baseline, alpha: float, outcomes: float) -> Iterator[Finding]:
        task = self.reference.task
        log_alpha = math.log(alpha)
        if task == "binary":
            yield from self._binary(vector, base, alpha, log_alpha)
        elif task == "multiclass" and "accuracy" in base.limits:
            width = len(self.reference.classes) + 1
            matrix = self.layout.part(vector, "confusion").reshape(width, width)
            right, total = float(np.trace(matrix[: width - 1, : width - 1])), float(matrix.sum())
            if total >= self.rules.minimum_rows:
                yield from self._share(
                    "accuracy",
                    None,
                    "outcome",
                    right,
                    total,
                    base.limits["accuracy"],
                    self.rules.accuracy,
                    log_alpha,
                    side="lower",
                )
        elif task == "regression":
            yield from self._regression(vector, base, log_alpha, outcomes)

    def _binary(self, vector: Vector, base: Baseline, alpha: float, log_alpha: float) -> Iterator[Finding]:
        rules, layout = self.rules, self.layout
        pos, neg = np.maximum(layout.part(vector, "positives"), 0), np.maximum(layout.part(vector, "negatives"), 0)
        p, n = float(pos.sum()), float(neg.sum())
        total = p + n
        if total < rules.minimum_rows or base.positives + base.negatives == 0:
            return
        least = rules.minimum_per_class
        if min(p, n) >= least and math.isfinite(base.auc):
            auc = auc_from_histograms(pos, neg)
            drop = base.auc - (float(auc.value) + float(auc.bound))
            if drop >= rules.auc.warn:
                error = (float(hanley_mcneil_se(base.auc, p, n)) ** 2 + base.auc_se**2) ** 0.5
                log_p = float(normal_log_p(drop / error, "upper"))
                if drop > 3 * error and log_p <= log_alpha:
                    yield self._finding(
                        "auc", None, "outcome", float(auc.value), base.auc, total, rules.auc, 3 * error, log_p, drop
                    )
        tn, fp, fn, tp = np.maximum(layout.part(vector, "confusion"), 0).tolist()
        if tn + fp + fn + tp >= rules.minimum_rows and "accuracy" in base.limits:
            yield from self._share(
                "accuracy",
                None,
                "outcome",
                tn + tp,
                tn + fp + fn + tp,
                base.limits["accuracy"],
                rules.accuracy,
                log_alpha,
                side="lower",
            )
        if fn + tp >= least and "false_negative_rate" in base.limits:
            yield from self._share(
                "false_negative_rate",
                None,
                "outcome",
                fn,
                fn + tp,
                base.limits["false_negative_rate"],
                rules.false_negative_rate,
                log_alpha,
            )
        yield from self._share(
            "label_rate",
            "label",
            "outcome",
            p,
            total,
            base.limits["label_rate"],
            rules.label_rate,
            log_alpha,
            two_sided=True,
        )
        parts = [np.maximum(layout.part(vector, f"calibration_{name}"), 0) for name in ("rows", "scores", "positives")]
        rough = float(np.abs(parts[1] - parts[2]).sum()) / max(float(parts[0].sum()), 1.0)
        if rough >= rules.ece.warn:
            yield from self._calibration(parts, base, alpha, log_alpha, total)
        if base.calibration is not None and self.reference.score is not None:
            yield from self._departure(vector, base, log_alpha)

    def _calibration(
        self, parts: list[Vector], base: Baseline, alpha: float, log_alpha: float, total: float
    ) -> Iterator[Finding]:
        rules, layout = self.rules, self.layout
        rows, scores, positives = parts
        # The ECE itself, short of rounding, against its floor: the rest is worked out for those that pass.
        if float(np.abs(scores - positives).sum()) <= (1 - SLACK) * float(rows.sum()) * calibration_floor(
            rows, scores, alpha
        ):
            return
        calibration = expected_calibration_error(rows, scores, positives, alpha)
        excess = float(calibration.debiased)
        base_parts = [layout.part(base.vector, f"calibration_{name}") for name in ("rows", "scores", "positives")]
        usual = (
            max(float(expected_calibration_error(base_parts[0], base_parts[1], base_parts[2], 0.5).debiased), 0.0)
            if excess >= rules.ece.warn
            else 0.0
        )
        if excess - usual >= rules.ece.warn and float(calibration.ece) > float(calibration.floor) + usual:
            yield self._finding(
                "ece",
                None,
                "outcome",
                float(calibration.ece),
                usual,
                total,
                rules.ece,
                float(calibration.floor),
                log_alpha,
                excess - usual,
            )

    def _departure(self, vector: Vector, base: Baseline, log_alpha: float) -> Iterator[Finding]:
        """Realised positives against what the same scores promised in the reference: the sign of concept drift."""
        assert self.reference.score is not None
        assert base.calibration is not None
        assert base.label_noise is not None
        layout, rule = self.layout, self.rules.realised_minus_estimated
        ordered = self.reference.score.bins.ordered
        labelled = np.maximum(layout.part(vector, "labelled")[:ordered], 0)
        hits, n = float(layout.part(vector, "labelled_positives")[:ordered].sum()), float(labelled.sum())
        miss = abs(hits - float(labelled @ base.calibration.share))
        if n <= 0 or miss < rule.warn * n or departure_is_likely(miss, float(labelled @ base.label_noise), log_alpha):
            return
        gap = positives_departure(hits, labelled, base.calibration)
        if float(gap.log_p) <= log_alpha:
            yield self._finding(
                "realised_minus_estimated",
                "label",
                "outcome",
                float(gap.realised),
                float(gap.estimated),
                n,
                rule,
                3 * float(gap.se),
                float(gap.log_p),
                abs(float(gap.delta)),
            )

    def _regression(self, vector: Vector, base: Baseline, log_alpha: float, outcomes: float) -> Iterator[Finding]:
        layout, rule = self.layout, self.rules.mean_absolute_error
        before = layout.one(base.vector, "outcomes")
        if before < self.rules.minimum_rows:
            return
        mean, usual = (
            layout.one(vector, "absolute_error") / outcomes,
            layout.one(base.vector, "absolute_error") / before,
        )
        if usual <= 0:
            return
        growth = mean / usual - 1.0
        variance = max(layout.one(vector, "squared_error") / outcomes - mean**2, 0.0)
        usual_variance = max(layout.one(base.vector, "squared_error") / before - usual**2, 0.0)
        error = (variance / outcomes + usual_variance / before) ** 0.5 / usual
        if growth >= rule.warn and error > 0:
            log_p = float(normal_log_p(growth / error, "upper"))
            if log_p <= log_alpha:
                yield self._finding(
                    "mae", None, "outcome", mean, usual, outcomes, rule, 3 * error * usual, log_p, growth
                )

    def _finding(
        self,
        signal: str,
        subject: str | None,
        layer: Layer,
        value: float,
        reference: float,
        n: float,
        limits: Limits,
        floor: float,
        log_p: float,
        effect: float,
    ) -> Finding:
        return Finding(
            signal,
            subject,
            layer,
            float(value),
            float(reference),
            round(float(n)),
            limits.warn,
            limits.critical,
            float(floor),
            float(log_p) / LN10,
            float(effect) / limits.warn,
        )
