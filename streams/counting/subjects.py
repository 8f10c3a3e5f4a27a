"""Where the counts of each feature and of the score stand in a vector: the tests of all of them are array operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detectors.binning import CategoryBins, NumericBins
from streams.counting.features import Feature
from streams.counting.figure import subject_of
from streams.counting.layout import Layout, Vector


class Subjects:
    """The features of one reference, and its score behind them (`Reference.subjects`). Index arrays into vectors of its layout."""

    def __init__(self, layout: Layout, features: Sequence[Feature], score: Feature | None) -> None:
        scores = [score] if score is not None else []
        self.all: list[Feature] = [*features, *scores]
        self.sections = [f"feature:{feature.name}" for feature in features] + ["score" for _ in scores]
        self.names = [subject_of(feature.name) for feature in features] + ["score" for _ in scores]
        self.width = max((feature.group_count for feature in self.all), default=1)
        slots, places = [], []
        for at, (feature, section) in enumerate(zip(self.all, self.sections, strict=True)):
            slots.append(np.arange(layout.slots[section].start, layout.slots[section].stop))
            places.append(at * self.width + feature.groups)
        self.slots = np.concatenate(slots) if slots else np.empty(0, np.int64)
        self.places = np.concatenate(places) if places else np.empty(0, np.int64)
        self.starts = starts = np.array([layout.offset(section) for section in self.sections], dtype=np.int64)
        self.missing = starts + np.array([feature.bins.missing for feature in self.all], dtype=np.int64)
        self.invalid = starts + np.array([feature.bins.invalid for feature in self.all], dtype=np.int64)
        self.numeric = [at for at, feature in enumerate(features) if feature.kind == "numeric"]
        self.z = np.array([layout.offset(f"z:{features[at].name}") for at in self.numeric], dtype=np.int64)
        self.zz = np.array([layout.offset(f"zz:{features[at].name}") for at in self.numeric], dtype=np.int64)
        self.categorical = [
            (at, int(starts[at] + feature.bins.new))
            for at, feature in enumerate(features)
            if isinstance(feature.bins, CategoryBins) and feature.bins.complete
        ]
        self.absent = np.array([layout.offset(f"absent:{feature.name}") for feature in features], dtype=np.int64)
        # An index past the end of a vector stands for no slot.
        widest = max((feature.bins.ordered for feature in self.all if isinstance(feature.bins, NumericBins)), default=1)
        self.ordered = np.full((len(self.all), widest), layout.size, dtype=np.int64)
        self.far = np.full((len(self.all), widest), layout.size, dtype=np.int64)
        for at, (feature, start) in enumerate(zip(self.all, starts.tolist(), strict=True)):
            if isinstance(feature.bins, NumericBins):
                self.ordered[at, : feature.bins.ordered] = np.arange(start, start + feature.bins.ordered)
            if feature.far_codes is not None:
                self.far[at, : len(feature.far_codes)] = start + feature.far_codes

    def grouped(self, vectors: Vector) -> npt.NDArray[np.int64]:
        """Counts of every subject by coarse group, [..., subjects, widest group count], of vectors [..., slots]."""
        shape = (*vectors.shape[:-1], len(self.all), self.width)
        stack = vectors.reshape(-1, vectors.shape[-1])
        size = len(self.all) * self.width
        places = self.places + np.arange(len(stack))[:, None] * size
        counted = np.bincount(places.ravel(), weights=stack[:, self.slots].ravel(), minlength=len(stack) * size)
        return np.rint(np.maximum(counted, 0.0)).astype(np.int64).reshape(shape)
