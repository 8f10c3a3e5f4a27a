"""A recorded log gives the figures that pandas and scikit-learn give, however it is stored, twice the same."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from leadline.config import Config, Join, Model
from streams.backtest.backtest import Backtest
from streams.backtest.log_files import LogError, read_log
from streams.backtest.report import build_report, encode_report
from tests.streams.logs import (
    DAY_S,
    Log,
    Truth,
    data_figures,
    is_close,
    make_log,
    outcome_figures,
    truth_of,
    write_reference,
)

WINDOW, TOLERANCE = 8 * 3600.0, 300.0
NOW = 1.79e9  # long after the logs


def configuration(reference: Path | None, **join: Any) -> Config:
    chosen = Join(delay_window=join.pop("delay_window", WINDOW), early_tolerance=TOLERANCE, **join)
    return Config(join=chosen, models={"*": Model(reference=reference)})


def run(paths: tuple[Path, Path], reference: Path | None, **join: Any) -> dict[str, Any]:
    backtest = Backtest(configuration(reference, **join))
    backtest.run(*paths, NOW)
    report: dict[str, Any] = json.loads(encode_report(build_report(backtest)))
    return report


class Made(NamedTuple):
    log: Log
    truth: Truth
    reference: Path
    base: pd.DataFrame
    report: dict[str, Any]
    paths: tuple[Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("log")
    base = write_reference(folder / "reference.csv")
    log = make_log()
    paths = log.write(folder)
    truth = truth_of(log.predictions, log.labels, WINDOW, TOLERANCE)
    return Made(log, truth, folder / "reference.csv", base, run(paths, folder / "reference.csv"), paths)


def windows(frame: pd.DataFrame) -> Iterator[tuple[float | None, float | None, pd.DataFrame]]:
    yield None, None, frame
    for day, rows in frame.groupby("day"):
        yield float(day * DAY_S), float((day + 1) * DAY_S), rows


def found(
    report: dict[str, Any], version: str | None, segment: str | None, start: float | None
) -> dict[tuple[str, str | None], dict]:
    rows = [
        row
        for row in report["figures"]
        if (row["model_version"], row["segment"], row["window_start"], row["axis"])
        == (version, segment, start, "cohort")
    ]
    named = {(row["signal"], row["subject"]): row for row in rows}
    assert len(named) == len(rows), "one figure stands twice"
    return named


def compare_outcomes(rows: dict[tuple[str, str | None], dict], frame: pd.DataFrame) -> int:
    compared = 0
    for signal, expected in outcome_figures(frame).items():
        row = rows[signal, {"label_rate": "label"}.get(signal)]
        if signal in ("auc", "average_precision"):
            assert abs(row["value"] - expected) <= row["bound"] + 1e-12, (signal, row, expected)
            assert row["bound"] < 0.02
        else:
            assert is_close(row["value"], expected), (signal, row, expected)
        assert row["n"] <= len(frame)
        compared += 1
    return compared


# -- counts ---------------------------------------------------------------------------------------------------------


def test_every_join_state_is_counted_as_pandas_counts_it(made: Made) -> None:
    counts = dict(made.report["counts"])
    expected = dict(made.truth.counts)
    assert counts["pending"] + counts["expired"] == expected.pop("unlabelled")
    assert {name: counts[name] for name in expected} == expected
    assert all(expected[name] > 3 for name in expected), "the log does not try every state"
    states = ("joined", "late", "expired", "pending")
    assert sum(counts[name] for name in states) == counts["predictions"]
    assert counts["early"] > 10


def test_every_bad_line_is_rejected_with_its_reason(made: Made) -> None:
    assert made.report["rejected"] == made.log.bad
    assert made.report["counts"]["rejected"] == sum(made.log.bad.values())


# -- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "1", "2"])
@pytest.mark.parametrize("segment", [None, "site=north", "site=south"])
def test_figures_of_every_cell_and_day_are_those_of_scikit_learn_and_scipy(
    made: Made, version: str | None, segment: str | None
) -> None:
    frame = made.truth.frame
    base = made.base
    if version is not None:
        frame = frame[frame["model_version"] == version]
    if segment is not None:
        site = segment.removeprefix("site=")
        frame = frame[[row["site"] == site for row in frame["segments"]]]
        base = base[base["segment__site"] == site]
    compared = 0
    for start, end, rows in windows(frame):
        figures = found(made.report, version, segment, start)
        assert {row["window_end"] for row in figures.values()} == {end}
        assert figures["rows", None]["value"] == len(rows)
        compared += compare_outcomes(figures, rows)
        expected = data_figures(rows, "age", base["age"])
        for signal in ("null_rate", "mean", "standard_deviation", "mean_shift"):
            assert is_close(figures[signal, "age"]["value"], expected[signal]), (
                signal,
                figures[signal, "age"],
                expected,
            )
        # Over a hundred fine bins: below the exact gap by at most the largest bin of both.
        gap = figures["ks", "age"]["value"]
        assert expected["ks"] - 0.03 - 3 / len(rows) <= gap <= expected["ks"] + 1e-9
        if segment is None:
            assert is_close(figures["psi", "age"]["value"], expected["psi"])
        wards = [row["ward"] for row in rows["features"]]
        assert is_close(figures["new_category_rate", "ward"]["value"], wards.count("z") / len(rows))
        assert is_close(figures["mean", "score"]["value"], float(rows["score"].mean()))
        assert is_close(figures["latency_mean", "latency_ms"]["value"], float(rows["latency_ms"].mean()))
        assert figures["latency_p99", "latency_ms"]["value"] == pytest.approx(
            rows["latency_ms"].quantile(0.99, interpolation="higher"), rel=0.08
        )
        compared += 9
    assert compared > 20


def test_a_version_that_serves_alone_has_the_figures_of_all_versions(tmp_path: Path, made: Made) -> None:
    log = Log(made.log.predictions[:300], made.log.labels[:300], {})
    report = run(log.write(tmp_path), made.reference)
    everything, only = found(report, None, None, None), found(report, "1", None, None)
    assert {name: row["value"] for name, row in everything.items()} == {
        name: row["value"] for name, row in only.items()
    }


def test_the_injected_fault_becomes_an_incident_with_a_scope_and_an_onset(made: Made) -> None:
    shift_at = made.truth.frame["timestamp"].iloc[2 * len(made.truth.frame) // 3]
    told = [row for row in made.report["incidents"] if row["subject"] in ("age", "score") or row["layer"] == "outcome"]
    assert told
    first = min(told, key=lambda row: row["opened_at"])
    assert first["opened_at"] > shift_at
    assert abs(first["onset_at"] - shift_at) < 4 * 3600
    opened = [alert["incident_id"] for alert in made.report["alerts"] if alert["life"] == "open"]
    assert opened == [row["id"] for row in sorted(made.report["incidents"], key=lambda row: row["opened_at"])]


# -- the same log -----------------------------------------------------------------------------------------------------


def small(made: Made) -> Log:
    return Log(made.log.predictions[:400], made.log.labels[:400], {})


def test_the_same_log_gives_the_same_bytes(tmp_path: Path, made: Made) -> None:
    paths = small(made).write(tmp_path)
    texts = set()
    for _ in range(2):
        backtest = Backtest(configuration(made.reference))
        backtest.run(*paths, NOW)
        texts.add(encode_report(build_report(backtest)))
    assert len(texts) == 1


def test_plain_gz_and_parquet_hold_the_same_log(tmp_path: Path, made: Made) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    log = small(made)
    log = Log(
        [line for line in log.predictions if '"x"' not in line and '""' not in line],
        [line for line in log.labels if line.startswith("{") and line.endswith("}")],
        {},
    )
    reports = [run(log.write(tmp_path, suffix), made.reference) for suffix in (".jsonl", ".jsonl.gz")]
    paths = tmp_path / "predictions.parquet", tmp_path / "labels.parquet"
    for path, lines in zip(paths, (log.predictions, log.labels), strict=True):
        rows = [json.loads(line) for line in lines]
        for row in rows:
            row.setdefault("prediction", None)  # columns are those of the first row
            row["timestamp"] = (
                pd.Timestamp(row["timestamp"]).timestamp() if isinstance(row["timestamp"], str) else row["timestamp"]
            )
        parquet.write_table(pa.Table.from_pylist(rows), path)
    reports.append(run(paths, made.reference))
    assert reports[0] == reports[1]
    assert reports[0] == reports[2]


@pytest.mark.parametrize("order", ["file", "shuffled"])
def test_a_log_without_times_of_arrival_has_the_same_final_figures(tmp_path: Path, order: str) -> None:
    """No label of this log is corrected after another: then no order changes a figure."""
    reference = tmp_path / "reference.csv"
    write_reference(reference)
    log = make_log(5, 400, stamped=False, bad=False)
    if order == "shuffled":
        random.Random(1).shuffle(log.predictions)
    truth = truth_of(log.predictions, log.labels, WINDOW, TOLERANCE)
    report = run(log.write(tmp_path), reference)
    expected = dict(truth.counts)
    assert report["counts"]["pending"] + report["counts"]["expired"] == expected.pop("unlabelled")
    assert {name: report["counts"][name] for name in expected} == expected
    compare_outcomes(found(report, None, None, None), truth.frame)


def test_labels_before_all_predictions_are_early_and_change_no_figure(tmp_path: Path, made: Made) -> None:
    lines = [json.loads(line) for line in make_log(6, 300, bad=False).labels]
    log = make_log(6, 300, bad=False)
    for row in lines:
        row["arrived_at"] = 1_700_000_000.0
    early = Log(log.predictions, [json.dumps(row) for row in lines], {})
    truth = truth_of(early.predictions, early.labels, WINDOW, TOLERANCE)
    # A label that arrives before it was stamped has a clock that runs ahead: this log's broker allows for it.
    report = run(early.write(tmp_path), made.reference, max_future=1e9, max_jump=1e9)
    assert report["counts"]["joined"] == truth.counts["joined"]
    assert report["counts"]["early"] == len({row["request_id"] for row in lines} & set(truth.frame.index))
    compare_outcomes(found(report, None, None, None), truth.frame)


def test_malformed_lines_between_change_nothing_but_the_rejected(tmp_path: Path, made: Made) -> None:
    clean = make_log(7, 300, bad=False)
    dirty = make_log(7, 300, bad=True)
    (tmp_path / "clean").mkdir()
    (tmp_path / "dirty").mkdir()
    one, other = (
        run(clean.write(tmp_path / "clean"), made.reference),
        run(dirty.write(tmp_path / "dirty"), made.reference),
    )
    assert other["rejected"] == dirty.bad
    # Batches are cut elsewhere, and sums of floats then differ in the last digit.
    assert len(one["figures"]) == len(other["figures"])
    for left, right in zip(one["figures"], other["figures"], strict=True):
        assert left == {
            name: pytest.approx(value) if isinstance(value, float) else value for name, value in right.items()
        }
    assert [row["id"] for row in one["incidents"]] == [row["id"] for row in other["incidents"]]
    assert one["incidents"]


def test_an_empty_log_gives_a_report_without_figures(tmp_path: Path, made: Made) -> None:
    report = run(Log([], [], {}).write(tmp_path), made.reference)
    assert report["figures"] == report["incidents"] == []
    assert set(report["counts"].values()) == {0}


def test_blank_lines_are_no_events(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('\n{"request_id":"a"}\n\n  \n{"request_id":"b"}')
    assert len(list(read_log(path, NOW))) == 2


def test_a_file_that_is_cut_short_is_an_error_that_names_it(tmp_path: Path, made: Made) -> None:
    paths = small(made).write(tmp_path)
    paths[0].write_bytes(paths[0].read_bytes()[:-100])
    with pytest.raises(LogError, match="predictions"):
        run(paths, made.reference)


def test_lines_that_are_no_events_are_told_by_file_reason_and_line(tmp_path: Path, made: Made) -> None:
    log = small(made)
    predictions = ["", "{", *log.predictions, '{"request_id": "x"}', "{"]
    paths = Log(predictions, log.labels, {}).write(tmp_path)
    backtest = Backtest(configuration(made.reference))
    backtest.run(*paths, NOW)
    taken = backtest.taken["predictions"]
    assert taken.lines == len(predictions) - 1
    assert taken.first["malformed_json"].record.offset == 1
    of_labels = sum(backtest.observer.rejected.values()) - taken.rejected
    assert backtest.taken["labels"].rejected == of_labels


def test_without_a_reference_join_and_outcome_figures_cover_every_row(tmp_path: Path, made: Made) -> None:
    log = small(made)
    truth = truth_of(log.predictions, log.labels, WINDOW, TOLERANCE)
    backtest = Backtest(Config(join=Join(delay_window=WINDOW), models={"*": Model(learn_rows=150)}))
    backtest.run(*log.write(tmp_path), NOW)
    report = json.loads(encode_report(build_report(backtest)))
    assert report["models"][0]["baseline"] == "learned"
    figures = found(report, None, None, None)
    assert figures["rows", None]["value"] == len(truth.frame)
    compare_outcomes(figures, truth.frame)
    # Features have bins from the baseline on: of its own rows, and of those that came once it was known.
    assert 150 <= figures["null_rate", "age"]["n"] <= len(truth.frame)
    assert figures["null_rate", "age"]["reference"] is not None


# -- a log of real records --------------------------------------------------------------------------------------------


RECORDED = os.environ.get("LEADLINE_RECORDED_LOG")
FILES = ("predictions.jsonl.gz", "labels.jsonl.gz", "reference.csv.gz")


@pytest.fixture(scope="module", params=["generated", *([RECORDED] if RECORDED else [])])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with predictions.jsonl.gz, labels.jsonl.gz and reference.csv.gz: one that is made here, and the one that
    LEADLINE_RECORDED_LOG names."""
    if request.param != "generated":
        return Path(request.param)
    folder = tmp_path_factory.mktemp("recorded")
    write_reference(folder / FILES[2], seed=21, n=2500)
    make_log(22, 2400, bad=False, every_s=150.0).write(folder)
    return folder


