"""Every rule of the outcome layer speaks when its fault comes, through observer and judge, and is silent on clean rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leadline.config import Config, ConfigError, Join, Model, Panes, Rules, parse_config
from streams.backtest.backtest import Backtest
from streams.backtest.report import figure_rows
from streams.core.stage import Record
from streams.judge.incidents import Incident
from streams.judge.views import Views

START = 1_735_689_600.0
Row = dict[str, Any]
"""Fields of a prediction, and under `label`, `values`, `definition` what its label says."""


def backtest(
    rows: list[Row],
    reference: pd.DataFrame | None,
    folder: Path,
    *,
    every_s: float = 10.0,
    rules: Rules | None = None,
    **model: Any,
) -> Backtest:
    path = None
    if reference is not None:
        path = folder / "reference.csv"
        reference.to_csv(path, index=False)
    panes = Panes(pane=60.0, longest_span=86_400.0)
    config = Config(
        panes=panes,
        join=Join(delay_window=7200.0),
        rules=rules or Rules(),
        models={"m": Model(reference=path, **model)},
    )
    made = Backtest(config)
    arrived: list[tuple[float, str, dict[str, Any]]] = []
    for at, row in enumerate(rows):
        when = START + at * every_s
        told = {name: row[name] for name in ("label", "values") if name in row}
        body = {name: value for name, value in row.items() if name not in ("label", "values", "definition", "delay")}
        key = {"request_id": f"q{at}"}
        arrived.append((when, "predictions", {**key, "model_id": "m", "model_version": "1", "timestamp": when, **body}))
        if "label" in row:
            said = when + row.get("delay", 30.0)
            named = {"definition_version": row["definition"]} if "definition" in row else {}
            arrived.append((said, "labels", {**key, **told, **named, "timestamp": said}))
    arrived.sort(key=lambda item: item[0])

    def records() -> Iterator[tuple[str, Record]]:
        for at, (_, source, body) in enumerate(arrived):
            yield source, Record(at, body["request_id"].encode(), json.dumps(body).encode(), 2e9)

    made.feed(records())
    return made


def incidents(made: Backtest) -> list[Incident]:
    (judge,) = made.judge.models.values()
    return sorted([*judge.resolved, *judge.incidents], key=lambda incident: incident.opened_at)


def signals(made: Backtest) -> set[tuple[str, str | None]]:
    return {row.finding.key for incident in incidents(made) for row in incident.evidence}


# -- rows ------------------------------------------------------------------------------------------------------------------


def binary(rng: np.random.Generator, n: int) -> list[Row]:
    score = rng.beta(1.2, 1.2, n)
    return [
        {"score": float(s), "label": int(y), "segments": {"site": str(site)}, "values": {"conversion": float(v)}}
        for s, y, site, v in zip(
            score, rng.random(n) < score, rng.choice(["a", "b"], n), rng.random(n) < 0.4, strict=True
        )
    ]


def classes(rng: np.random.Generator, n: int) -> list[Row]:
    p = rng.dirichlet([0.5, 0.7, 0.6], n)
    truth = [int(rng.choice(3, p=row)) for row in p]
    names = ["x", "y", "z"]
    return [
        {"score": dict(zip(names, row, strict=True)), "label": names[t]}
        for row, t in zip(p.tolist(), truth, strict=True)
    ]


def values(rng: np.random.Generator, n: int) -> list[Row]:
    truth = rng.normal(500.0, 100.0, n)
    return [{"score": float(t + e), "label": float(t)} for t, e in zip(truth, rng.normal(0, 30.0, n), strict=True)]


MAKE: dict[str, Callable[[np.random.Generator, int], list[Row]]] = {
    "binary": binary,
    "multiclass": classes,
    "regression": values,
}


def reference(task: str, n: int = 6000) -> pd.DataFrame:
    rows = MAKE[task](np.random.default_rng(0), n)
    frame = pd.DataFrame({"label": [row["label"] for row in rows]})
    if task == "multiclass":
        for name in ("x", "y", "z"):
            frame[f"score__{name}"] = [row["score"][name] for row in rows]
    else:
        frame["score"] = [row["score"] for row in rows]
    if task == "binary":
        frame["segment__site"] = [row["segments"]["site"] for row in rows]
        frame["value__conversion"] = [row["values"]["conversion"] for row in rows]
    return frame


def faulty(task: str, change: Callable[[Row], Row], n: int = 1600, begin: int = 800) -> list[Row]:
    rows = MAKE[task](np.random.default_rng(1), n)
    return [change(row) if at >= begin else row for at, row in enumerate(rows)]


def test_a_relation_that_turns_round_moves_every_figure_of_a_binary_model(tmp_path: Path) -> None:
    made = backtest(faulty("binary", lambda row: {**row, "label": 1 - row["label"]}), reference("binary"), tmp_path)
    expected = {
        "auc",
        "average_precision",
        "accuracy",
        "precision",
        "recall",
        "f1",
        "false_negative_rate",
        "log_loss",
        "brier",
        "ece",
    }
    found = signals(made)
    assert expected <= {signal for signal, _ in found}
    assert {("realised_minus_estimated", "accuracy"), ("realised_minus_estimated", "auc")} <= found
    assert all(incident.opened_at > START + 8000 for incident in incidents(made))
    assert incidents(made)[0].layer == "outcome"


def test_labels_of_other_classes_move_every_figure_of_a_class_model(tmp_path: Path) -> None:
    turn = {"x": "y", "y": "z", "z": "y"}
    made = backtest(
        faulty("multiclass", lambda row: {**row, "label": turn[row["label"]]}), reference("multiclass"), tmp_path
    )
    found = signals(made)
    assert {"accuracy", "macro_f1", "log_loss", "brier", "ece", "auc", "label_rate"} <= {signal for signal, _ in found}
    assert ("label_rate", "x") in found
    assert ("auc", "y") in found
    assert all(incident.opened_at > START + 8000 for incident in incidents(made))


def test_larger_and_one_sided_errors_move_every_figure_of_a_regression(tmp_path: Path) -> None:
    made = backtest(
        faulty("regression", lambda row: {**row, "label": 0.5 * row["label"]}), reference("regression"), tmp_path
    )
    assert {"mae", "rmse", "bias", "r2"} <= {signal for signal, _ in signals(made)}
    assert all(incident.opened_at > START + 8000 for incident in incidents(made))


def test_fewer_conversions_are_a_lift_that_hurts_and_more_are_none(tmp_path: Path) -> None:
    for factor, told in ((0.0, True), (2.0, False)):
        rows = faulty(
            "binary", lambda row, f=factor: {**row, "values": {"conversion": f * row["values"]["conversion"]}}
        )  # type: ignore[misc]
        made = backtest(rows, reference("binary"), tmp_path, business=("conversion",))
        assert (("business_lift", "conversion") in signals(made)) is told


def test_a_treatment_is_compared_with_its_control_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = binary(rng, 2400)
    for at, row in enumerate(rows):
        arm = "control" if rng.random() < 0.5 else "new"
        row["segments"] = {"arm": arm}
        row["values"] = {"revenue": float(rng.gamma(2.0, 5.0)) * (0.5 if arm == "new" and at > 1200 else 1.0)}
    made = backtest(rows, reference("binary"), tmp_path, business=("revenue",), control="arm=control")
    (incident,) = [one for one in incidents(made) if one.signal == "business_lift_control"]
    assert incident.where.segment == "arm=new"
    assert incident.opened_at > START + 12_000
    assert incident.value < 0.8 * incident.reference


def test_a_group_that_is_no_longer_selected_is_unfair_where_the_name_is_protected(tmp_path: Path) -> None:
    def refuse(row: Row) -> Row:
        return {**row, "prediction": False} if row["segments"]["site"] == "b" else row

    rows = faulty("binary", refuse)
    watched = signals(backtest(rows, reference("binary"), tmp_path, protected=("site",)))
    assert {("demographic_parity_difference", "site"), ("true_positive_rate_difference", "site")} <= watched
    ignored = signals(backtest(rows, reference("binary"), tmp_path))
    assert not {signal for signal, _ in ignored if signal.endswith("_difference")}


def test_a_gap_that_the_reference_had_too_is_no_news(tmp_path: Path) -> None:
    def split(rows: list[Row]) -> list[Row]:
        return [
            {**row, "score": 0.3 * row["score"], "label": int(row["label"] and row["score"] > 0.7)}
            if row["segments"]["site"] == "b"
            else row
            for row in rows
        ]

    base = split(binary(np.random.default_rng(0), 6000))
    frame = pd.DataFrame({"score": [row["score"] for row in base], "label": [row["label"] for row in base]})
    frame["segment__site"] = [row["segments"]["site"] for row in base]
    made = backtest(split(binary(np.random.default_rng(1), 1500)), frame, tmp_path, protected=("site",))
    assert incidents(made) == []


def test_labels_that_name_another_definition_open_an_incident_of_the_schema(tmp_path: Path) -> None:
    rows = [
        {**row, "definition": "30 days" if at < 800 else "60 days"} for at, row in enumerate(faulty("binary", dict))
    ]
    (incident,) = incidents(backtest(rows, reference("binary"), tmp_path))
    assert (incident.signal, incident.subject, incident.layer) == ("label_definition", "30 days -> 60 days", "schema")
    assert START + 8000 < incident.opened_at < START + 9000


def test_labels_that_stop_coming_open_an_incident_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = binary(rng, 4000)
    for at, row in enumerate(rows):
        row["delay"] = float(rng.exponential(1200.0))
        if at > 3000 or rng.random() < 0.2:
            del row["label"]
    made = backtest(rows, reference("binary"), tmp_path, every_s=60.0, rules=Rules(label_coverage_learning=12 * 3600.0))
    (incident,) = incidents(made)
    assert incident.signal == "label_coverage"
    assert 0 < incident.opened_at - (START + 3000 * 60) < 2 * 3600
    assert incident.value < 0.5 * incident.reference
    assert incident.severity == "critical"


def test_early_labels_that_are_no_fair_sample_raise_nothing_where_the_reference_knows_delays(tmp_path: Path) -> None:
    def late_ones_are_positive(rows: list[Row], rng: np.random.Generator) -> list[Row]:
        for row in rows:
            row["delay"] = 6000.0 if row["label"] else 60.0
        return rows

    base = late_ones_are_positive(binary(np.random.default_rng(0), 6000), np.random.default_rng(2))
    frame = reference("binary")
    live = late_ones_are_positive(binary(np.random.default_rng(1), 400), np.random.default_rng(3))
    frame["label"], frame["label_delay_s"] = [row["label"] for row in base], [row["delay"] for row in base]
    assert ("label_rate", "label") not in signals(backtest(live, frame, tmp_path, every_s=5.0))
    unknowing = frame.drop(columns="label_delay_s")
    assert ("label_rate", "label") in signals(backtest(live, unknowing, tmp_path, every_s=5.0))


# -- business values and corrections ---------------------------------------------------------------------------------------


def test_limits_of_business_values_may_stand_beside_their_names() -> None:
    config = parse_config(
        """
