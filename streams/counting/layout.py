"""The layout of a count vector: which slot holds which count.

Everything that Leadline keeps about a set of rows is one additive vector: integer counts first, real-valued sums after them. Windows
are sums of vectors, partitions merge by adding, a corrected label is a negative and a positive entry. A figure is a function of
(layout, vector, reference). Vectors of different layouts are never added: a digest names its layout by fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.auc import SCORE_BINS

Task = Literal["binary", "regression", "multiclass"]
Vector = npt.NDArray[np.float64]

JOIN_SLOTS = ("joined", "outcomes", "late", "early", "revised", "duplicate", "too_early", "label_unusable")
OF_ANY_TASK = frozenset(
    {"rows", *JOIN_SLOTS, "collapse", "delay", "latency", "latency_rows", "latency_sum", "latency_squares"}
    | {"score_sum", "score_squares"}
) - {"outcomes"}
"""Sections that mean the same whatever the task: outcomes are counted with losses that only one task has."""
CALIBRATION_BINS = 10
COLLAPSE_SLOTS = 256
LATENCY_BINS = 560
DELAY_BINS = 400
RESOURCE_BINS = 1060
AGE_EDGES_S = (0.0, *(60.0 * 2.0**k for k in range(17)))  # a minute, doubling, past the longest delay window of a month
AGES = len(AGE_EDGES_S) - 1
CLASS_BINS = (
    256  # bins of a class's probability: a quarter of a binary model's, for there are as many histograms as classes
)
MAX_RANKED_CLASSES = 20
PIPELINE_SLOTS = 32
RUNTIME_SLOTS = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """Slots of one model's vectors. `features` maps a feature to its number of codes, in the reference's order."""

    task: Task
    features: tuple[tuple[str, int], ...] = ()
    score_codes: int = 0
    classes: tuple[str, ...] = ()
    business: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    """Layers of the network whose activations services publish."""
    resources: tuple[str, ...] = ()
    joint: bool = False
    """Whether rows are scored against the reference's main directions."""
    slots: dict[str, slice] = field(init=False, repr=False, compare=False)
    integers: int = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)
    fingerprint: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        slots: dict[str, slice] = {}
        at = 0
        for name, size in self._counts():
            slots[name] = slice(at, at + size)
            at += size
        object.__setattr__(self, "integers", at)
        for name, size in self._sums():
            slots[name] = slice(at, at + size)
            at += size
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "size", at)
        text = repr((self.task, self.features, self.score_codes, self.classes, self.business, at))
        text += repr((self.probes, self.resources, self.joint))
        object.__setattr__(self, "fingerprint", hashlib.sha256(text.encode()).hexdigest()[:16])

    def _counts(self) -> list[tuple[str, int]]:
        classes = len(self.classes) + 1  # the last is any class that the reference does not know
        counts = [
            ("rows", 1),
            *((name, 1) for name in JOIN_SLOTS),
            ("out_of_distribution", 1),
            ("extra", 1),
            ("collapse", COLLAPSE_SLOTS),
        ]
        if self.task == "binary":
            counts += [
                ("predicted_positive", 1),
                ("positives", SCORE_BINS),
                ("negatives", SCORE_BINS),
                ("confusion", 4),
                ("aged_positives", AGES),
            ]
        elif self.task == "multiclass":
            counts += [("predicted", classes), ("confusion", classes * classes), ("scored_rows", 1)]
            if self.ranked:
                ranked = len(self.classes) * CLASS_BINS
                counts += [("class_members", ranked), ("class_others", ranked)]
        if self.task == "regression":
            counts += [("error_rows", 1), ("truth_rows", 1)]
        else:
            counts += [("calibration_rows", CALIBRATION_BINS), ("calibration_positives", CALIBRATION_BINS)]
            counts.append(("aged_errors", AGES))
        counts += [
            ("aged", AGES),
            ("latency", LATENCY_BINS),
            ("delay", DELAY_BINS),
            ("latency_rows", 1),
            ("entropy_rows", 1),
            ("confidence_rows", 1),
        ]
        counts += [(f"value_rows:{name}", 1) for name in self.business]
        if self.score_codes:
            counts.append(("score", self.score_codes))
            if self.task == "binary":
                sections = ("chosen", "labelled", "labelled_positives", "labelled_chosen")
                counts += [(name, self.score_codes) for name in sections]
        counts += [(f"feature:{name}", size) for name, size in self.features]
        counts += [(f"absent:{name}", 1) for name, _ in self.features]
        return counts + self._optional_counts()

    def _optional_counts(self) -> list[tuple[str, int]]:
        counts = [
            ("embedding_rows", 1),
            ("embedding_invalid", 1),
            ("probe_nan", 1),
            ("probe_inf", 1),
            ("pipeline_rows", 1),
            ("pipeline", PIPELINE_SLOTS),
            ("runtime_rows", 1),
            ("runtime", RUNTIME_SLOTS),
            *((f"baseline_{kind}:{name}", 1) for name in self.optional for kind in ("stated", "asked")),
        ]
        for layer in self.probes:
            counts += [(f"{section}:{layer}", 1) for section in ("nan", "inf", "layer_mean_rows", "layer_std_rows")]
        for name in self.resources:
            counts += [(f"resource_rows:{name}", 1), (f"resource_used:{name}", RESOURCE_BINS)]
        return counts + ([("joint_rows", 1)] if self.joint else [])

    def _sums(self) -> list[tuple[str, int]]:
        sums = [
            ("score_sum", 1),
            ("score_squares", 1),
            ("latency_sum", 1),
            ("entropy_sum", 1),
            ("entropy_squares", 1),
            ("confidence_sum", 1),
        ]
        if self.task == "regression":
            names = ("error", "absolute_error", "squared_error", "squared_error_squares", "truth", "truth_squares")
            sums += [(name, 1) for name in names]
            sums += [("aged_error", AGES), ("aged_error_squares", AGES)]
        else:
            sums += [(name, 1) for name in ("log_loss", "log_loss_squares", "squared_loss", "squared_loss_squares")]
            sums.append(("calibration_scores", CALIBRATION_BINS))
        for name in self.business:
            sums += [(f"value:{name}", 1), (f"value_squares:{name}", 1)]
        for name, _ in self.features:
            sums += [(f"z:{name}", 1), (f"zz:{name}", 1)]
        return sums + self._optional_sums()

    def _optional_sums(self) -> list[tuple[str, int]]:
        names = ["confidence_squares", "latency_squares", "embedding_sum", "embedding_squares"]
        names += [
            f"layer_{part}_{power}:{layer}"
            for layer in self.probes
            for part in ("mean", "std")
            for power in ("sum", "squares")
        ]
        names += [f"resource_{power}:{name}" for name in self.resources for power in ("sum", "squares")]
        if self.joint:
            names += ["joint_sum", "joint_squares"]
        return [(name, 1) for name in names]

    @property
    def optional(self) -> tuple[str, ...]:
        """Fields that a service may leave out, by the section that counts the rows that state them. Two sections for each,
        `baseline_stated` of `baseline_asked` rows, are filled in baselines alone: of fields that were learned from live rows."""
        layers = (f"layer_{part}_rows:{layer}" for layer in self.probes for part in ("mean", "std"))
        named = (f"{name}_rows" for name in ("embedding", "confidence", "latency", "pipeline", "runtime"))
        return (*named, *layers, *(f"resource_rows:{name}" for name in self.resources))

    @property
    def ranked(self) -> bool:
        """Whether each class has histograms of its probability: beyond twenty classes they would outweigh all else."""
        return self.task == "multiclass" and 0 < len(self.classes) <= MAX_RANKED_CLASSES

    @property
    def sections(self) -> dict[str, tuple[int, int]]:
        """First and last-plus-one slot of each section, as it is stored beside vectors."""
        return {name: (part.start, part.stop) for name, part in self.slots.items()}

    def offset(self, name: str) -> int:
        """First slot of a section."""
        return int(self.slots[name].start)

    def part(self, vector: Vector, name: str) -> Vector:
        """The section of a vector (or of a stack of them, [..., size]) by name."""
        return vector[..., self.slots[name]]

    def one(self, vector: Vector, name: str) -> float:
        """A section of one slot as a number."""
        return float(vector[self.slots[name].start])

    def dense(self, indices: Sequence[int] | npt.NDArray[np.int64], values: Sequence[float] | Vector) -> Vector:
        """A vector from sparse entries; repeated slots add."""
        weights = np.asarray(values, dtype=np.float64)
        return np.bincount(np.asarray(indices, dtype=np.int64), weights=weights, minlength=self.size).astype(np.float64)
