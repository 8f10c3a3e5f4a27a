"""Two files become one order of arrival."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from streams.backtest.log_files import LogError, first_event, merge, read_log

NOW = 2_000_000.0


def lines(folder: Path, name: str, *events: dict[str, object] | str) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_text("".join((event if isinstance(event, str) else json.dumps(event)) + "\n" for event in events))
    return path


def merged(predictions: Path, labels: Path) -> list[str]:
    """p0, l0, … : file and line, in order of arrival."""
    return [
        f"{source[0]}{record.offset}" for source, record in merge(read_log(predictions, NOW), read_log(labels, NOW))
    ]


def test_events_are_merged_by_their_time_of_arrival_where_they_carry_one(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 9, "arrived_at": 1}, {"timestamp": 0, "arrived_at": 3})
    other = lines(tmp_path, "l", {"timestamp": 0, "arrived_at": 2}, {"timestamp": 5, "arrived_at": 4})
    assert merged(one, other) == ["p0", "l0", "p1", "l1"]


def test_events_are_merged_by_timestamp_where_they_carry_no_time_of_arrival(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 1}, {"timestamp": "1970-01-01T00:00:03Z"})
    other = lines(tmp_path, "l", {"timestamp": 2}, {"timestamp": 4.5})
    assert merged(one, other) == ["p0", "l0", "p1", "l1"]


def test_the_order_of_a_file_is_kept_whatever_its_stamps_say(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 30}, {"timestamp": 10}, {"timestamp": 40})
    other = lines(tmp_path, "l", {"timestamp": 20}, {"timestamp": 35})
    assert merged(one, other) == ["l0", "p0", "p1", "l1", "p2"]


def test_a_line_without_a_time_arrives_with_the_line_before_it(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 1}, "nonsense", {"timestamp": [1]}, {"timestamp": 5})
    other = lines(tmp_path, "l", {"timestamp": 2})
    assert merged(one, other) == ["p0", "p1", "p2", "l0", "p3"]


def test_one_stamp_far_ahead_holds_back_nothing_behind_it(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 1}, {"timestamp": 900_000}, {"timestamp": 3}, {"timestamp": 5})
    other = lines(tmp_path, "l", {"timestamp": 2}, {"timestamp": 4})
    assert merged(one, other) == ["p0", "l0", "p1", "p2", "l1", "p3"]


def test_a_first_stamp_far_ahead_holds_back_nothing_behind_it(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 900_000}, {"timestamp": 3}, {"timestamp": 5})
    other = lines(tmp_path, "l", {"timestamp": 2}, {"timestamp": 4})
    assert merged(one, other) == ["l0", "p0", "p1", "l1", "p2"]


def test_a_gap_in_a_file_is_a_gap(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"timestamp": 1}, *({"timestamp": 100_000 + at} for at in range(3)))
    other = lines(tmp_path, "l", {"timestamp": 50_000}, {"timestamp": 100_001.5})
    assert merged(one, other) == ["p0", "l0", "p1", "p2", "l1", "p3"]


def test_a_line_without_a_time_of_arrival_among_those_that_have_one_says_nothing_by_its_stamp(tmp_path: Path) -> None:
    one = lines(tmp_path, "p", {"arrived_at": 1}, {"timestamp": 60}, {"arrived_at": 3})
    other = lines(tmp_path, "l", {"arrived_at": 2})
    assert merged(one, other) == ["p0", "p1", "l0", "p2"]


def test_a_stamp_is_held_against_the_time_of_arrival_or_the_clock_that_is_given(tmp_path: Path) -> None:
    path = lines(tmp_path, "p", {"timestamp": 1, "arrived_at": 7}, {"timestamp": 1})
    assert [line.record.timestamp for line in read_log(path, NOW)] == [7, NOW]


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.parquet"])
def test_a_file_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(LogError, match=name):
        list(read_log(tmp_path / name, NOW))


def test_gz_is_known_by_its_first_bytes_whatever_the_file_is_called(tmp_path: Path) -> None:
    packed, plain = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"timestamp":1}\n', mtime=0))
    plain.write_bytes(b'{"timestamp":1}\n')
    assert [line.at for path in (packed, plain) for line in read_log(path, NOW)] == [1.0, 1.0]


def test_offsets_count_blank_lines_so_that_an_editor_finds_the_line(tmp_path: Path) -> None:
    path = lines(tmp_path, "p", {"timestamp": 1}, "", {"timestamp": 2})
    assert [line.record.offset for line in read_log(path, NOW)] == [0, 2]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b""),
        ("a.parquet", b"PAR1 and then something else"),
        ("a.csv", b"request_id,score\n"),
        ("a.jsonl.gz", gzip.compress(b'{"timestamp":1}\n' * 99, mtime=0)[:-9]),
        ("a.jsonl.gz", gzip.compress(b'{"timestamp":1}\n' * 99, mtime=0)[:20] + bytes(40)),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(LogError, match=name):
        list(read_log(path, NOW))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_progress_adds_up_to_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    path, rows = tmp_path / name, [{"timestamp": float(at)} for at in range(9000)]
    if name.endswith("parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    told: list[int] = []
    assert len(list(read_log(path, NOW, told.append))) == 9000
    assert sum(told) == path.stat().st_size
    assert all(step >= 0 for step in told)
    assert len(told) > 2


def test_a_byte_order_mark_is_no_part_of_the_first_event(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"timestamp": 1}\r\n{"timestamp": 2}\r\n')
    assert [(arrived.at, arrived.record.value) for arrived in read_log(path, NOW)] == [
        (1.0, b'{"timestamp": 1}'),
        (2.0, b'{"timestamp": 2}'),
    ]


def test_parquet_is_known_by_its_first_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    parquet.write_table(pa.table({"timestamp": [1.0, 2.0]}), path)
    assert [arrived.at for arrived in read_log(path, NOW)] == [1.0, 2.0]
    assert first_event(path) == b'{"timestamp":1.0}'


def test_the_first_event_of_a_log_is_that_of_its_first_line_that_is_not_blank(tmp_path: Path) -> None:
    assert first_event(lines(tmp_path, "p", "", '{"a": 1}', '{"a": 2}')) == b'{"a": 1}'
    assert first_event(lines(tmp_path, "l")) is None
