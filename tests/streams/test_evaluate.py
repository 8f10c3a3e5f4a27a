"""Each rule fires on its fault and is quiet on clean rows, and each of its two doors keeps something out: the effect, and the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leadline.config import Limits, Rules
from streams.rules.evaluate import Evaluator
from streams.rules.finding import Finding
from tests.streams.small_world import Columns, Fault, draw, flipped, moved, nulls, reference, shift, slow, vector

KNOWN = reference()
ALPHA = 1e-8
Key = tuple[str, str | None]


def evaluator(rules: Rules | None = None) -> Evaluator:
    return Evaluator(KNOWN, rules or Rules(), 100.0)


def found(
    rules: Rules, seed: int, n: int, *faults: Fault, alpha: float = ALPHA, segment: str | None = None
) -> dict[Key, Finding]:
    judge = evaluator(rules)
    rng = np.random.default_rng(seed)
    columns = draw(rng, n)
    for fault in faults:
        fault(columns, rng)
    base = judge.baseline(segment)
    assert base is not None
    return {finding.key: finding for finding in judge.findings(vector(KNOWN, columns), base, alpha)}


def scores(change: float) -> Fault:
    """Log-odds moved: the answers, not the truth."""

    def act(columns: Columns, rng: np.random.Generator) -> None:
        odds = np.log(columns["score"] / (1 - columns["score"])) + change
        columns["score"] = 1 / (1 + np.exp(-odds))

    return act


def constant(columns: Columns, rng: np.random.Generator) -> None:
    columns["score"] = np.full(len(columns["score"]), 0.4321)


def words(columns: Columns, rng: np.random.Generator) -> None:
    column = columns["age"].astype(object)
    column[rng.random(len(column)) < 0.2] = "unknown"
    columns["age"] = column


def positives(share: float) -> Fault:
    def act(columns: Columns, rng: np.random.Generator) -> None:
        columns["label"] = np.where(rng.random(len(columns["label"])) < share, 1.0, columns["label"])

    return act


FAULTS: list[tuple[Key, Fault]] = [
    (("psi", "age"), shift("age", 10.0)),
    (("psi", "ward"), moved("ward", "d", 0.4)),
    (("psi", "score"), scores(1.2)),
    (("js_divergence", "age"), shift("age", 10.0)),
    (("ks", "age"), shift("age", 10.0)),
    (("mean_shift", "age"), shift("age", 40.0)),
    (("mean_shift", "score"), scores(9.0)),
    (("null_rate", "pulse"), nulls("pulse", 0.2)),
    (("null_rate", "ward"), nulls("ward", 0.2)),
    (("invalid_rate", "age"), words),
    (("new_category_rate", "ward"), moved("ward", "zz", 0.1)),
    (("out_of_distribution_rate", None), shift("age", 50.0)),
    (("output_collapse", "score"), constant),
    (("latency_over_slo", "latency_ms"), slow(5.0)),
    (("auc", None), flipped(0.4)),
    (("accuracy", None), flipped(0.4)),
    (("false_negative_rate", None), scores(-2.0)),
    (("label_rate", "label"), positives(0.4)),
    (("realised_minus_estimated", "label"), positives(0.4)),
    (("ece", None), positives(0.5)),
]
IDS = ["-".join(str(part) for part in key) for key, _ in FAULTS]


@pytest.mark.parametrize(("key", "fault"), FAULTS, ids=IDS)
def test_a_rule_fires_on_its_fault_and_says_how_sure_it_is(key: Key, fault: Fault) -> None:
    finding = found(Rules(), 3, 1500, fault)[key]
    assert finding.strength >= 1.0
    assert finding.log10_p <= math.log10(ALPHA) + 1e-9
    assert finding.n > 0
    assert finding.severity in ("warn", "critical")


@pytest.mark.parametrize("n", [30, 300, 3000])
def test_clean_rows_pass_no_rule_at_the_budgets_odds(n: int) -> None:
    told = [found(Rules(), seed, n) for seed in range(25)]
    assert told == [{}] * 25


# Every answer is 1 then: no odds are too long for that.
UNCERTAIN = [(key, fault) for key, fault in FAULTS if key != ("mean_shift", "score")]


@pytest.mark.parametrize(("key", "fault"), UNCERTAIN, ids=["-".join(str(part) for part in key) for key, _ in UNCERTAIN])
def test_an_effect_that_noise_could_have_is_no_news_however_large_it_is(key: Key, fault: Fault) -> None:
    few = Rules(minimum_rows=5, minimum_per_class=2)
    assert key in found(few, 3, 60, fault, alpha=0.4) or key in found(few, 3, 1500, fault, alpha=0.4)
    assert key not in found(few, 3, 60, fault, alpha=1e-300)


LIMITED = [(key, fault) for key, fault in FAULTS if key[0] not in ("output_collapse", "latency_over_slo")]
NAMED = {("psi", "score"): "score_psi", ("mean_shift", "score"): "score_mean_shift"}


@pytest.mark.parametrize(("key", "fault"), LIMITED, ids=["-".join(str(part) for part in key) for key, _ in LIMITED])
def test_an_effect_below_its_limit_is_no_news_however_sure_it_is(key: Key, fault: Fault) -> None:
    name = NAMED.get(key, key[0])
    usual = found(Rules(), 3, 1500, fault)[key]
    beyond = Limits(warn=usual.strength * usual.threshold * 1.01, critical=1e9)
    assert key not in found(Rules.model_validate({**Rules().model_dump(), name: beyond}), 3, 1500, fault)
    within = Limits(warn=usual.strength * usual.threshold * 0.99, critical=1e9)
    assert key in found(Rules.model_validate({**Rules().model_dump(), name: within}), 3, 1500, fault)


@pytest.mark.parametrize(("key", "fault"), FAULTS, ids=IDS)
def test_a_disabled_rule_is_silent_and_no_other(key: Key, fault: Fault) -> None:
    told = found(Rules(disabled=(key[0],)), 3, 1500, fault)
    assert all(signal != key[0] for signal, _ in told)
    every = found(Rules(), 3, 1500, fault)
    assert set(told) == {other for other in every if other[0] != key[0]}


def test_fewer_rows_than_the_minimum_are_not_judged() -> None:
    assert found(Rules(), 3, 29, shift("age", 60.0)) == {}
    assert found(Rules(minimum_rows=29), 3, 29, shift("age", 60.0))


def test_the_first_finding_like_another_is_the_one_among_all() -> None:
    judge = evaluator()
    rng = np.random.default_rng(5)
    columns = draw(rng, 1500)
    for fault in (shift("age", 20.0), flipped(0.4)):
        fault(columns, rng)
    base = judge.baseline(None)
    assert base is not None
    counted = vector(KNOWN, columns)
    every = judge.findings(counted, base, ALPHA)
    assert {"data", "outcome"} <= {finding.layer for finding in every}
    for finding in every:
        assert judge.first(counted, base, ALPHA, finding) == finding


def test_a_segment_that_the_reference_does_not_know_has_no_baseline() -> None:
    assert evaluator().baseline("site=nowhere") is None
    assert evaluator().baseline("site=west") is not None


def test_a_small_segments_reference_asks_for_more_rows() -> None:
    # 600 rows of reference leave more room for what the usual share may be than 4,000 do.
    west, whole = evaluator().baseline("site=west"), evaluator().baseline(None)
    assert west is not None
    assert whole is not None
    for name in ("accuracy", "label_rate"):
        assert west.limits[name][2] - west.limits[name][0] > whole.limits[name][2] - whole.limits[name][0]
