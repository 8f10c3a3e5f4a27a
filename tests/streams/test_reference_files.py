"""Training rows become a reference whose counts are those of pandas, from any file form; what cannot be one is told in words."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from streams.baselines.reference_files import MAX_SEGMENTS, build_reference, read_reference
from streams.baselines.stored_reference import dump_reference
from streams.baselines.training_tables import read_table
from streams.counting.features import BadReference
from streams.counting.layout import Task
from streams.counting.references import Reference
from tests.streams.logs import write_reference


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Training rows of the made-up logs: age (some null), stay, ward, segment__site, score, label."""
    return write_reference(tmp_path_factory.mktemp("rows") / "rows.csv", seed=4, n=700)


@pytest.fixture(scope="module")
def built(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    path = tmp_path_factory.mktemp("built") / "rows.csv"
    frame.to_csv(path, index=False)
    return read_reference(path)


def one(reference: Reference, segment: str | None, section: str) -> float:
    vector = reference.cell(segment)
    assert vector is not None
    return reference.layout.one(vector, section)


def part(reference: Reference, segment: str | None, section: str) -> np.ndarray:
    vector = reference.cell(segment)
    assert vector is not None
    return reference.layout.part(vector, section)


# -- counts ----------------------------------------------------------------------------------------------------------------


def test_rows_and_outcomes_of_all_and_of_every_segment_are_those_of_pandas(
    frame: pd.DataFrame, built: Reference
) -> None:
    cells: list[tuple[str | None, pd.DataFrame]] = [(None, frame)]
    cells += [(f"site={site}", rows) for site, rows in frame.groupby("segment__site")]
    assert len(cells) == 3
    for segment, rows in cells:
        assert one(built, segment, "rows") == one(built, segment, "outcomes") == len(rows)
        assert part(built, segment, "positives").sum() == rows["label"].sum()
        assert part(built, segment, "negatives").sum() == (rows["label"] == 0).sum()
        guessed = rows["score"] >= 0.5
        expected = pd.crosstab(rows["label"], guessed).to_numpy().ravel()  # tn, fp, fn, tp
        assert part(built, segment, "confusion").tolist() == expected.tolist()


def test_every_row_is_in_one_bin_of_every_feature_and_a_null_is_missing(frame: pd.DataFrame, built: Reference) -> None:
    assert frame["age"].isna().sum() > 3
    for feature in built.features:
        counts = part(built, None, f"feature:{feature.name}")
        assert counts.sum() == len(frame)
        assert counts[feature.bins.missing] == frame[feature.name].isna().sum()
        assert counts[feature.bins.invalid] == 0


def test_the_histogram_of_a_number_is_numpys_over_its_edges(frame: pd.DataFrame, built: Reference) -> None:
    age = next(feature for feature in built.features if feature.name == "age")
    known = frame["age"].dropna().to_numpy()
    inner = np.array(age.bins.edges)  # type: ignore[union-attr]
    expected = np.bincount(np.searchsorted(inner, known, side="right"), minlength=len(inner) + 1)
    assert part(built, None, "feature:age")[: len(expected)].tolist() == expected.tolist()
    assert (age.center, age.scale) == pytest.approx((known.mean(), known.std()))


def test_columns_that_describe_the_row_are_no_features(frame: pd.DataFrame, built: Reference) -> None:
    assert [feature.name for feature in built.features] == ["age", "stay", "ward"]
    described = build_reference(
        {**columns(40), "request_id": ["r"] * 40, "timestamp": [1.0] * 40, "value__euro": [2.5] * 40}
    )
    assert [feature.name for feature in described.features] == ["x"]


def test_business_values_are_summed_where_they_are_asked_for() -> None:
    table = {**columns(40), "value__euro": [2.5, None] * 20}
    kept = build_reference(table, business=["euro"])
    assert one(kept, None, "value:euro") == 50.0
    assert one(kept, None, "value_rows:euro") == 20
    assert one(kept, None, "value_squares:euro") == 20 * 2.5**2
    assert "value:euro" not in build_reference(table).layout.slots


def test_of_too_many_segment_values_the_most_frequent_are_kept() -> None:
    n = 3 * MAX_SEGMENTS
    segments = [f"s{at}" if at < n // 2 else f"s{at % 7}" for at in range(n)]
    reference = build_reference({**columns(n), "segment__site": segments})
    assert sum(segment is not None for segment in reference.cells) == MAX_SEGMENTS
    assert all(reference.cell(f"site=s{at}") is not None for at in range(7))


# -- files -----------------------------------------------------------------------------------------------------------------


def test_csv_gz_and_parquet_of_the_same_rows_are_the_same_reference(
    tmp_path: Path, frame: pd.DataFrame, built: Reference
) -> None:
    frame.to_csv(tmp_path / "rows.csv.gz", index=False)
    parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "rows.parquet")
    for name in ("rows.csv.gz", "rows.parquet"):
        assert read_reference(tmp_path / name).fingerprint == built.fingerprint


def test_a_built_json_is_the_reference_it_was_built_from(tmp_path: Path, built: Reference) -> None:
    (tmp_path / "ref.json").write_bytes(dump_reference(built))
    (tmp_path / "ref.json.gz").write_bytes(gzip.compress(dump_reference(built)))
    for name in ("ref.json", "ref.json.gz"):
        again = read_reference(tmp_path / name)
        assert again.fingerprint == built.fingerprint
        for segment in (None, "site=north"):
            assert (again.cell(segment) == built.cell(segment)).all()  # type: ignore[union-attr]


def test_cells_of_csv_are_null_number_or_text_by_their_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b,"c,d"\n1,x,\n\n,2,"quo""ted"\n-1e3,,text\n')
    assert read_table(path) == {
        "a": [1.0, None, -1000.0],
        "b": ["x", "2", None],
        "c,d": [None, 'quo"ted', "text"],
    }


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("gone.csv", None, "does not exist"),
        ("empty.csv", b"", "empty"),
        ("header.csv", b"x,score\n", "no rows"),
        ("short.csv", b"x,score\n1,0.5\n\n2\n", "line 4: 1 cells"),
        ("twice.csv", b"x,x\n1,2\n", "'x' twice"),
        ("latin.csv", "x\nMünchen\n".encode("latin-1"), "UTF-8"),
        ("cut.csv.gz", gzip.compress(b"x,score\n" + b"1,0.5\n" * 99, mtime=0)[:-6], "cannot be read"),
        ("plain.csv.gz", b"x,score\n1,0.5\n", "cannot be read"),
        ("bad.parquet", b"PAR1", "cannot be read"),
        ("bad.json", b"{", "bad.json"),
        ("cut.json.gz", gzip.compress(b"{}", mtime=0)[:-3], "cannot be read"),
        ("probe.csv", b"x,score,probe__dense\n1,0.5,2\n", "probe__LAYER__mean"),
    ],
)
def test_what_is_no_reference_is_told_with_the_file_or_column(
    tmp_path: Path, name: str, data: bytes | None, words: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadReference, match=words):
        read_reference(tmp_path / name)


