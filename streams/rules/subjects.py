"""Where the counts of each feature and of the score stand in a vector: the tests of all of them are array operations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins
from streams.counting.features import Feature
from streams.counting.figure import subject_of
from streams.counting.layout import Vector
from streams.counting.references import Reference


class Subjects:
    """Features of one reference, and its score behind them. Index arrays into vectors of its layout."""

    def __init__(self, reference: Reference) -> None:
        layout = reference.layout
        self.all: list[Feature] = [
            *reference.features,
            *([reference.score] if reference.score is not None else []),
        ]
        self.sections = [f"feature:{feature.name}" for feature in reference.features] + (
            ["score"] if reference.score is not None else []
        )
        self.names = [subject_of(feature.name) for feature in reference.features] + (
            ["score"] if reference.score is not None else []
        )
        self.width = max((feature.group_count for feature in self.all), default=1)
        slots, places = [], []
        for at, (feature, section) in enumerate(zip(self.all, self.sections, strict=True)):
            slots.append(np.arange(layout.slots[section].start, layout.slots[section].stop))
            places.append(at * self.width + feature.groups)
        self.slots = np.concatenate(slots) if slots else np.empty(0, np.int64)
        self.places = np.concatenate(places) if places else np.empty(0, np.int64)
        features = self.all
        self.starts = starts = np.array([layout.offset(section) for section in self.sections], dtype=np.int64)
        self.missing = starts + np.array([feature.bins.missing for feature in features], dtype=np.int64)
        self.invalid = starts + np.array([feature.bins.invalid for feature in features], dtype=np.int64)
        self.numeric = [at for at, feature in enumerate(reference.features) if feature.kind == "numeric"]
        self.z = np.array([layout.offset(f"z:{reference.features[at].name}") for at in self.numeric], dtype=np.int64)
        self.zz = np.array([layout.offset(f"zz:{reference.features[at].name}") for at in self.numeric], dtype=np.int64)
        self.categorical = [
            (at, int(starts[at] + feature.bins.new))
            for at, feature in enumerate(reference.features)
            if isinstance(feature.bins, CategoryBins) and feature.bins.complete
        ]
        self.absent = np.array(
            [layout.offset(f"absent:{feature.name}") for feature in reference.features], dtype=np.int64
        )

    def grouped(self, vectors: Vector) -> npt.NDArray[np.int64]:
        """Counts of every subject by coarse group, [..., subjects, widest group count], of vectors [..., slots]."""
        shape = (*vectors.shape[:-1], len(self.all), self.width)
        stack = vectors.reshape(-1, vectors.shape[-1])
        size = len(self.all) * self.width
        places = self.places + np.arange(len(stack))[:, None] * size
        counted = np.bincount(places.ravel(), weights=stack[:, self.slots].ravel(), minlength=len(stack) * size)
        return np.rint(np.maximum(counted, 0.0)).astype(np.int64).reshape(shape)
