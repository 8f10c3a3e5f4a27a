"""Each failure changes what it says, where and when it says so, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from leadline.demo.cohort import NUMERIC
from leadline.demo.failures import ConceptDrift, CovariateShift, Failure, NullSpike, RefittedScaler
from leadline.demo.hospital import Rows, Service
from leadline.events import Prediction
from tests.leadline.demo.test_hospital import joined

T = 1_800_000_000.0
START, STOP, END = T + 10, T + 40, T + 60


def scaler(service: Service) -> RefittedScaler:
    return RefittedScaler.fitted_on(service.patients(T, START), version="3.1.0", start=START, stop=STOP)


FAILURES: dict[str, Callable[[Service], Failure]] = {
    "covariate shift": lambda _: CovariateShift(start=START, stop=STOP),
    "covariate shift at one site": lambda _: CovariateShift(start=START, stop=STOP, site="north"),
    "re-fitted scaler": scaler,
    "null spike": lambda _: NullSpike(start=START, stop=STOP),
    "concept drift": lambda _: ConceptDrift(start=START, stop=STOP),
}


def changed(service: Service, failure: Failure) -> tuple[list[tuple[Prediction, Prediction]], set[str]]:
    """Pairs of predictions (healthy, failing) that differ, and the requests whose ends differ."""
    healthy, failing = service.rows(T, END), service.rows(T, END, [failure])
    pairs = [(a, b) for a, b in zip(healthy.predictions, failing.predictions, strict=True) if a != b]
    ends = {a.request_id for a, b in zip(healthy.labels, failing.labels, strict=True) if a != b}
    # Who, when, by which version and from where is never touched, nor when the end becomes known.
    for a, b in pairs:
        assert replace_fields(a) == replace_fields(b)
    assert [(a.request_id, a.timestamp) for a in healthy.labels] == [
        (b.request_id, b.timestamp) for b in failing.labels
    ]
    return pairs, ends


def replace_fields(row: Prediction) -> Prediction:
    return msgspec.structs.replace(row, score=0.0, prediction=None, features=None)


def features_changed(a: Prediction, b: Prediction) -> set[str]:
    before, after = a.features or {}, b.features or {}
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def column(rows: list[Prediction], name: str) -> Any:
    return np.array([(row.features or {})[name] for row in rows], dtype=np.float64)


def auc(rows: Rows, keep: Callable[[Prediction], bool]) -> float:
    kept = Rows([row for row in rows.predictions if keep(row)], rows.labels)
    scores, ends = joined(kept)
    return float(roc_auc_score(ends, scores))


@pytest.mark.parametrize("name", FAILURES)
def test_before_its_start_and_after_its_stop_a_failure_changes_nothing(service: Service, name: str) -> None:
    failure = FAILURES[name](service)
    pairs, ends = changed(service, failure)
    assert pairs or ends
    when = {row.request_id: float(row.timestamp) for row in service.rows(T, END).predictions}
    assert all(START <= float(b.timestamp) < STOP for _, b in pairs)
    assert all(START <= when[request] < STOP for request in ends)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_service_too_gives_the_same_rows_however_time_is_cut(service: Service, name: str) -> None:
    failure = FAILURES[name](service)
    whole = service.rows(T, END, [failure])
    parts = [service.rows(T + t, min(T + t + 7, END), [failure]) for t in range(0, 60, 7)]
    assert [row for part in parts for row in part.predictions] == whole.predictions
    assert [label for part in parts for label in part.labels] == whole.labels


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_has_a_title_for_people(service: Service, name: str) -> None:
    assert FAILURES[name](service).title.startswith(name.removesuffix(" at one site"))


@pytest.mark.parametrize("site", [None, "north"])
def test_a_covariate_shift_makes_patients_older_and_their_fates_follow(service: Service, site: str | None) -> None:
    pairs, ends = changed(service, CovariateShift(start=START, stop=STOP, site=site))
    assert all(features_changed(a, b) == {"age"} for a, b in pairs)
    assert {(b.segments or {})["site"] for _, b in pairs} == ({site} if site else {"east", "north", "south"})
    older = column([b for _, b in pairs], "age") - column([a for a, _ in pairs], "age")
    assert older.max() == 12.0
    assert 10.5 < older.mean() <= 12.0  # nobody is older than 98
    risen = {
        row.request_id: row.label
        for row in service.rows(T, END, [CovariateShift(start=START, stop=STOP, site=site)]).labels
    }
    assert ends
    assert all(risen[request] == 1 for request in ends)  # nobody is safer for being older


def test_the_model_still_ranks_well_under_a_covariate_shift(service: Service) -> None:
    rows = service.rows(T, END, [CovariateShift(start=START, stop=STOP)])
    assert auc(rows, lambda row: START <= float(row.timestamp) < STOP) > 0.76


def test_a_refitted_scaler_standardises_what_one_version_is_shown_and_no_fate(service: Service) -> None:
    pairs, ends = changed(service, scaler(service))
    assert ends == set()
    assert {b.model_version for _, b in pairs} == {"3.1.0"}
    assert len(pairs) > 0.95 * sum(row.model_version == "3.1.0" for row in service.rows(START, STOP).predictions)
    for name in NUMERIC:
        assert abs(np.nanmean(column([b for _, b in pairs], name))) < 0.1
        assert abs(np.nanstd(column([b for _, b in pairs], name)) - 1) < 0.1
    assert all(features_changed(a, b) <= set(NUMERIC) for a, b in pairs)
    rows = service.rows(T, END, [scaler(service)])
    failing = auc(rows, lambda row: row.model_version == "3.1.0" and START <= float(row.timestamp) < STOP)
    healthy = auc(rows, lambda row: row.model_version == "3.0.0" and START <= float(row.timestamp) < STOP)
    assert failing < healthy - 0.1


def test_a_null_spike_loses_its_share_of_one_feature(service: Service) -> None:
    pairs, ends = changed(service, NullSpike(start=START, stop=STOP, feature="creatinine", share=0.4))
    assert ends == set()
    assert all(features_changed(a, b) == {"creatinine"} for a, b in pairs)
    assert all((b.features or {})["creatinine"] is None for _, b in pairs)
    assert abs(len(pairs) / len(service.rows(START, STOP).predictions) - 0.4) < 0.02


def test_a_null_spike_of_an_unknown_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="shoe_size"):
        NullSpike(start=0, stop=1, feature="shoe_size")


def test_a_concept_drift_shows_in_the_ends_alone(service: Service) -> None:
    drift = ConceptDrift(start=START, stop=STOP)
    pairs, ends = changed(service, drift)
    assert pairs == []
    admitted = {row.request_id: (row.features or {})["admission"] for row in service.rows(T, END).predictions}
    assert {admitted[request] for request in ends} == {"emergency"}
    rows = service.rows(T, END, [drift])

    def during(row: Prediction, admission: str) -> bool:
        return START <= float(row.timestamp) < STOP and (row.features or {})["admission"] == admission

    assert auc(rows, lambda row: during(row, "emergency")) < 0.35
    assert auc(rows, lambda row: during(row, "elective")) > 0.75


def test_failures_add_up(service: Service) -> None:
    both = [NullSpike(start=START, stop=STOP, share=1.0), ConceptDrift(start=START, stop=STOP)]
    rows = service.rows(T, END, both)
    alone = service.rows(T, END, both[:1]), service.rows(T, END, both[1:])
    assert rows.predictions == alone[0].predictions
    assert rows.labels == alone[1].labels


def test_another_run_has_other_ids(service: Service) -> None:
    mine = {row.request_id for row in service.rows(T, T + 1).predictions}
    theirs = {row.request_id for row in replace(service, prefix="run2").rows(T, T + 1).predictions}
    assert mine
    assert not mine & theirs
