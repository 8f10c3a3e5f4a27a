"""The simulated service: a sensible model, honest ends, and the same rows however time is cut."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from leadline import Publisher
from leadline.demo.cohort import CATEGORICAL, FEATURES, NUMERIC, SEGMENTS
from leadline.demo.hospital import BLOCK, Rows, Service
from leadline.demo.model import DemoMissing, Model, reference, train, write_reference
from leadline.events import Label, Prediction
from streams.core.decode import Decoder
from streams.core.stage import Record

T = 1_800_000_000.0


def joined(rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scores and ends of the requests whose end is known."""
    ends = {label.request_id: label.label for label in rows.labels}
    pairs = [(row.score, ends[row.request_id]) for row in rows.predictions if row.request_id in ends]
    return np.array([score for score, _ in pairs], dtype=np.float64), np.array(
        [end for _, end in pairs], dtype=np.int64
    )


def psi(live: npt.NDArray[np.float64], base: npt.NDArray[np.float64]) -> float:
    edges = np.quantile(base, np.linspace(0, 1, 11)[1:-1])
    a, b = (np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5 for x in (live, base))
    a, b = a / a.sum(), b / b.sum()
    return float(np.sum((a - b) * np.log(a / b)))


def test_the_healthy_model_ranks_patients_well_and_means_its_probabilities(service: Service) -> None:
    scores, ends = joined(service.rows(T, T + 100))
    assert len(scores) > 15_000
    assert 0.78 < roc_auc_score(ends, scores) < 0.83
    assert brier_score_loss(ends, scores) < 0.9 * ends.mean() * (1 - ends.mean())
    assert abs(scores.mean() - ends.mean()) < 0.01


def test_healthy_traffic_looks_like_the_reference_in_every_feature_and_version(service: Service, model: Model) -> None:
    base = reference(model)
    rows = service.rows(T, T + 100).predictions
    for version in service.versions:
        mine = [row for row in rows if row.model_version == version]
        assert len(mine) > 8_000
        assert psi(np.array([row.score for row in mine]), base["score"]) < 0.01
        for name in NUMERIC:
            live = np.array([(row.features or {})[name] for row in mine], dtype=np.float64)
            assert abs(np.isnan(live).mean() - np.isnan(base[name]).mean()) < 0.01
            assert psi(live[~np.isnan(live)], base[name][~np.isnan(base[name])]) < 0.01
        for name, known in CATEGORICAL.items():
            shares = Counter(str((row.features or {})[name]) for row in mine)
            for value in known:
                assert abs(shares[value] / len(mine) - (base[name] == value).mean()) < 0.02


def test_the_same_seed_gives_the_same_rows(model: Model) -> None:
    first, second = (Service(model, began=T, seed=3).rows(T + 5, T + 9) for _ in range(2))
    assert first == second
    assert first.predictions
    assert first.labels
    assert Service(model, began=T, seed=4).rows(T + 5, T + 9) != first


def test_training_again_gives_the_same_model(service: Service) -> None:
    again = replace(service, model=train())
    assert again.rows(T, T + 2) == service.rows(T, T + 2)


@pytest.mark.parametrize("rate", [7.0, 200.0, 333.3])
def test_the_rows_are_the_same_however_time_is_cut(model: Model, rate: float) -> None:
    service = Service(model, began=T, rate=rate)
    whole = service.rows(T - 1, T + 20)
    cuts = [T - 1, *np.sort(np.random.default_rng(1).uniform(T - 1, T + 20, 60)).tolist(), T + 20]
    # Cuts exactly at an event, also where one block of random numbers ends and the next begins.
    cuts += [row.timestamp for row in whole.predictions[:40] + whole.predictions[BLOCK - 3 : BLOCK + 3]]
    cuts.sort()
    parts = [service.rows(a, b) for a, b in pairwise(cuts)]
    assert [row for part in parts for row in part.predictions] == whole.predictions
    assert [label for part in parts for label in part.labels] == whole.labels


