"""What is worked out for all features at once is what each would say alone; a layer's figures are those that all layers hold."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.binning import CategoryBins
from streams.counting.features import categorical_feature, numeric_feature
from streams.counting.layout import Vector
from streams.counting.references import Reference
from streams.figures.figures import LAYERS, figures
from streams.figures.subject_figures import subject_figures

RNG = np.random.default_rng(3)
FEATURES = [
    numeric_feature("few", np.array([0.0, 1.0, 2.0] * 30)),
    categorical_feature("ward", CategoryBins(("a", "b", "c", "d"), ("e",), complete=True)),
    numeric_feature("many", RNG.normal(size=2000)),
]
SCORE = numeric_feature("score", RNG.random(500))


def counted(reference: Reference, seed: int) -> Vector:
    """Any counts, the same of every feature and of the score, whatever else the reference knows."""
    vector = np.zeros(reference.layout.size)
    for section, part in reference.layout.slots.items():
        rng = np.random.default_rng([seed, *section.encode()])
        vector[part] = rng.poisson(4.0, part.stop - part.start)
    vector[reference.layout.offset("rows")] = 500
    return vector


@pytest.mark.parametrize("with_baseline", [True, False])
def test_each_feature_says_beside_others_what_it_says_alone(with_baseline: bool) -> None:
    def said(reference: Reference) -> dict[str, str]:
        baseline = counted(reference, 2) if with_baseline else None
        found = subject_figures(reference, counted(reference, 1), baseline)
        assert all(found)
        return {of_one[0].subject or "": repr(np.round([figure[3:] for figure in of_one], 12)) for of_one in found}

    together = said(Reference(task="binary", features=FEATURES, score=SCORE))
    assert set(together) == {"few", "ward", "many", "score"}
    for feature in FEATURES:
        alone = said(Reference(task="binary", features=[feature], score=SCORE))
        assert alone[feature.name] == together[feature.name]
        assert alone["score"] == together["score"]


def test_the_figures_of_a_layer_are_those_of_all_that_are_in_it() -> None:
    reference = Reference(task="binary", features=FEATURES, score=SCORE)
    vector, baseline = counted(reference, 1), counted(reference, 2)
    everything = list(figures(reference, vector, baseline))
    for layer in LAYERS:
        of_layer = [repr(figure) for figure in everything if figure.layer == layer]
        assert of_layer
        assert [repr(figure) for figure in figures(reference, vector, baseline, layers=(layer,))] == of_layer
