"""Training rows as people have them: what pandas, R and spreadsheets write, read as it was meant or refused with the place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leadline.config import Config, Model
from streams.backtest.backtest import Backtest
from streams.backtest.report import build_report
from streams.baselines.reference_files import build_reference, read_reference
from streams.baselines.training_tables import read_table
from streams.core.stage import Record
from streams.counting.features import BadReference

ROWS = 60


@pytest.fixture
def frame() -> pd.DataFrame:
    draw = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "age": draw.normal(60, 9, ROWS).round(1),
            "visits": draw.integers(0, 9, ROWS),
            "icu": draw.random(ROWS) < 0.4,
            "postcode": [f"{number:05d}" for number in draw.integers(1000, 1009, ROWS)],
            "score": draw.random(ROWS).round(3),
            "label": draw.integers(0, 2, ROWS),
        }
    )
    frame.loc[3, "age"] = np.nan
    return frame


def kinds(path: Path) -> dict[str, str]:
    return {feature.name: feature.kind for feature in read_reference(path).features}


def test_a_frame_is_the_same_reference_as_csv_and_as_parquet(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    expected = {"age": "numeric", "visits": "numeric", "icu": "categorical", "postcode": "categorical"}
    assert kinds(tmp_path / "rows.csv") == kinds(tmp_path / "rows.parquet") == expected
    one, other = read_reference(tmp_path / "rows.csv"), read_reference(tmp_path / "rows.parquet")
    assert one.fingerprint == other.fingerprint


def test_bools_are_counted_as_the_bools_of_live_rows(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(tmp_path / "rows.csv", index=False)
    icu = next(feature for feature in read_reference(tmp_path / "rows.csv").features if feature.name == "icu")
    named = [icu.bins.labels[code] for code in icu.assign([True, False])[0].tolist()]
    assert named == ["true", "false"]


@pytest.mark.parametrize(
    "write", [lambda f, p: f.to_csv(p / "rows.csv"), lambda f, p: f.set_index("age").to_parquet(p / "rows.csv")]
)
def test_an_index_that_was_written_along_is_no_feature(
    tmp_path: Path, frame: pd.DataFrame, write: Callable[[pd.DataFrame, Path], None]
) -> None:
    write(frame.assign(other=frame.age), tmp_path)  # the second is Parquet under another name
    assert set(kinds(tmp_path / "rows.csv")) - {"age"} == {"visits", "icu", "postcode", "other"}


def test_whole_numbers_of_parquet_are_scores_and_labels(tmp_path: Path, frame: pd.DataFrame) -> None:
    prices = frame.assign(score=range(100, 100 + ROWS), label=range(90, 90 + ROWS))
    prices.to_parquet(tmp_path / "rows.parquet")
    found = read_reference(tmp_path / "rows.parquet")
    assert found.task == "regression"
    assert found.score is not None
    assert math.isclose(found.score.center, prices.score.mean())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,score\n60,0.5\nNA,0.4\n", "line 3: 'NA' among the numbers of column 'age'"),
        ("age,score\n\n60,0.5\n?,0.4\n", "line 4: '\\?' among"),
        ("age;score\n60;0,5\n", "parted by semicolons"),
        ("age\tscore\n60\t0.5\n", "parted by tabs"),
        ('{"age": 60, "score": 0.5}\n', "is JSON"),
        ("age,feature__age\n1,2\n", "'feature__age' are one feature"),
    ],
)
def test_what_would_be_misread_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(BadReference, match=words):
        read_reference(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("values", "kind"),
    [([{"a": 1.0}] * 3, "dict"), ([[1.0]] * 3, "list"), ([pd.Timestamp("2025-01-01")] * 3, "datetime")],
)
def test_a_column_of_no_feature_is_refused_by_its_name(tmp_path: Path, values: list[Any], kind: str) -> None:
    pd.DataFrame({"odd": values, "score": [0.1, 0.2, 0.3]}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(BadReference, match=f"column 'odd' holds values of type {kind}"):
        read_reference(tmp_path / "rows.parquet")


def test_words_among_numbers_that_are_categories_stay_categories(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("code\n401\nV27\nNA\n401\n")
    assert read_table(tmp_path / "rows.csv")["code"] == ["401", "V27", "NA", "401"]


def test_a_feature_that_is_called_like_another_column_is_given_with_a_prefix() -> None:
    columns = {
        "feature__stage": ["I", "II"] * 30,
        "stage": ["live"] * 60,
        "feature__score": [1.0, 2.0] * 30,
        "score": [0.2, 0.4] * 30,
    }
    found = build_reference(columns)
    assert [feature.name for feature in found.features] == ["stage", "score"]
    assert found.score is not None
    assert found.score.center == pytest.approx(0.3)


def test_a_learned_baseline_knows_features_that_are_called_like_fields_of_events() -> None:
    names = ("score", "label", "stage", "confidence", "segment__x", "score__a")
    backtest = Backtest(Config(models={"*": Model(learn_rows=100)}))
    draw = np.random.default_rng(2)
    events = (
        {
            "request_id": f"r{number}",
            "model_id": "m",
            "model_version": "1",
            "timestamp": 1.75e9 + number,
            "score": 0.5,
            "features": dict(zip(names, draw.normal(size=len(names)).tolist(), strict=True)),
        }
        for number in range(300)
    )
    backtest.feed(
        ("predictions", Record(at, None, json.dumps(event).encode(), 1.76e9)) for at, event in enumerate(events)
    )
    report = build_report(backtest)
    assert report["models"][0]["features"] == sorted(names)
    unknown = [row["value"] for row in report["figures"] if row["signal"] == "extra_feature_rate"]
    assert unknown
    assert set(unknown) == {0.0}
    assert report["incidents"] == []
