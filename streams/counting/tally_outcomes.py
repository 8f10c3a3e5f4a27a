"""What a joined row counts for: class histograms, confusion, losses, delays, business values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.auc import score_bins
from streams.counting.layout import AGE_EDGES_S, CALIBRATION_BINS, CLASS_BINS
from streams.counting.log_bins import DELAY_S
from streams.counting.measure import Floats, log_loss
from streams.counting.references import Reference
from streams.counting.tally import Indices, Tally

LARGEST_ERROR = 1e70  # the fourth power of a larger error is no double, and one infinity would swallow every later sum


class JoinedRows(NamedTuple):
    """Columns of n rows whose labels count; NaN where something is not known.

    `label` is 0 or 1, a class index or a value; `predicted` the same of the answer. `age` is the bin of the first label's delay
    (`AGE_EDGES_S`), -1 where it is not known: a correction counts under the delay of the label that it corrects.
    """

    score: Floats
    predicted: Floats
    label: Floats
    age: npt.NDArray[np.int64]
    score_codes: npt.NDArray[np.uint8] | None = None
    class_scores: npt.NDArray[np.float32] | None = None

    def of(self, chosen: npt.NDArray[np.bool_]) -> JoinedRows:
        """The rows that `chosen` [n] names."""
        return JoinedRows(
            self.score[chosen],
            self.predicted[chosen],
            self.label[chosen],
            self.age[chosen],
            None if self.score_codes is None else self.score_codes[chosen],
            None if self.class_scores is None else self.class_scores[chosen],
        )


def age_bins(delay_s: Floats) -> npt.NDArray[np.int64]:
    """The bin of each delay; a label that came before its prediction has the first, NaN has none (-1)."""
    bins = np.searchsorted(np.asarray(AGE_EDGES_S), delay_s, side="right") - 1
    return np.where(np.isnan(delay_s), -1, np.clip(bins, 0, len(AGE_EDGES_S) - 2)).astype(np.int64)


def tally_outcomes(tally: Tally, rows: Indices, joined: JoinedRows, reference: Reference, sign: float = 1.0) -> None:
    """What joined rows say. `sign` -1 takes old labels back."""
    if not len(rows):
        return
    if reference.task == "regression":
        _tally_values(tally, rows, joined, reference.truth_center, sign)
    elif reference.task == "multiclass":
        _tally_classes(tally, rows, joined, sign)
    else:
        _tally_binary(tally, rows, joined, sign)


def _tally_values(tally: Tally, rows: Indices, joined: JoinedRows, center: float, sign: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        error, truth = joined.predicted - joined.label, joined.label - center
    usable = (np.abs(error) <= LARGEST_ERROR) & (np.abs(truth) <= LARGEST_ERROR)
    rows, error, truth = rows[usable], error[usable], truth[usable]
    square = error**2
    tally.one("error_rows", rows, sign)
    tally.one("truth_rows", rows, sign)
    for name, values in (
        ("error", error),
        ("absolute_error", np.abs(error)),
        ("squared_error", square),
        ("squared_error_squares", square**2),
        ("truth", truth),
        ("truth_squares", truth**2),
    ):
        tally.one(name, rows, sign * values)
    rows, age = _aged(tally, rows, joined.age[usable], sign)
    aged = joined.age[usable] >= 0
    tally.add(rows, tally.layout.offset("aged_error") + age, sign * np.abs(error[aged]))
    tally.add(rows, tally.layout.offset("aged_error_squares") + age, sign * square[aged])


def _tally_binary(tally: Tally, rows: Indices, joined: JoinedRows, sign: float) -> None:
    layout = tally.layout
    usable = (joined.score >= 0.0) & (joined.score <= 1.0)
    if not usable.all():
        rows, joined = rows[usable], joined.of(usable)
    score, predicted, label = joined.score, joined.predicted, joined.label
    positive = label == 1.0
    bins = score_bins(score)
    tally.add(rows, np.where(positive, layout.offset("positives"), layout.offset("negatives")) + bins, sign)
    known = np.isfinite(predicted)
    square = 2 * positive[known].astype(np.int64) + predicted[known].astype(np.int64)
    tally.add(rows[known], layout.offset("confusion") + square, sign)
    _tally_calibration(tally, rows, score, positive, sign)
    if joined.score_codes is not None:
        codes = joined.score_codes.astype(np.int64)
        chosen = predicted == 1.0
        tally.add(rows, layout.offset("labelled") + codes, sign)
        tally.add(rows[positive], layout.offset("labelled_positives") + codes[positive], sign)
        tally.add(rows[chosen], layout.offset("labelled_chosen") + codes[chosen], sign)
    _tally_losses(tally, rows, log_loss(np.where(positive, score, 1.0 - score)), (score - label) ** 2, sign)
    if not known.all():
        rows, joined, positive = rows[known], joined.of(known), positive[known]
    wrong = joined.predicted != joined.label
    dated = joined.age >= 0
    tally.add(rows[dated & positive], layout.offset("aged_positives") + joined.age[dated & positive], sign)
    _tally_errors(tally, rows, joined.age, wrong, sign)


def _tally_classes(tally: Tally, rows: Indices, joined: JoinedRows, sign: float) -> None:
    layout = tally.layout
    width = len(layout.classes) + 1
    known = np.isfinite(joined.predicted) & np.isfinite(joined.label)
    if not known.all():
        rows, joined = rows[known], joined.of(known)
    given, truth_at = joined.predicted.astype(np.int64), joined.label.astype(np.int64)
    tally.add(rows, layout.offset("confusion") + truth_at * width + given, sign)
    _tally_errors(tally, rows, joined.age, (given != truth_at) | (truth_at == width - 1), sign)
    if joined.class_scores is None or not layout.classes:
        return
    shares = joined.class_scores.astype(np.float64)
    scored = ((shares >= 0.0) & (shares <= 1.0)).all(axis=1)
    if not scored.all():
        rows, shares, given, truth_at = rows[scored], shares[scored], given[scored], truth_at[scored]
    inside = truth_at < width - 1
    truth = np.where(inside, shares[np.arange(len(truth_at)), np.minimum(truth_at, width - 2)], 0.0)
    one_hot = (np.arange(width - 1) == truth_at[:, None]).astype(np.float64)
    tally.one("scored_rows", rows, sign)
    _tally_losses(tally, rows, log_loss(truth), ((shares - one_hot) ** 2).sum(axis=1), sign)
    named = given < width - 1
    promise = shares[named, given[named]]
    _tally_calibration(tally, rows[named], promise, given[named] == truth_at[named], sign)
    if layout.ranked:
        bins = np.arange(width - 1) * CLASS_BINS + score_bins(shares, CLASS_BINS)
        member = one_hot == 1.0
        at, cls = np.nonzero(member)
        tally.add(rows[at], layout.offset("class_members") + bins[at, cls], sign)
        at, cls = np.nonzero(~member)
        tally.add(rows[at], layout.offset("class_others") + bins[at, cls], sign)


def _tally_calibration(tally: Tally, rows: Indices, promise: Floats, hit: npt.NDArray[np.bool_], sign: float) -> None:
    """Ten bins of what was promised: of a class model the probability of the class that it chose."""
    layout = tally.layout
    tenth = np.minimum((promise * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    tally.add(rows, layout.offset("calibration_rows") + tenth, sign)
    tally.add(rows[hit], layout.offset("calibration_positives") + tenth[hit], sign)
    tally.add(rows, layout.offset("calibration_scores") + tenth, sign * promise)


def _tally_losses(tally: Tally, rows: Indices, nats: Floats, square: Floats, sign: float) -> None:
    for name, loss in (("log_loss", nats), ("squared_loss", square)):
        tally.one(name, rows, sign * loss)
        tally.one(f"{name}_squares", rows, sign * loss**2)


def _tally_errors(
    tally: Tally, rows: Indices, age: npt.NDArray[np.int64], wrong: npt.NDArray[np.bool_], sign: float
) -> None:
    wrong = wrong & (age >= 0)
    _aged(tally, rows, age, sign)
    tally.add(rows[wrong], tally.layout.offset("aged_errors") + age[wrong], sign)


def _aged(
    tally: Tally, rows: Indices, age: npt.NDArray[np.int64], sign: float
) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Counts the rows whose delay is known by its bin, and returns them."""
    dated = age >= 0
    rows, age = rows[dated], age[dated]
    tally.add(rows, tally.layout.offset("aged") + age, sign)
    return rows, age


def tally_delays(tally: Tally, rows: Indices, delay_s: Floats) -> None:
    """How long labels took."""
    tally.add(rows, tally.layout.offset("delay") + DELAY_S.assign(np.maximum(delay_s, 0.0)))


def tally_business(tally: Tally, rows: Indices, values: Sequence[Mapping[str, float] | None], sign: float) -> None:
    """The business values that labels state; `sign` -1 takes back what a corrected label had said."""
    if not any(values):
        return
    for name in tally.layout.business:
        at = [
            position for position, given in enumerate(values) if given and abs(given.get(name, np.inf)) <= LARGEST_ERROR
        ]
        if at:
            amounts = np.array([given[name] for position in at if (given := values[position])])
            tally.one(f"value_rows:{name}", rows[at], sign)
            tally.one(f"value:{name}", rows[at], sign * amounts)
            tally.one(f"value_squares:{name}", rows[at], sign * amounts**2)
