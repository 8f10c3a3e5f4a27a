"""Training rows as columns by name, from CSV (plain or gz) or Parquet. What would be misread is refused, with its column and line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from streams.counting.features import BadReference

PARQUET_MAGIC = b"PAR1"
DESCRIBING = frozenset(  # columns that say which row it is, and are read by nobody
    {"request_id", "model_id", "model_version", "timestamp", "arrived_at", "stage", "entity_id"}
)
INDEX = re.compile(r"|__index_level_\d+__|Unnamed: \d+")  # what pandas calls an index that was written along
BOOLS = {"true": True, "false": False}
NO_VALUE = frozenset({"na", "n/a", "#n/a", "null", "none", "-", "?", "."})
CODE = re.compile(r"0\d+")  # 01234 is a name, not a number
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_table(path: Path) -> dict[str, list[Any]]:
    """Cells are None, float, bool or str; in columns that are `DESCRIBING`, whatever stood there.

    In CSV an empty cell is null, a column whose every other cell is a number is numeric, one of true and false is bool.
    """
    table = _parquet(path) if _is_parquet(path) else _csv(path)
    if not table:
        raise BadReference(f"{path} has no column; it needs features, and of the model's answers `score` and `label`")
    return table


def unpacked(path: Path) -> bytes:
    """The file's bytes, without gzip."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise BadReference(f"{path} cannot be read: {error}") from None


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return path.suffix in {".parquet", ".pq"} or file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError as error:
        raise BadReference(f"{path} cannot be read: {error.strerror or error}") from None


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise BadReference(
            f"{path} is Parquet: install it with `pip install 'leadline[parquet]'`, or give CSV"
        ) from None
    try:
        table: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (OSError, ValueError) as error:
        raise BadReference(f"{path} cannot be read: {error}") from None
    return {
        name: values if name in DESCRIBING else [_cell(path, name, value) for value in values]
        for name, values in table.items()
        if not INDEX.fullmatch(name)
    }


def _cell(path: Path, name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float | Decimal):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return None if math.isnan(number) else number
    raise BadReference(
        f"{path}: column {name!r} holds values of type {type(value).__name__}; a feature is a number, a text or a bool. "
        "Give it as the service publishes it, or leave the column out"
    )


def _csv(path: Path) -> dict[str, list[Any]]:
    try:
        text = unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadReference(f"{path} is no CSV in UTF-8: {error}") from None
    if text.lstrip().startswith(("{", "[")):
        raise BadReference(f"{path} is JSON; give training rows as a table, CSV or Parquet, a row a line")
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(rows, None)
        body = [(rows.line_num, row) for row in rows if row]
    except csv.Error as error:
        raise BadReference(f"{path}, line {rows.line_num}: {error}") from None
    if not header:
        raise BadReference(f"{path} is empty; it needs a header line and one line a row")
    if len(header) == 1 and (sign := next((sign for sign in SEPARATORS if sign in header[0]), None)):
        raise BadReference(
            f"{path} has one column, {header[0][:60]!r}; its cells are parted by {SEPARATORS[sign]}, not by commas"
        )
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice is not None:
        raise BadReference(f"{path} names the column {twice!r} twice; which of the two is meant?")
    for line, row in body:
        if len(row) != len(header):
            raise BadReference(f"{path}, line {line}: {len(row)} cells, but the header names {len(header)} columns")
    lines = [line for line, _ in body]
    cells = list(zip(*(row for _, row in body), strict=True)) if body else [()] * len(header)
    return {
        name: list(column) if name in DESCRIBING else _typed(path, name, column, lines)
        for name, column in zip(header, cells, strict=True)
        if not INDEX.fullmatch(name)
    }


def _typed(path: Path, name: str, column: Sequence[str], lines: Sequence[int]) -> list[Any]:
    given = {cell for cell in column if cell != ""}
    if given and all(cell.lower() in BOOLS for cell in given):
        return [BOOLS[cell.lower()] if cell != "" else None for cell in column]
    if any(CODE.fullmatch(cell) for cell in given):
        return [cell if cell != "" else None for cell in column]
    numbers: dict[str, float | None] = {"": None}
    words = []
    for cell in given:
        try:
            number = float(cell)
        except ValueError:
            words.append(cell)
        else:
            numbers[cell] = None if math.isnan(number) else number
    if not words:
        return [numbers[cell] for cell in column]
    if len(words) < len(given) and all(word.strip().lower() in NO_VALUE for word in words):
        at = next(place for place, cell in enumerate(column) if cell in words)
        raise BadReference(
            f"{path}, line {lines[at]}: {column[at]!r} among the numbers of column {name!r}; leave a missing cell empty"
        )
    return [cell if cell != "" else None for cell in column]
