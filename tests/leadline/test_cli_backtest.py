"""`leadline backtest` and `leadline reference build` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.leadline.cli_log import ROWS, leadline, write_log


@pytest.fixture
def log(tmp_path: Path) -> list[object]:
    predictions, labels, reference = write_log(tmp_path)
    return ["--predictions", predictions, "--labels", labels, "--reference", reference]


def test_a_log_becomes_a_report_and_tables(tmp_path: Path, log: list[object]) -> None:
    done = leadline("backtest", *log, "--report", "report.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["predictions"] == ROWS
    assert report["counts"]["joined"] == ROWS * 9 // 10
    assert report["counts"]["orphan"] == 1
    assert report["counts"]["rejected"] == 1
    assert report["parameters"]["delay_window_s"] == 48 * 3600
    assert report["parameters"]["early_tolerance_s"] == 300
    assert report["models"][0]["reference_rows"] == ROWS
    assert "joined" in done.stdout
    assert "incidents:" in done.stdout
    assert "backtest" in done.stderr  # the progress


def test_the_same_log_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path, log: list[object]) -> None:
    one = leadline("backtest", *log, "--json", cwd=tmp_path, PYTHONHASHSEED="1")
    other = leadline("backtest", *log, "--report", "report.json", cwd=tmp_path, PYTHONHASHSEED="77")
    assert one.returncode == other.returncode == 0
    assert one.stdout == (tmp_path / "report.json").read_text() + "\n"
    assert json.loads(one.stdout)["version"] == 1


def test_options_go_before_the_configuration_and_the_configuration_before_the_defaults(
    tmp_path: Path, log: list[object]
) -> None:
    (tmp_path / "leadline.yaml").write_text("join: {delay_window: 30s, early_tolerance: 1s}\n")
    done = leadline("backtest", *log, "--early-tolerance", "2m", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["parameters"]["delay_window_s"] == 30
    assert report["parameters"]["early_tolerance_s"] == 120
    assert report["counts"]["joined"] == 0
    assert report["counts"]["late"] > 0


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--predictions", "gone.jsonl"], "gone.jsonl does not exist"),
        (["--reference", "gone.csv"], "gone.csv does not exist"),
        (["--reference", "bad.csv"], "no rows"),
        (["--delay-window", "two days"], "48h"),
        (["--delay-window", "90d"], "--delay-window"),
        (["--config", "gone.yaml"], "gone.yaml"),
        (["--config", "bad.yaml"], "did you mean `kafka`"),
        (["--now", "noon"], "RFC 3339"),
        (["--predictions", "cut.jsonl.gz"], "cannot be read"),
        (["--predictions", "bad.parquet"], "bad.parquet cannot be read"),
        (["--predictions", "bad.csv"], "JSON Lines"),
        (["--report", "nowhere/report.json"], "nowhere"),
    ],
)
def test_what_cannot_be_used_is_named_and_ends_with_status_2(
    tmp_path: Path, log: list[object], wrong: list[object], words: str
) -> None:
    (tmp_path / "bad.csv").write_text("age,score\n")
    (tmp_path / "bad.yaml").write_text("kafak: {}\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    (tmp_path / "cut.jsonl.gz").write_bytes((tmp_path / "p.jsonl.gz").read_bytes()[:200])
    done = leadline("backtest", *log, "--report", "report.json", *wrong, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_a_file_without_a_single_event_is_told_with_the_reason_of_its_first_line(
    tmp_path: Path, log: list[object]
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "other.jsonl").write_text('\n{"request_id": "a", "label_value": 1}\n')
    empty = leadline("backtest", *log, "--labels", "empty.jsonl", "--json", cwd=tmp_path)
    assert empty.returncode == 0
    assert json.loads(empty.stdout)["counts"]["joined"] == 0
    assert "empty.jsonl holds no lines" in empty.stderr
    other = leadline("backtest", *log, "--labels", "other.jsonl", "--report", "report.json", cwd=tmp_path)
    assert other.returncode == 0
    assert "none of the 1 lines of other.jsonl is a label: line 2: missing_field" in other.stderr
    assert "first rejected of predictions, line 601: malformed_json" in other.stdout
    assert "each other's file" not in other.stderr


def test_files_given_the_wrong_way_round_are_asked_about(tmp_path: Path, log: list[object]) -> None:
    swapped = ["--predictions", log[3], "--labels", log[1], "--reference", log[5]]
    done = leadline("backtest", *swapped, "--report", "report.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "each other's file" in done.stderr
    assert not (tmp_path / "report.json").exists()


def test_fields_that_nobody_reads_are_named_before_the_log_is_read(tmp_path: Path, log: list[object]) -> None:
    flat = {
        "request_id": "r",
        "model_id": "m",
        "model_version": "1",
        "timestamp": 1.75e9,
        "score": 0.5,
        "age": 60,
        "arrived_at": 1.75e9,
    }
    (tmp_path / "flat.jsonl").write_text(json.dumps(flat) + "\n")
    done = leadline("backtest", "--predictions", "flat.jsonl", *log[2:4], "--report", "report.json", cwd=tmp_path)
    assert done.returncode == 0
    assert "no prediction has such fields: age; features go into one object, `features`" in done.stderr
    assert "first rejected" not in done.stdout


def test_the_words_fit_a_terminal_of_80_columns(tmp_path: Path, log: list[object]) -> None:
    done = leadline("backtest", *log, "--report", "report.json", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    long = [line for line in done.stdout.splitlines() if len(line) > 80 and not line.startswith("first rejected")]
    assert long == []
    assert "…" not in done.stdout
    assert "600: 540 joined, 0 late, 0 expired, 60 pending" in done.stdout


def test_a_built_reference_says_the_same_as_its_rows(tmp_path: Path, log: list[object]) -> None:
    built = leadline("reference", "build", log[-1], "-o", "ref.json", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert "age" in built.stdout
    by_rows = leadline("backtest", *log, "--json", cwd=tmp_path)
    by_json = leadline("backtest", *log[:-1], "ref.json", "--json", cwd=tmp_path)
    assert json.loads(by_rows.stdout)["figures"] == json.loads(by_json.stdout)["figures"]


def test_the_summary_of_a_reference_is_json_when_a_script_asks(tmp_path: Path, log: list[object]) -> None:
    done = leadline("reference", "build", log[-1], "-o", "ref.json", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["task"], told["rows"], told["labelled_rows"]) == ("binary", ROWS, ROWS)
    assert told["segments"] == ["site=north", "site=south"]
    assert [row["name"] for row in told["features"]] == ["age", "ward"]


@pytest.mark.parametrize(
    ("rows", "words"), [("gone.csv", "does not exist"), ("empty.csv", "empty"), ("it.json", "CSV or Parquet")]
)
def test_rows_that_make_no_reference_are_refused(tmp_path: Path, rows: str, words: str) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "it.json").write_text("{}")
    done = leadline("reference", "build", rows, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "reference.json").exists()
