"""A judge's rows in the store: tables, the names of their fields, what is written after a batch and taken back by a judge that begins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from streams.baselines.reference_book import ReferenceBook
from streams.baselines.stored_reference import dump_reference
from streams.core.stage import Effects
from streams.judge.incidents import Where
from streams.judge.model_judge import ModelJudge
from streams.judge.saved_model import Rows, Saved, restore, save

BLOCKS_TABLE, DAYS_TABLE, OPEN_TABLE, SEQUENTIAL_TABLE = "blocks", "days", "open", "sequential"
MODELS_TABLE, REFERENCES_TABLE = "models", "references"
LIVE_TABLE, VARIATION_TABLE = "live", "variation"
ALL_TABLES = (
    REFERENCES_TABLE,
    BLOCKS_TABLE,
    DAYS_TABLE,
    OPEN_TABLE,
    SEQUENTIAL_TABLE,
    LIVE_TABLE,
    VARIATION_TABLE,
    MODELS_TABLE,
)
REMOVED_FROM = (BLOCKS_TABLE, DAYS_TABLE, OPEN_TABLE, SEQUENTIAL_TABLE, VARIATION_TABLE)
SEPARATOR = "\x1f"

Tables = Mapping[str, Mapping[bytes, bytes]]


def pack_where(where: Where) -> str:
    return SEPARATOR.join(
        [
            where.version if where.version is not None else "\x00",
            where.stage,
            where.segment if where.segment is not None else "\x00",
        ]
    )


def unpack_where(parts: Sequence[str]) -> Where:
    version, stage, segment = parts
    return Where(None if version == "\x00" else version, stage, None if segment == "\x00" else segment)


def saved_models(tables: Tables) -> Iterator[tuple[str, Saved]]:
    """(model, its state) of every model that the store holds."""
    for field, row in sorted(tables.get(MODELS_TABLE, {}).items()):
        yield field.decode(), msgspec.msgpack.decode(row, type=Saved)


def restore_models(models: Mapping[str, ModelJudge], tables: Tables) -> None:
    """Gives each model what the store holds of it."""
    by_cell = {table: _by_cell(tables.get(table, {})) for table in (BLOCKS_TABLE, DAYS_TABLE)}
    variation: dict[str, dict[Where, bytes]] = {}
    for field, row in tables.get(VARIATION_TABLE, {}).items():
        model_id, *where = field.decode().split(SEPARATOR)
        variation.setdefault(model_id, {})[unpack_where(where)] = row
    opened, sequential = (_by_model(tables.get(table, {})) for table in (OPEN_TABLE, SEQUENTIAL_TABLE))
    for model_id, saved in saved_models(tables):
        judge = models[model_id]
        blocks, days = (by_cell[table].get(model_id, {}) for table in (BLOCKS_TABLE, DAYS_TABLE))
        restore(
            judge,
            saved,
            blocks,
            days,
            opened.get(model_id, {}),
            sequential.get(model_id, {}),
            variation.get(model_id, {}),
        )
        if (learned := tables.get(LIVE_TABLE, {}).get(model_id.encode())) is not None:
            judge.live.restore(learned)


def _by_cell(rows: Mapping[bytes, bytes]) -> dict[str, Rows]:
    """Rows named by model, cell and a name of their own."""
    found: dict[str, dict[Where, dict[str, bytes]]] = {}
    for field, row in rows.items():
        model_id, *where, name = field.decode().split(SEPARATOR)
        found.setdefault(model_id, {}).setdefault(unpack_where(where), {})[name] = row
    return {model_id: dict(cells) for model_id, cells in found.items()}


def _by_model(rows: Mapping[bytes, bytes]) -> dict[str, dict[str, bytes]]:
    """Rows named by model and a name of their own."""
    found: dict[str, dict[str, bytes]] = {}
    for field, row in rows.items():
        model_id, _, name = field.decode().partition(SEPARATOR)
        found.setdefault(model_id, {})[name] = row
    return found


def write_models(models: Iterable[ModelJudge], book: ReferenceBook, learned: set[str], effects: Effects) -> None:
    """Adds the rows of these models that changed. `learned` are those whose learned baseline the store holds already."""
    written: dict[str, dict[bytes, bytes]] = {table: {} for table in ALL_TABLES}
    removed: dict[str, list[bytes]] = {table: [] for table in REMOVED_FROM}

    def field(*parts: str) -> bytes:
        return SEPARATOR.join(parts).encode()

    for judge in models:
        model_id, cells = judge.model_id, judge.cells
        for where, spans in cells.spans.items():
            changed, gone = spans.take_changes()
            cell = pack_where(where)
            written[BLOCKS_TABLE].update({field(model_id, cell, name): row for name, row in changed.items()})
            removed[BLOCKS_TABLE] += [field(model_id, cell, name) for name in gone]
        for axis, cohorts in (("c", cells.days), ("a", cells.arrivals)):
            of_days, whole = cohorts.take_changes()
            written[DAYS_TABLE].update(
                {field(model_id, pack_where(where), f"{axis}{name}"): row for (where, name), row in of_days.items()}
            )
            removed[DAYS_TABLE] += [field(model_id, pack_where(where), f"{axis}{name}") for where, name in whole]
        parts, over = cells.open.take_changes()
        written[OPEN_TABLE].update({field(model_id, name): row for name, row in parts.items()})
        removed[OPEN_TABLE] += [field(model_id, name) for name in over]
        values, fed = judge.sequential.take_changes()
        written[SEQUENTIAL_TABLE].update({field(model_id, name): row for name, row in values.items()})
        removed[SEQUENTIAL_TABLE] += [field(model_id, name) for name in fed]
        if judge.live.dirty:
            written[LIVE_TABLE][model_id.encode()] = judge.live.pack()
        past, forgotten = judge.variation.take_changes()
        written[VARIATION_TABLE].update({field(model_id, pack_where(where)): row for where, row in past.items()})
        removed[VARIATION_TABLE] += [field(model_id, pack_where(where)) for where in forgotten]
        written[MODELS_TABLE][model_id.encode()] = msgspec.msgpack.encode(save(judge))
        reference = book.find(model_id)
        if reference is not None and reference.learned and model_id not in learned:
            written[REFERENCES_TABLE][model_id.encode()] = dump_reference(reference)
            learned.add(model_id)
    effects.writes.update({table: rows for table, rows in written.items() if rows})
    effects.removes.update({table: fields for table, fields in removed.items() if fields})
