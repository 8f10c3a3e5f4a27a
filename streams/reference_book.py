"""Which reference holds for which model: the configured files, and the baselines learned from first rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from leadline.config import Config, ConfigError
from streams.layout import Task
from streams.reference_files import read_reference
from streams.references import BadReference, Reference, bare


class ReferenceBook:
    """References by model id. A model without one has the bare layout of its task until a baseline is learned."""

    def __init__(self, config: Config, given: Mapping[str, Reference] | None = None) -> None:
        self.config = config
        self._known: dict[str, Reference] = dict(given or {})
        self._bare: dict[str, Reference] = {}
        self._layouts: dict[tuple[Task, *tuple[tuple[str, ...], ...]], Reference] = {}
        shared = config.models.get("*")
        self._shared = self._read("*", shared.reference) if shared and shared.reference else None
        for model_id, model in config.models.items():
            if model_id != "*" and model.reference and model_id not in self._known:
                self._known[model_id] = self._read(model_id, model.reference)

    def _read(self, model_id: str, path: Path) -> Reference:
        model = self.config.model_for(model_id)
        try:
            return read_reference(
                path,
                task=model.task,
                positive_label=model.positive_label,
                threshold=model.threshold,
                business=model.business,
                probes=model.probes,
                resources=model.resources,
            )
        except (BadReference, OSError) as error:
            raise ConfigError(f"models.{model_id}.reference: {error}") from None

    def find(self, model_id: str) -> Reference | None:
        """The reference, or None while there is none."""
        return self._known.get(model_id) or self._shared

    def task(self, model_id: str, score: object) -> Task:
        """The configured task, or what a first score says: a map is multiclass, a number in [0, 1] binary, any other regression."""
        task = self.config.model_for(model_id).task
        if task != "auto":
            return task
        if isinstance(score, Mapping):
            return "multiclass"
        return "binary" if isinstance(score, float) and 0.0 <= score <= 1.0 else "regression"

    def get(self, model_id: str, first_score: object = 0.5) -> Reference:
        """The reference, or the bare layout of the model's task. The task of a model never changes once seen."""
        found = self.find(model_id)
        if found is not None:
            return found
        if model_id not in self._bare:
            model = self.config.model_for(model_id)
            classes = sorted(first_score) if isinstance(first_score, Mapping) else ()
            layout = (
                self.task(model_id, first_score),
                tuple(model.business),
                tuple(classes),
                tuple(model.probes),
                tuple(model.resources),
            )
            # Shared, so that such models are worked on together.
            if layout not in self._layouts:
                self._layouts[layout] = bare(*layout)
            self._bare[model_id] = self._layouts[layout]
        return self._bare[model_id]

    def learn(self, model_id: str, reference: Reference) -> None:
        """Takes a learned baseline in, unless a reference is configured."""
        if self.find(model_id) is None:
            self._known[model_id] = reference

    def is_learning(self, model_id: str) -> bool:
        return self.find(model_id) is None