def test_requests_come_at_the_wanted_rate_in_order_with_ids_of_their_own(service: Service) -> None:
    rows = service.rows(T, T + 50).predictions
    times = [float(row.timestamp) for row in rows]
    assert abs(len(rows) - 10_000) <= 1
    assert times == sorted(times)
    assert T <= times[0] < times[-1] < T + 50
    assert len({row.request_id for row in rows}) == len(rows)
    assert not service.rows(T - 10, T).predictions
    assert not service.rows(T, T).predictions


def test_an_end_becomes_known_once_after_its_delay_or_never(service: Service) -> None:
    rows = service.rows(T, T + 50)
    answered = {row.request_id: float(row.timestamp) for row in rows.predictions}
    ends = rows.labels
    assert [label.timestamp for label in ends] == sorted(float(label.timestamp) for label in ends)
    assert len({label.request_id for label in ends}) == len(ends)
    delays = np.array([float(label.timestamp) - answered[label.request_id] for label in ends])
    least, mean, most = service.delay_s
    assert delays.min() >= least - 1e-5
    assert delays.max() <= most + 1e-5
    assert abs(delays.mean() - mean) < 0.3
    ripe = [name for name, time in answered.items() if time < T + 50 - most]
    known = {label.request_id for label in ends}
    assert abs(np.mean([name in known for name in ripe]) - service.labelled) < 0.01


def test_the_rows_are_the_contract(service: Service) -> None:
    rows = service.rows(T, T + 3)
    for kind, events in ((Prediction, rows.predictions), (Label, rows.labels)):
        decoded = Decoder(kind).decode(
            [Record(n, b"", msgspec.json.encode(event), T + 10) for n, event in enumerate(events)]
        )
        assert decoded.faults == []
        assert [decoded.event(at) for at in range(len(decoded))] == events
    first = rows.predictions[0]
    assert set(first.features or {}) == set(FEATURES)
    assert {name: (first.segments or {})[name] in values for name, values in SEGMENTS.items()} == dict.fromkeys(
        SEGMENTS, True
    )
    publisher = Publisher("127.0.0.1:1", strict=True)
    assert publisher.predict(**msgspec.structs.asdict(first))
    assert publisher.label(**msgspec.structs.asdict(rows.labels[0]))
    publisher.close(0)


def test_the_reference_file_has_the_columns_that_leadline_reads(model: Model, tmp_path: Path) -> None:
    frame = reference(model, rows=2_000)
    write_reference(tmp_path / "reference.csv", frame)
    read = pd.read_csv(tmp_path / "reference.csv", keep_default_na=False, na_values=[""])
    segments = [f"segment__{name}" for name in SEGMENTS]
    assert list(read.columns) == [*FEATURES, "score", "prediction", "label", *segments]
    assert read["hba1c"].isna().sum() == np.isnan(frame["hba1c"]).sum() > 0
    assert read.drop(columns="hba1c").notna().all(axis=None)
    assert set(read["insurance"]) == set(CATEGORICAL["insurance"])  # the word "none" is a category, not a null
    np.testing.assert_array_equal(read["score"], frame["score"])
    assert 0.75 < roc_auc_score(read["label"], read["score"]) < 0.85


@pytest.mark.parametrize(
    "wrong", [{"delay_s": (3.0, 2.0, 8.0)}, {"rate": 0.0}, {"versions": {"1": 0.5}}, {"delay_s": (-1.0, 2.0, 8.0)}]
)
def test_a_service_that_cannot_be_is_refused(service: Service, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(service, **wrong)  # type: ignore[arg-type]


def test_without_scikit_learn_the_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(DemoMissing, match=r"leadline\[demo\]"):
        train()


def test_importing_the_demo_does_not_import_scikit_learn() -> None:
    program = "import sys, leadline.demo.hospital; assert not {'sklearn', 'pandas', 'faust'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
