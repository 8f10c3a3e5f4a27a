"""The job that every side does: decode, join, count bins, feed ADWIN, fill the AUC histograms; and in the job ``same`` the rest of
what Leadline keeps, by window and segment (``windows.py``).

One implementation for all peers, so that only the engine around it differs. It is written the way a careful author
writes per-event Python: msgspec structs, ``bisect`` on precomputed edges, plain lists of integers. It imports msgspec
and river only, because it also runs inside the peers' own virtual environments.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from river import drift

from benchmarks.peers.windows import Windows

ADWIN: Any = drift.ADWIN  # river's methods carry no annotations
SCORE_BINS = 1024
LOGIT_LIMIT = 8.0  # scores nearer to 0 or 1 than 1 / (1 + e^8) share the outermost bins
TENTH = 10


class Prediction(msgspec.Struct, gc=False):
    """A prediction as services publish it (the fields that the benchmark's load carries)."""

    request_id: str
    model_id: str
    model_version: str
    timestamp: float
    score: float
    prediction: int
    features: dict[str, float]
    segments: dict[str, str]


class Label(msgspec.Struct, gc=False):
    """The outcome of one request."""

    request_id: str
    label: int
    timestamp: float


decode_prediction = msgspec.json.Decoder(Prediction).decode
decode_label = msgspec.json.Decoder(Label).decode


class Scored(NamedTuple):
    """What a pending prediction must remember until its label comes. The last three are of the job ``same``."""

    model_id: str
    model_version: str
    score: float
    timestamp: float = 0.0
    answer: int = 0
    segments: dict[str, str] = {}  # noqa: RUF012


class Reference:
    """Bin edges, nine inner ones a feature, with each feature's mean and standard deviation."""

    def __init__(self, edges: dict[str, list[float]], centers: list[float], scales: list[float]) -> None:
        self.names = list(edges)
        self.edges = list(edges.values())
        self.centers, self.scales = centers, scales

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read the JSON file that ``load.write_reference`` wrote."""
        return cls(**json.loads(path.read_text()))


def score_edges() -> list[float]:
    """The 1,023 inner edges of 1,024 score bins, equally spaced in the logit of the score."""
    step = 2 * LOGIT_LIMIT / SCORE_BINS
    return [1.0 / (1.0 + math.exp(LOGIT_LIMIT - step * i)) for i in range(1, SCORE_BINS)]


class Cell:
    """The statistics of one (model, version)."""

    def __init__(self, features: int) -> None:
        self.bins = [[0] * 10 for _ in range(features)]
        self.score_adwin = ADWIN()
        self.positives = [0] * SCORE_BINS
        self.negatives = [0] * SCORE_BINS
        self.drifts = 0


class Tally:
    """All statistics of one process.

    ``one_in`` is the share of predictions whose score ADWIN sees: 1 means all, 10 a tenth, chosen by the hash of the
    request id. The score alone, because that is what Leadline's worker feeds it.
    """

    def __init__(self, reference: Reference, one_in: int, job: str = "core") -> None:
        self.reference = reference
        self.one_in = one_in
        self.windows = Windows(reference.edges, reference.centers, reference.scales) if job == "same" else None
        self.cells: dict[tuple[str, str], Cell] = {}
        self.joined = 0
        self._score_edges = score_edges()
        self._columns = list(zip(reference.names, reference.edges, strict=True))

    def cell(self, model_id: str, model_version: str) -> Cell:
        """The statistics of this model version, made on first sight."""
        key = (model_id, model_version)
        found = self.cells.get(key)
        if found is None:
            found = self.cells[key] = Cell(len(self.reference.names))
        return found

    def predicted(self, event: Prediction) -> None:
        """Count the features' bins and feed ADWIN if the request belongs to the sample."""
        cell = self.cell(event.model_id, event.model_version)
        features = event.features
        for (name, edges), counts in zip(self._columns, cell.bins, strict=True):
            counts[bisect_right(edges, features[name])] += 1
        if self.windows is not None:
            values = [features[name] for name in self.reference.names]
            self.windows.predicted(
                event.timestamp, event.model_version, event.segments, values, event.score, event.prediction
            )
        if self.one_in == 1 or crc32(event.request_id.encode()) % self.one_in == 0:
            self._feed_adwin(cell, event)

    def _feed_adwin(self, cell: Cell, event: Prediction) -> None:
        cell.score_adwin.update(event.score)
        cell.drifts += cell.score_adwin.drift_detected

    def outcome(self, scored: Scored, label: int) -> None:
        """Count one joined pair in the score histogram of its class."""
        cell = self.cell(scored[0], scored[1])
        classes = cell.positives if label else cell.negatives
        classes[bisect_right(self._score_edges, scored[2])] += 1
        self.joined += 1
        if self.windows is not None:
            _, version, score, timestamp, answer, segments = scored
            self.windows.outcome(timestamp, version, segments, score, answer, label)

    def scored(self, event: Prediction) -> Scored:
        """What is to be remembered of a prediction."""
        if self.windows is None:
            return Scored(event.model_id, event.model_version, event.score)
        return Scored(
            event.model_id, event.model_version, event.score, event.timestamp, event.prediction, event.segments
        )

    def merge(self, other: Tally) -> None:
        """Add another part's counts (ADWIN cannot be merged: its detections are added, its windows stay apart)."""
        for (model_id, version), theirs in other.cells.items():
            mine = self.cell(model_id, version)
            for ours, added in zip(mine.bins, theirs.bins, strict=True):
                ours[:] = [a + b for a, b in zip(ours, added, strict=True)]
            mine.positives = [a + b for a, b in zip(mine.positives, theirs.positives, strict=True)]
            mine.negatives = [a + b for a, b in zip(mine.negatives, theirs.negatives, strict=True)]
            mine.drifts += theirs.drifts
        self.joined += other.joined
        if self.windows is not None and other.windows is not None:
            self.windows.merge(other.windows)

    def counts(self) -> dict[str, object]:
        """Everything that must agree between the sides, summed over model versions; plain JSON."""
        cells = list(self.cells.values())
        return {
            "joined": self.joined,
            "bins": {
                name: [sum(cell.bins[i][b] for cell in cells) for b in range(10)]
                for i, name in enumerate(self.reference.names)
            },
            "positives": [sum(cell.positives[b] for cell in cells) for b in range(SCORE_BINS)],
            "negatives": [sum(cell.negatives[b] for cell in cells) for b in range(SCORE_BINS)],
            "drifts": sum(cell.drifts for cell in cells),
            **self._windowed(),
        }

    def _windowed(self) -> dict[str, object]:
        if self.windows is None:
            return {}
        rows = {self.windows.rows(name) for name in (None, "site", "payer")}
        return {"windowed": (sorted(rows), self.windows.joined())}


class MemoryJoin:
    """The join by request id in a plain dict, either side first. No recovery: what a crash loses is lost."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.pending: dict[str, Scored] = {}
        self.early: dict[str, int] = {}

    def prediction(self, event: Prediction) -> None:
        """Count a prediction and join it with a label that came before it."""
        self.tally.predicted(event)
        scored = self.tally.scored(event)
        label = self.early.pop(event.request_id, None)
        if label is None:
            self.pending[event.request_id] = scored
        else:
            self.tally.outcome(scored, label)

    def label(self, event: Label) -> None:
        """Join a label with its prediction, or keep it until that comes."""
        scored = self.pending.pop(event.request_id, None)
        if scored is None:
            self.early[event.request_id] = event.label
        else:
            self.tally.outcome(scored, event.label)