# -- tasks -----------------------------------------------------------------------------------------------------------------


def columns(n: int, **changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(n)
    score = rng.random(n).round(3)
    return {
        "x": rng.normal(size=n).tolist(),
        "score": score.tolist(),
        "label": (score > 0.5).astype(float).tolist(),
        **changed,
    }


@pytest.mark.parametrize(
    ("changed", "task"),
    [
        ({}, "binary"),
        ({"label": ["true", "no"] * 20}, "binary"),
        ({"label": [3.5] * 40}, "regression"),
        ({"score": [120.0] * 40}, "regression"),
        ({"score__a": [0.7] * 40, "score__b": [0.3] * 40, "label": ["a", "b"] * 20}, "multiclass"),
    ],
)
def test_the_task_is_seen_from_scores_and_labels(changed: dict[str, Any], task: Task) -> None:
    assert build_reference(columns(40, **changed)).task == task


def test_a_reference_without_labels_has_no_outcomes() -> None:
    table = columns(40)
    del table["label"]
    reference = build_reference(table)
    assert reference.task == "binary"
    assert one(reference, None, "outcomes") == 0
    assert one(reference, None, "rows") == 40


def test_a_label_of_ones_own_counts_as_positive_where_it_is_named() -> None:
    labels = ["churned", "stayed", None, "churned"] * 10
    reference = build_reference(columns(40, label=labels), positive_label="churned")
    assert (part(reference, None, "positives").sum(), part(reference, None, "negatives").sum()) == (20, 10)


def test_classes_are_those_of_scores_and_labels_and_confusion_counts_them() -> None:
    table = columns(40, score__a=[0.7, 0.2] * 20, score__b=[0.3, 0.8] * 20, label=["a", "c"] * 20)
    reference = build_reference(table)
    assert reference.classes == ("a", "b", "c")
    matrix = part(reference, None, "confusion").reshape(4, 4)
    assert matrix.sum() == 40
    assert matrix[0, 0] == 20  # label a, answered a
    assert matrix.trace() == 20  # label c was never answered


def test_errors_of_a_regression_are_numpys() -> None:
    rng = np.random.default_rng(1)
    truth, guess = rng.normal(50, 9, 60).round(3), rng.normal(50, 9, 60).round(3)
    reference = build_reference(columns(60, score=guess.tolist(), label=truth.tolist()))
    assert reference.task == "regression"
    assert one(reference, None, "absolute_error") == pytest.approx(np.abs(guess - truth).sum())
    assert one(reference, None, "squared_error") == pytest.approx(((guess - truth) ** 2).sum())


def test_a_column_that_is_always_null_or_never_finite_is_no_feature() -> None:
    reference = build_reference({**columns(40), "empty": [None] * 40, "nan": [float("nan")] * 40})
    assert [feature.name for feature in reference.features] == ["x"]


def test_the_fingerprint_knows_edges_and_counts_but_no_file_name(tmp_path: Path, frame: pd.DataFrame) -> None:
    one_file, other_file = tmp_path / "a.csv", tmp_path / "b.csv"
    frame.to_csv(one_file, index=False)
    frame.to_csv(other_file, index=False)
    assert read_reference(one_file).fingerprint == read_reference(other_file).fingerprint
    frame.iloc[:-1].to_csv(other_file, index=False)
    assert read_reference(one_file).fingerprint != read_reference(other_file).fingerprint
    assert json.loads(dump_reference(read_reference(one_file)))["fingerprint"] == read_reference(one_file).fingerprint
