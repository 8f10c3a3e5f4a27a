"""Two batches in one commit: merging their effects, and seeing the first one's rows while computing the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.core.stage import Effects


def merge(first: Effects, second: Effects) -> Effects:
    """`first`, changed so that committing it is committing `first`, then `second` (each: drops, removes, writes)."""
    for table in second.drops:
        first.writes.pop(table, None)
        first.removes.pop(table, None)
        if table not in first.drops:
            first.drops.append(table)
    for table, fields in second.removes.items():
        written = first.writes.get(table)
        if written:
            for field in fields:
                written.pop(field, None)
        first.removes.setdefault(table, []).extend(fields)
    for table, rows in second.writes.items():
        known = first.writes.get(table)
        if known is None:
            first.writes[table] = rows
        else:
            known.update(rows)
    first.sends.extend(second.sends)
    first.views.update(second.views)
    if second.checkpoint:
        first.checkpoint = second.checkpoint
    return first


def overlay(
    found: dict[str, dict[bytes, bytes]], wanted: Mapping[str, Sequence[bytes]], pending: Effects
) -> dict[str, dict[bytes, bytes]]:
    """`found` as it will be once `pending` is committed: the store does not know yet what the batch before has done."""
    for table, fields in wanted.items():
        rows = found.setdefault(table, {})
        if table in pending.drops:
            rows.clear()
        for field in pending.removes.get(table, ()):
            rows.pop(field, None)
        written = pending.writes.get(table)
        if written:
            rows.update((field, written[field]) for field in fields if field in written)
    return found
