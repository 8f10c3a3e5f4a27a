"""Records of a chunk in which something is odd: each is taken on its own, or said to be wrong."""

from __future__ import annotations

import msgspec

from streams.core.colons import PLAIN_MAPS, other_keys
from streams.core.decoded import DECODERS, Event, Fault
from streams.core.records import Records
from streams.core.rfc3339 import parse_rfc3339
from streams.core.what_is_wrong import clock_fault, explain, look_closely


def one_by_one(
    kind: type[Event], records: Records, max_bytes: int, max_future_s: float, faults: list[Fault]
) -> tuple[list[Event], list[float], list[int]]:
    """Takes records one by one and says what is wrong with each that is not taken: events, their times and places."""
    read = DECODERS[kind].decode
    fields = kind.__struct_fields__
    events: list[Event] = []
    kept: list[int] = []
    times: list[float] = []
    for place, record in enumerate(records):
        raw = record.value
        if raw is None:
            faults.append(Fault(record, "tombstone", "a message without a value"))
            continue
        if len(raw) > max_bytes:
            faults.append(
                Fault(record, "oversized", f"{len(raw)} bytes, more than kafka.max_message_bytes = {max_bytes}")
            )
            continue
        try:
            event = read(raw)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            faults.append(explain(record, raw, error))
            continue
        when = event.timestamp
        spare = raw.count(b":")
        for name, value in zip(fields, msgspec.structs.astuple(event), strict=True):
            if value is not None:
                spare -= 1
                if name in PLAIN_MAPS:
                    spare -= len(value)
        if spare:
            spare -= other_keys(event)
        if type(when) is str:
            # Written as escapes (\u003a) its colons are not in the text: a duplicate key could hide behind them.
            spare = 1 if b"\\" in raw else spare - when.count(":")
            seconds = parse_rfc3339(when)
            if seconds is None:
                faults.append(
                    Fault(
                        record,
                        "timestamp_unreadable",
                        f"{when[:64]!r} is neither epoch seconds nor RFC 3339 with an offset",
                    )
                )
                continue
            when = seconds
        if spare:
            fault = look_closely(record, raw)
            if fault is not None:
                faults.append(fault)
                continue
        if not 0.0 <= when <= record.timestamp + max_future_s:
            faults.append(clock_fault(record, when))
            continue
        events.append(event)
        kept.append(place)
        times.append(when)
    return events, times, kept
