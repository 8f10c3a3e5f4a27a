"""What a judge has stored of its models' cohorts, read with nothing of the product but the names of its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from streams.judge.judge_rows import DAYS_TABLE, OPEN_TABLE, SEPARATOR

TABLES = (DAYS_TABLE, OPEN_TABLE)
Entries = tuple[str, npt.NDArray[np.uint32], npt.NDArray[np.float64]]


def live_entries(tables: Mapping[str, Mapping[bytes, bytes]]) -> Iterator[Entries]:
    """(model, slots, values) of everything that counts for all live traffic: days, what adds to them, and panes that are open."""
    for name, row in tables.get(DAYS_TABLE, {}).items():
        model_id, version, stage, segment, day = name.decode().split(SEPARATOR)
        if (version, stage, segment, day[0]) == ("\x00", "live", "\x00", "c"):
            slots, values = msgspec.msgpack.decode(row, type=tuple[bytes, bytes])
            yield model_id, np.frombuffer(slots, "<u4"), np.frombuffer(values, "<f8")
    for name, row in tables.get(OPEN_TABLE, {}).items():
        cells, bounds, slots, values = msgspec.msgpack.decode(row, type=tuple[list[list[object]], bytes, bytes, bytes])
        ends = np.frombuffer(bounds, "<u4").tolist()
        for (_, stage, segment, _, _), begin, end in zip(cells, ends, ends[1:], strict=False):
            if stage != "shadow" and segment is None:
                model_id = name.decode().split(SEPARATOR)[0]
                yield model_id, np.frombuffer(slots, "<u4")[begin:end], np.frombuffer(values, "<f8")[begin:end]
