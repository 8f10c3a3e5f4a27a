"""A small model, rows of it as count vectors, and a judge that is fed with them pane by pane: no log, no observer, time by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from leadline.alert import Alert
from leadline.config import Config, Join, Model, Panes, Rules
from leadline.events import Digest
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.reference_files import build_reference, read_labels
from streams.core.digest_cells import NO_ENTRIES, Entries, pack_cells
from streams.counting.layout import Vector
from streams.counting.measure import measure
from streams.counting.optional_fields import tally_latency
from streams.counting.references import Reference
from streams.counting.tally import Tally
from streams.counting.tally_outcomes import JoinedRows, tally_outcomes
from streams.counting.tally_predictions import tally_predictions
from streams.judge.incidents import Where
from streams.judge.model_judge import ModelJudge

Columns = dict[str, npt.NDArray[Any]]
Fault = Callable[[Columns, np.random.Generator], None]

PANE_S = 60.0
MONDAY_S = 1_735_516_800.0  # 2024-12-30 00:00 UTC
SITES = ("north", "south", "west")
SITE_SHARES = (0.5, 0.35, 0.15)
ALL = Where(None, "live", None)


def draw(rng: np.random.Generator, n: int, fault: Fault | None = None) -> Columns:
    """Rows of patients: two numbers, a category, a score that is right about the label. `fault` may change what was published."""
    age = rng.normal(60.0, 12.0, n)
    pulse = rng.lognormal(4.2, 0.2, n)
    ward = rng.choice(["a", "b", "c", "d"], n, p=[0.4, 0.3, 0.2, 0.1]).astype(object)
    logit = (age - 60.0) / 12.0 + 1.5 * (ward == "c") - 0.5
    score = 1.0 / (1.0 + np.exp(-logit))
    columns: Columns = {
        "age": age,
        "pulse": pulse,
        "ward": ward,
        "score": score,
        "label": (rng.random(n) < score).astype(np.float64),
        "latency_ms": rng.lognormal(3.0, 0.3, n),
        "site": rng.choice(SITES, n, p=SITE_SHARES).astype(object),
    }
    if fault is not None:
        fault(columns, rng)
    return columns


def reference(seed: int = 1, n: int = 4000) -> Reference:
    columns = draw(np.random.default_rng(seed), n)
    named: dict[str, list[Any]] = {name: _values(columns[name]) for name in ("age", "pulse", "ward", "score", "label")}
    return build_reference({**named, "segment__site": columns["site"].tolist()})


def _values(column: npt.NDArray[Any]) -> list[Any]:
    return [None if value is None or value != value else value for value in column.tolist()]


def count(
    known: Reference, columns: Columns, masks: Mapping[Where, npt.NDArray[np.bool_]], *, labelled: bool = True
) -> Entries:
    """What the rows of each mask count for, in the masks' order; with `labelled` their outcomes came at once."""
    n = len(columns["score"])
    names = ("age", "pulse", "ward")
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(_values(columns[name]) for name in names), strict=True)]
    everything = np.arange(n)
    tally = Tally(known.layout)
    measured = measure(known, columns["score"].tolist(), [None] * n, rows, 0.5)
    tally_predictions(tally, measured, everything)
    tally_latency(tally, everything, columns["latency_ms"])
    if labelled:
        tally.one("joined", everything)
        tally.one("outcomes", everything)
        truth = read_labels(known, columns["label"].tolist(), None)
        ages = np.zeros(n, dtype=np.int64)
        joined = JoinedRows(measured.score, measured.predicted, truth, ages, measured.score_codes)
        tally_outcomes(tally, everything, joined, known)
    keys = np.stack([np.where(mask, at, -1) for at, mask in enumerate(masks.values())], axis=1)
    return tally.entries(keys, len(masks))


def vector(known: Reference, columns: Columns, *, labelled: bool = True) -> Vector:
    """What all the rows count for."""
    everything = np.ones(len(columns["score"]), dtype=np.bool_)
    entries = count(known, columns, {ALL: everything}, labelled=labelled)
    return known.layout.dense(entries.slots, entries.values)


