"""Signals of distributions, answers and rows as wholes: values against scipy and pandas, faults through observer and judge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import distance

from leadline.config import Config, Model
from streams.baselines.reference_files import build_reference
from streams.core.request_keys import request_key
from streams.counting.references import Reference
from streams.judge.incidents import EvidenceRow
from streams.observe.rows import HEADER_BYTES
from streams.worker.request_lookup import far_features
from tests.streams.rich import FEATURES, START, Played, configuration, events_of, known, reference_columns, rows_of

N, FROM = 3000, 2000


@pytest.fixture(scope="module")
def reference() -> Reference:
    return known()


def evidence(played: Played, signal: str, subject: str | None) -> EvidenceRow:
    rows = [row for incident in played.incidents for row in incident.evidence if row.finding.key == (signal, subject)]
    assert rows, f"{signal} of {subject} never fired: {sorted(played.fired(), key=str)}"
    return min(rows, key=lambda row: row.finding.log10_p)


def test_a_refitted_scaler_is_named_once_with_all_its_features(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        late = (frame.index >= FROM) & (frame["version"] == "2")
        for name in ("age", "rate", "dose"):
            frame.loc[late, name] = (frame.loc[late, name] - frame[name].mean()) / frame[name].std()

    played = Played(configuration(), reference, events_of(rows_of(21, N, change)))
    [incident] = played.incidents
    assert (incident.signal, incident.where.version, incident.where.segment) == ("refitted_scaler", "2", None)
    assert "age, rate, dose" in played.alerts[-1].title
    assert any(item.detail == "age, rate, dose" for item in played.alerts[-1].evidence)


def test_features_that_stop_moving_together_drift_though_none_of_them_changed(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        late = frame.loc[FROM:, "dose"].to_numpy().copy()
        rng.shuffle(late)
        frame.loc[FROM:, "dose"] = late

    frame = rows_of(22, N, change)
    played = Played(configuration(), reference, events_of(frame))
    assert [(incident.signal, incident.subject) for incident in played.incidents] == [("multivariate_drift", None)]
    # An account of the error that shares no code: standardise, project, take what is left.
    assert reference.joint is not None
    pca = reference.joint
    centers, scales = (
        np.array([getattr(feature, name) for feature in reference.features]) for name in ("center", "scale")
    )
    z = (frame[list(FEATURES)].to_numpy() - centers) / scales
    z = np.clip((z - pca.centre) / pca.spread, -8, 8)
    left = z - z @ pca.directions.T @ pca.directions
    expected = np.sqrt((left**2).mean(axis=1)).mean()
    assert played.figures()["reconstruction_error", None].value == pytest.approx(expected, rel=1e-9)


def test_js_and_ks_fire_beside_psi_in_one_incident_and_agree_with_scipy(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[FROM:, "rate"] += 10.0

    frame = rows_of(23, N, change)
    played = Played(configuration(), reference, events_of(frame))
    assert len(played.incidents) == 1
    base = rows_of(1, 3000)["rate"].to_numpy()
    ks = evidence(played, "ks", "rate").finding
    # Over bins the gap is smaller than over values, by at most a bin's mass.
    exact = stats.ks_2samp(frame["rate"], base).statistic
    assert played.figures()["ks", "rate"].value == pytest.approx(exact, abs=0.012)
    assert ks.value <= stats.ks_2samp(frame.loc[FROM:, "rate"], base).statistic + 0.05
    feature = next(feature for feature in reference.features if feature.name == "rate")
    live, of_base = (
        np.bincount(feature.groups[feature.bins.assign(values)], minlength=feature.group_count)
        for values in (frame["rate"].to_numpy(), base)
    )
    js = distance.jensenshannon(live, of_base) ** 2
    assert played.figures()["js_divergence", "rate"].value == pytest.approx(js, rel=1e-9)
    assert evidence(played, "js_divergence", "rate").finding.value > 0.05


def test_the_share_of_positive_answers_and_the_spread_of_certainty_are_watched(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[FROM:, "score"] = np.where(rng.random(len(frame) - FROM) < 0.85, 0.9999, frame.loc[FROM:, "score"])

    played = Played(configuration(), reference, events_of(rows_of(24, N, change)))
    assert len(played.incidents) == 1
    assert ("predicted_positive_rate", "prediction") in played.fired()
    frame = rows_of(24, N, change)
    base = rows_of(1, 3000)
    rate = played.figures()["predicted_positive_rate", "prediction"]
    assert rate.value == pytest.approx((frame["score"] >= 0.5).mean(), rel=1e-9)
    assert rate.reference == pytest.approx((base["score"] >= 0.5).mean(), rel=1e-9)


def test_answers_that_are_at_times_sure_and_at_times_a_shrug_spread_their_entropy() -> None:
    rng = np.random.default_rng(4)
    columns = reference_columns(rows_of(1, 3000), optional=False)
    columns["score"] = rng.uniform(0.4, 0.6, 3000).tolist()

    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["score"] = rng.uniform(0.4, 0.6, len(frame)).round(6)
        frame.loc[FROM:, "score"] = rng.choice([0.01, 0.5, 0.99], len(frame) - FROM)

    frame = rows_of(25, N, change)
    played = Played(configuration(), build_reference(columns), events_of(frame))
    finding = evidence(played, "entropy_spread", "score").finding
    p = frame.loc[FROM:, "score"].to_numpy()
    assert finding.value == pytest.approx(stats.entropy([p, 1 - p]).std(), rel=0.1)


def test_a_rise_of_latency_without_an_slo_is_told_where_its_rule_is_on(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[FROM:, "latency_ms"] *= 3

    off = Played(configuration(), reference, events_of(rows_of(26, N, change)))
    assert off.incidents == []
    on = configuration(rules={"latency_shift": {"warn": 0.05, "critical": 0.1}})
    played = Played(on, reference, events_of(rows_of(26, N, change)))
    assert [(incident.signal, incident.subject) for incident in played.incidents] == [("latency_shift", "latency_ms")]


def test_p99_against_its_slo_is_a_figure_and_a_rule(reference: Reference) -> None:
    frame = rows_of(27, N)
    slo = float(frame["latency_ms"].quantile(0.9))
    played = Played(configuration(latency_slo_ms=slo), reference, events_of(frame))
    share = played.figures()
    over = evidence(played, "latency_over_slo", "latency_ms").finding
    assert over.value == pytest.approx(0.1, abs=0.06)
    assert share["latency_p99", "latency_ms"].value > slo


def multiclass(seed: int, n: int, late: tuple[float, float, float] | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    best = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    if late is not None:
        best[FROM:] = rng.choice(3, n - FROM, p=late)
    shares = rng.dirichlet([1, 1, 1], n)
    shares[np.arange(n), best] += 1.0
    return pd.DataFrame(shares / shares.sum(axis=1, keepdims=True), columns=["a", "b", "c"]).round(9)


def test_a_class_that_is_answered_more_often_is_named() -> None:
    columns = {f"score__{name}": values.tolist() for name, values in multiclass(1, 3000).items()}
    columns["x"] = np.random.default_rng(0).normal(0, 1, 3000).tolist()
    frame = rows_of(28, N)
    live = multiclass(2, N, (0.3, 0.3, 0.4))
    frame["score"] = live.to_dict("records")
    for name in FEATURES:
        frame[name] = None
    frame["more"] = [{"x": value} for value in np.random.default_rng(9).normal(0, 1, N).tolist()]
    played = Played(configuration(), build_reference(columns), events_of(frame))
    assert ("predicted_share", "c") in played.fired()
    found = played.figures()
    answered = live.idxmax(axis=1).value_counts(normalize=True)
    for name in "abc":
        assert found["predicted_share", name].value == pytest.approx(answered[name], rel=1e-9)


def test_an_identifier_with_a_hundred_thousand_values_stays_small_and_silent() -> None:
    rng = np.random.default_rng(31)
    columns = reference_columns(rows_of(1, 20_000), optional=False)
    columns["patient"] = [f"p{number}" for number in rng.integers(0, 100_000, 20_000).tolist()]
    reference = build_reference(columns)
    patient = next(feature for feature in reference.features if feature.name == "patient")
    assert patient.size <= 60

    frame = rows_of(32, N)
    frame["more"] = [{"patient": f"p{number}"} for number in rng.integers(0, 100_000, N).tolist()]
    played = Played(configuration(), reference, events_of(frame))
    assert played.incidents == []
    assert played.judge.reference.layout.slots["feature:patient"].stop - played.judge.reference.layout.slots[
        "feature:patient"
    ].start <= 60  # fmt: skip


def test_one_of_many_categories_that_takes_over_is_named_by_l_infinity() -> None:
    rng = np.random.default_rng(33)
    codes = [f"c{number:03d}" for number in range(120)]
    columns = reference_columns(rows_of(1, 5000), optional=False)
    columns["code"] = rng.choice(codes, 5000).tolist()
    reference = build_reference(columns)
    common = next(feature for feature in reference.features if feature.name == "code").bins.labels[0]
    frame = rows_of(34, N)
    live = rng.choice(codes, N)
    live[FROM:] = np.where(rng.random(N - FROM) < 0.3, common, live[FROM:])
    frame["more"] = [{"code": code} for code in live.tolist()]
    played = Played(configuration(), reference, events_of(frame))
    found = evidence(played, "l_infinity", "code").finding
    assert common in found.detail
    assert len(played.incidents) == 1
    base = pd.Series(columns["code"]).value_counts(normalize=True)
    shares = pd.Series(live).value_counts(normalize=True)
    assert played.figures()["l_infinity", "code"].value == pytest.approx(shares[common] - base[common], abs=1e-9)


def test_rates_out_of_distribution_are_those_of_pandas_for_every_feature(reference: Reference) -> None:
    frame = rows_of(35, N)
    found = Played(configuration(), reference, events_of(frame)).figures()
    base = rows_of(1, 3000)
    for name in FEATURES:
        z = (frame[name] - base[name].mean()) / base[name].std(ddof=0)
        assert found["out_of_distribution_rate", name].value == pytest.approx((z.abs() > 3).mean(), abs=1e-12)


def test_a_stored_row_tells_which_of_its_features_were_out_of_distribution(reference: Reference) -> None:
    frame = rows_of(37, 2000)
    frame.loc[7, ["age", "dose"]] = [200.0, -50.0]
    played = Played(configuration(), reference, events_of(frame))
    base = rows_of(1, 3000)
    z = (frame[list(FEATURES)] - base[list(FEATURES)].mean()) / base[list(FEATURES)].std(ddof=0)
    rows = played.backtest.observer.rows.rows
    told = [
        far_features(
            played.judge.reference, rows[request_key(f"r{START:.0f}-{at}")][HEADER_BYTES : HEADER_BYTES + len(FEATURES)]
        )
        for at in range(len(frame))
    ]
    assert told == [[name for name in FEATURES if abs(row[name]) > 3] for row in z.to_dict("records")]
    assert told[7] == ["age", "dose"]


def test_rules_of_a_model_may_be_switched_off_one_by_one(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["ram_mb"] *= 2
        frame["pipeline"] = "p9"

    rules = {"disabled": ["resource_growth", "pipeline_fingerprint"]}
    config = Config(models={"m": Model(rules=rules)}, join={"max_future": 1e9})
    assert Played(config, reference, events_of(rows_of(36, 1000, change))).incidents == []
