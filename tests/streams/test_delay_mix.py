"""Errors at the same age and errors weighted by the reference's delays, against pandas on the raw rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streams.backtest.report import figure_rows
from streams.counting.delay_mix import LEAST_AGED
from streams.counting.layout import AGE_EDGES_S
from streams.counting.tally_outcomes import age_bins
from tests.streams.test_outcome_signals import backtest, binary, reference, values


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_errors_by_delay_are_those_of_the_raw_rows(task: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(31)
    base, frame = (binary if task == "binary" else values)(rng, 3000), reference(task, 3000)
    rows = (binary if task == "binary" else values)(rng, 500)
    # Late labels are the hard ones; of the live rows more are early than in the reference.
    for row in [*base, *rows]:
        hard = abs(row["score"] - 0.5) < 0.25 if task == "binary" else row["label"] > 500
        row["delay"] = float(rng.exponential(4000.0 if hard else 400.0))
    for name in ("score", "label"):
        frame[name] = [row[name] for row in base]
    frame["label_delay_s"] = [row["delay"] for row in base]
    frame["value__conversion"] = (rng.random(len(base)) < 0.4).astype(float)
    made = backtest(rows, frame, tmp_path, every_s=5.0, business=("conversion",) if task == "binary" else ())
    (judge,) = made.judge.models.values()
    shown = {
        (row["signal"], row["subject"]): row
        for row in figure_rows(judge)
        if (row["model_version"], row["segment"], row["window_start"], row["axis"]) == (None, None, None, "cohort")
    }

    def table(source: list[dict[str, object]]) -> pd.DataFrame:
        told = pd.DataFrame(source)
        told = told[told["delay"] <= 7200.0] if source is rows else told
        wrong = (
            (told["score"] >= 0.5) != (told["label"] == 1)
            if task == "binary"
            else (told["score"] - told["label"]).abs()
        )
        return pd.DataFrame(
            {"loss": wrong.astype(float), "bin": np.searchsorted(AGE_EDGES_S, told["delay"], "right") - 1}
        )

    live, usual = table(rows).groupby("bin")["loss"], table(base).groupby("bin")["loss"]
    known = [at for at in live.groups if usual.size().get(at, 0) >= LEAST_AGED]
    n = live.size()[known]
    name = "error_rate" if task == "binary" else "mae"
    row = shown[f"{name}_same_age", None]
    assert row["value"] == pytest.approx(live.sum()[known].sum() / n.sum(), rel=1e-9)
    assert row["reference"] == pytest.approx((usual.mean()[known] * n).sum() / n.sum(), rel=1e-9)
    assert row["n"] == n.sum()
    weight = usual.size()[[at for at in live.groups if live.size()[at] >= 2]]
    row = shown[f"{name}_coverage_weighted", None]
    assert row["value"] == pytest.approx((live.mean()[weight.index] * weight).sum() / weight.sum(), rel=1e-9)
    share = shown[f"{name}_coverage_weighted_share", None]["value"]
    assert share == pytest.approx(weight.sum() / len(base), rel=1e-9)
    assert share < 1
    if task == "binary":
        stated = [row["values"]["conversion"] for row in rows if row["delay"] <= 7200.0]
        lift = np.mean(stated) / frame["value__conversion"].mean() - 1
        assert shown["business_lift", "conversion"]["value"] == pytest.approx(lift, rel=1e-9)


def test_the_bin_of_a_delay_is_the_doubling_of_a_minute_that_it_lies_in() -> None:
    delays = np.array([-5.0, 0.0, 59.0, 60.0, 119.0, 120.0, 31 * 86_400.0, np.nan, 1e12])
    assert age_bins(delays).tolist() == [0, 0, 0, 1, 1, 2, 16, -1, 16]