class Play:
    """One model's judge over made-up minutes. `panes` draws the rows of each pane and judges everything before its end."""

    def __init__(
        self,
        seed: int = 0,
        rules: Mapping[str, Any] | None = None,
        longest_span_s: float = 8 * 3600.0,
        pane_s: float = PANE_S,
    ) -> None:
        self.pane_s = pane_s
        self.known = reference()
        self.rng = np.random.default_rng(seed)
        config = Config(
            join=Join(delay_window=600.0),
            panes=Panes(pane=pane_s, longest_span=longest_span_s),
            models={"m": Model(latency_slo_ms=100.0)},
            rules=Rules(adwin=False, **(rules or {})),
        )
        self.judge = ModelJudge("m", config, ReferenceBook(config, {"m": self.known}))
        self.pane = int(MONDAY_S / pane_s)
        self.alerts: list[Alert] = []

    @property
    def now(self) -> float:
        return self.pane * self.pane_s

    def panes(self, number: int, *faults: Fault, rows: int = 20, versions: Mapping[str, float] | None = None) -> Play:
        """`versions` gives each version's share of the rows; a fault that names a version is the caller's: see `of_version`."""
        for _ in range(number):
            columns = draw(self.rng, rows)
            if versions is not None:
                columns["version"] = self.rng.choice(list(versions), rows, p=list(versions.values())).astype(object)
            for fault in faults:
                fault(columns, self.rng)
            self._take(columns)
            self.pane += 1
            self.judge.advance(self.pane)
            self.alerts += self.judge.take_alerts()
        return self

    def _take(self, columns: Columns) -> None:
        given = columns.get("version", np.full(len(columns["score"]), "1", dtype=object))
        masks = {}
        for version in dict.fromkeys(given.tolist()):
            for site in (None, *SITES):
                mask = given == version if site is None else (given == version) & (columns["site"] == site)
                if mask.any():
                    masks[Where(version, "live", f"site={site}" if site is not None else None)] = mask
        day = int(self.now // 86_400)
        names = [(where.version or "", where.stage, where.segment, self.pane, day) for where in masks]
        entries = count(self.known, columns, masks) if masks else NO_ENTRIES
        packed = pack_cells(names, entries, 0, len(names))
        self.judge.take(Digest(0, self.pane, "m", self.judge.mapping, self.now, 0.0, **packed))

    def lives(self, life: str) -> list[Alert]:
        return [alert for alert in self.alerts if alert.life == life]


def shift(name: str, amount: float) -> Fault:
    def act(columns: Columns, rng: np.random.Generator) -> None:
        columns[name] = columns[name] + amount

    return act


def of_site(site: str, fault: Fault) -> Fault:
    """The fault on one site's rows alone."""
    return _where("site", site, fault)


def of_version(version: str, fault: Fault) -> Fault:
    return _where("version", version, fault)


def _where(name: str, value: str, fault: Fault) -> Fault:
    def act(columns: Columns, rng: np.random.Generator) -> None:
        mask = columns[name] == value
        part = {key: column[mask] for key, column in columns.items()}
        fault(part, rng)
        for key, column in part.items():
            if column.dtype != columns[key].dtype:
                columns[key] = columns[key].astype(column.dtype)
            columns[key][mask] = column

    return act


def nulls(name: str, share: float) -> Fault:
    def act(columns: Columns, rng: np.random.Generator) -> None:
        column = columns[name].copy()
        column[rng.random(len(column)) < share] = None if column.dtype == object else np.nan
        columns[name] = column

    return act


def unsent(site: str) -> Fault:
    """Requests of the site do not come: their rows are somebody else's."""

    def act(columns: Columns, rng: np.random.Generator) -> None:
        kept = columns["site"] != site
        for name in columns:
            columns[name] = columns[name][kept]

    return act


def moved(name: str, value: str, share: float) -> Fault:
    """That share of the rows gets one value of the category."""

    def act(columns: Columns, rng: np.random.Generator) -> None:
        columns[name] = np.where(rng.random(len(columns[name])) < share, value, columns[name]).astype(object)

    return act


def flipped(share: float) -> Fault:
    """Labels turned around: the model is wrong about the same inputs."""

    def act(columns: Columns, rng: np.random.Generator) -> None:
        hit = rng.random(len(columns["label"])) < share
        columns["label"] = np.where(hit, 1.0 - columns["label"], columns["label"])

    return act


def slow(factor: float) -> Fault:
    def act(columns: Columns, rng: np.random.Generator) -> None:
        columns["latency_ms"] = columns["latency_ms"] * factor

    return act
