"""Which reference holds for which model: the configured files, and the baselines learned from first rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from leadline.config import Config, ConfigError
from streams.baselines.reference_files import read_reference
from streams.counting.features import BadReference
from streams.counting.layout import Task
from streams.counting.references import Reference, bare

WIDTHS: dict[Task, int] = {"binary": 0, "regression": 1, "multiclass": 2}


class ReferenceBook:
    """References by model id. A model without one has the bare layout of its task until a baseline is learned."""

    def __init__(self, config: Config, given: Mapping[str, Reference] | None = None) -> None:
        self.config = config
        self._known: dict[str, Reference] = dict(given or {})
        self._bare: dict[str, Reference] = {}
        self._layouts: dict[tuple[Task, *tuple[tuple[str, ...], ...]], Reference] = {}
        self._read_already: dict[str, Reference] = {}
        shared = config.models.get("*")
        self._shared = self._read("*", shared.reference) if shared and shared.reference else None
        for model_id, model in config.models.items():
            if model_id != "*" and model.reference and model_id not in self._known:
                self._known[model_id] = self._read(model_id, model.reference)

    def _read(self, model_id: str, path: Path) -> Reference:
        """Read once for all models that give the same file the same meaning: they are worked on together."""
        model = self.config.model_for(model_id)
        asked = repr(
            (path, model.task, model.positive_label, model.threshold, model.business, model.probes, model.resources)
        )
        if asked in self._read_already:
            return self._read_already[asked]
        try:
            found = self._read_already[asked] = read_reference(
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
        return found

    def find(self, model_id: str) -> Reference | None:
        """The reference, or None while there is none."""
        return self._known.get(model_id) or self._shared

    def get(self, model_id: str) -> Reference:
        """The reference, or the bare layout of the model's task as far as it is known."""
        return self.find(model_id) or self._bare.get(model_id) or self._settle(model_id, "binary", ())

    def tell_scores(self, model_id: str, scores: Iterable[object]) -> bool:
        """What scores say of a model without a reference and a configured task. True: its layout is another one now.

        A map is multiclass, a number in [0, 1] binary, any other regression; the last of these that any score has said holds for good.
        So workers that see other rows of a model first come to the same task, whatever they saw first.
        """
        if self.find(model_id) is not None or self.config.model_for(model_id).task not in ("auto", "multiclass"):
            return False
        said: Task = "binary"
        for score in scores:
            if isinstance(score, Mapping):
                return self.tell_task(model_id, "multiclass", sorted(score))
            if not (isinstance(score, float) and 0.0 <= score <= 1.0):
                said = "regression"
        return self.tell_task(model_id, said, ())

    def tell_task(self, model_id: str, task: Task, classes: Sequence[str]) -> bool:
        """The same from a worker that has looked at scores."""
        known = self._bare.get(model_id)
        if self.find(model_id) is not None or (
            known is not None and (WIDTHS[task], bool(classes)) <= (WIDTHS[known.task], bool(known.classes))
        ):
            return False
        return self._settle(model_id, task, classes) is not known

    def _settle(self, model_id: str, task: Task, classes: Sequence[str]) -> Reference:
        model = self.config.model_for(model_id)
        if model.task != "auto":
            task = model.task
        layout = (
            task,
            tuple(model.business),
            tuple(classes) if task == "multiclass" else (),
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