models:
  shop:
    business:
      basket: {warn: 0.1, critical: 0.2, direction: both}
      revenue:
    control: "arm=old"
    protected: [site]
"""
    )
    model = config.model_for("shop")
    assert model.business == ("basket", "revenue")
    rules = config.rules_for("shop")
    assert rules.lift["basket"].direction == "both"
    assert rules.lift["revenue"].warn == 0.002
    with pytest.raises(ConfigError, match="direction"):
        parse_config("models: {shop: {business: {basket: {warn: 0.1, critical: 0.2, direction: sideways}}}}")


# -- nothing happened ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("task", sorted(MAKE))
def test_clean_rows_open_no_incident(task: str, seed: int, tmp_path: Path) -> None:
    clean(task, seed, 1500, tmp_path)


def clean(task: str, seed: int, n: int, folder: Path) -> None:
    """Rows as in the reference, with delays, labels that never come, business values, protected segments and a control group."""
    rng = np.random.default_rng(seed)
    rows = MAKE[task](rng, n)
    for row in rows:
        row.setdefault("segments", {"site": str(rng.choice(["a", "b"]))})
        row["segments"]["arm"] = str(rng.choice(["old", "new"]))
        row.setdefault("values", {})["revenue"] = float(rng.lognormal(1.0, 1.0))
        row["delay"], row["definition"] = float(rng.lognormal(6.0, 1.0)), "v1"
        if rng.random() < 0.1:
            del row["label"]
    frame = reference(task)
    frame["value__revenue"] = np.random.default_rng(99).lognormal(1.0, 1.0, len(frame))
    made = backtest(
        rows,
        frame,
        folder,
        every_s=30.0,
        rules=Rules(label_coverage_learning=6 * 3600.0),
        business=("revenue", "conversion"),
        control="arm=old",
        protected=("site", "arm"),
    )
    assert [(one.signal, one.subject, one.where) for one in incidents(made)] == []


# -- figures that no single cell gives -------------------------------------------------------------------------------------


def test_gaps_lifts_coverage_and_definitions_of_the_report_are_those_of_the_raw_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    rows = binary(rng, 1500)
    for at, row in enumerate(rows):
        row["segments"]["arm"] = str(rng.choice(["old", "new"]))
        row["definition"] = "v1" if at < 1000 else "v2"
        if rng.random() < 0.2:
            del row["label"]
    made = backtest(
        rows,
        reference("binary"),
        tmp_path,
        every_s=120.0,
        business=("conversion",),
        control="arm=old",
        protected=("site",),
    )
    (judge,) = made.judge.models.values()
    found = {
        (row["signal"], row["subject"], row["segment"], row["window_start"]): row
        for row in figure_rows(judge)
        if row["model_version"] is None
    }
    frame = pd.DataFrame(rows)
    frame["day"] = (START + np.arange(len(rows)) * 120.0) // 86_400
    frame["site"], frame["arm"] = ([given[name] for given in frame["segments"]] for name in ("site", "arm"))
    frame["chosen"] = frame["score"] >= 0.5
    frame["conversion"] = [given["conversion"] for given in frame["values"]]
    joined = frame[frame["label"].notna()]
    for start, part in [(None, frame), *((day * 86_400.0, rows_of) for day, rows_of in frame.groupby("day"))]:
        rate = part.groupby("site")["chosen"].mean()
        row = found["demographic_parity_difference", "site", None, start]
        assert row["value"] == pytest.approx(rate.max() - rate.min(), abs=1e-12)
        assert row["reference"] < 0.05
        told = part[part["label"].notna()]
        hits = told[told["label"] == 1].groupby("site")["chosen"].mean()
        row = found["true_positive_rate_difference", "site", None, start]
        assert row["value"] == pytest.approx(hits.max() - hits.min(), abs=1e-12)
        means = told.groupby("arm")["conversion"].mean()
        row = found["business_lift_control", "conversion", "arm=new", start]
        assert row["value"] == pytest.approx(means["new"] / means["old"] - 1, rel=1e-9)
    share = (joined["definition"] == "v2").mean()
    assert found["label_definition_share", "v2", None, None]["value"] == pytest.approx(share)
    clock = START + 1499 * 120.0
    times = START + np.arange(1500) * 120.0
    closed = (times // 900 + 1) * 900 + 7200 <= clock // 900 * 900
    row = found["label_coverage_due", None, None, None]
    assert row["value"] == pytest.approx(frame["label"].notna().to_numpy()[closed].mean(), abs=0.01)
    view = Views(made.config).model(judge, clock)["leadline:model:m:signals"]
    assert isinstance(view, dict)
    keys = {"*|*|demographic_parity_difference|site", "*|arm=new|business_lift_control|conversion"}
    assert keys | {"*|*|label_coverage_due|*", "*|*|label_definition_share|v2"} <= view.keys()