def test_whole_log_and_daily_figures_of_a_recorded_log_are_those_of_scikit_learn(recorded: Path) -> None:
    paths = recorded / FILES[0], recorded / FILES[1]
    lines = [gzip.decompress(path.read_bytes()).decode().splitlines() for path in paths]
    window = 12 * 3600.0
    truth = truth_of(lines[0], lines[1], window, TOLERANCE)
    report = run(paths, recorded / FILES[2], delay_window=window)
    expected = dict(truth.counts)
    assert report["counts"]["pending"] + report["counts"]["expired"] == expected.pop("unlabelled")
    assert {name: report["counts"][name] for name in expected} == expected
    base = pd.read_csv(recorded / FILES[2])
    segments = sorted({f"{name}={value}" for row in truth.frame["segments"] for name, value in row.items()})
    compared = 0
    for segment in [None, *segments]:
        frame = truth.frame
        if segment is not None:
            name, _, value = segment.partition("=")
            frame = frame[[row[name] == value for row in frame["segments"]]]
        for start, _, rows in windows(frame):
            figures = found(report, None, segment, start)
            compared += compare_outcomes(figures, rows)
            if segment is None:
                for feature in base.columns.intersection(list(rows["features"].iloc[0])):
                    if pd.api.types.is_numeric_dtype(base[feature]):
                        known = data_figures(rows, feature, base[feature])
                        for signal in ("null_rate", "mean", "standard_deviation", "mean_shift"):
                            assert is_close(figures[signal, feature]["value"], known[signal]), (feature, signal)
                            compared += 1
    assert compared > 200
