"""What services publish beside features and score: figures against numpy, faults through observer and judge, silence on clean rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from streams.baselines.stored_reference import dump_reference, load_reference
from streams.counting.log_bins import RESOURCE
from streams.counting.references import Reference
from streams.judge.incidents import Where
from tests.streams.rich import Played, configuration, events_of, known, rows_of

N, FROM = 3000, 2000
Change = Callable[[pd.DataFrame, np.random.Generator], None]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return known()


@pytest.fixture(scope="module")
def clean(reference: Reference) -> tuple[pd.DataFrame, Played]:
    frame = rows_of(2, N)
    return frame, Played(configuration(), reference, events_of(frame))


def test_means_and_their_changes_are_those_of_numpy(clean: tuple[pd.DataFrame, Played]) -> None:
    frame, played = clean
    base = rows_of(1, 3000)
    found = played.figures()

    def norm(rows: pd.DataFrame) -> np.ndarray:
        return np.linalg.norm(np.stack(rows["vector"]), axis=1)

    for subject, figure, shift, relative, live, known_values in (
        ("embedding", "embedding_norm", "embedding_norm_shift", True, norm(frame), norm(base)),
        ("confidence", "confidence", "confidence_shift", False, frame["confidence"], base["confidence"]),
        ("resource.cpu_s", "resource_mean", "resource_growth", True, frame["cpu_s"], base["cpu_s"]),
        ("layer.dense.mean", "layer_activation", "layer_shift", False, frame["layer_mean"], base["layer_mean"]),
        ("layer.dense.std", "layer_activation", "layer_shift", False, frame["layer_std"], base["layer_std"]),
    ):
        mean, of_base, std = float(np.mean(live)), float(np.mean(known_values)), float(np.std(known_values))
        assert found[figure, subject].value == pytest.approx(mean, rel=1e-9)
        assert found[figure, subject].reference == pytest.approx(of_base, rel=1e-9)
        assert found[figure, subject].n == N
        change = abs(mean / of_base - 1) if relative else abs(mean - of_base) / std
        if shift == "resource_growth" and mean < of_base:
            change = 0.0
        assert found[shift, subject].value == pytest.approx(change, rel=1e-6, abs=1e-12)
    latency = found["latency_mean", "latency_ms"]
    assert latency.value == pytest.approx(frame["latency_ms"].mean(), rel=1e-9)
    assert latency.floor == pytest.approx(3 * frame["latency_ms"].std(ddof=0) / N**0.5, rel=1e-6)
    assert found["latency_p99", "latency_ms"].value == pytest.approx(frame["latency_ms"].quantile(0.99), rel=0.05)


@pytest.mark.parametrize("optional", [True, False], ids=["known", "learned"])
def test_quantiles_of_resources_are_those_of_numpy_within_the_bins(optional: bool) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["cpu_s"] = 10.0 ** rng.uniform(-5.5, 2.0, len(frame))
        frame["ram_mb"] = np.where(rng.random(len(frame)) < 0.6, 0.0, rng.lognormal(20.0, 2.0, len(frame)))

    frame, base = rows_of(21, 400, change), rows_of(1, 3000)
    played = Played(configuration(learn_rows=200), known(optional=optional), events_of(frame))
    within = RESOURCE.growth**0.5
    for segment, rows in ((None, frame), ("site=north", frame[frame["site"] == "north"])):
        found = played.figures(segment)
        for name in ("cpu_s", "ram_mb"):
            for signal, q in (("resource_p50", 0.5), ("resource_p90", 0.9), ("resource_p99", 0.99)):
                figure = found[signal, f"resource.{name}"]
                value = float(np.quantile(rows[name], q, method="inverted_cdf"))
                assert figure.n == len(rows)
                assert value / within <= figure.value * (1 + 1e-9)
                assert figure.value <= value * within * (1 + 1e-9)
                of = rows_with_site(base, segment)[name] if optional else None
                if of is not None:
                    assert figure.reference == pytest.approx(np.quantile(of, q, method="inverted_cdf"), rel=0.02)
                else:
                    assert np.isfinite(figure.reference)
    assert found["resource_p50", "resource.ram_mb"].value == 0.0


def test_a_resource_below_zero_or_of_any_size_has_a_bin() -> None:
    assert RESOURCE.quantile(np.bincount(RESOURCE.assign(np.array([1e12])), minlength=RESOURCE.bins), 0.5) >= 0.98e12
    played = Played(configuration(), known(), events_of(rows_of(22, 60, lambda frame, rng: _negative(frame))))
    assert played.figures()["resource_p50", "resource.cpu_s"].value == 0.0


def _negative(frame: pd.DataFrame) -> None:
    frame["cpu_s"] = -1.0


def rows_with_site(frame: pd.DataFrame, segment: str | None) -> pd.DataFrame:
    return frame if segment is None else frame[frame["site"] == segment.removeprefix("site=")]


def test_segments_and_versions_have_means_of_their_own(clean: tuple[pd.DataFrame, Played]) -> None:
    frame, played = clean
    north = frame[frame["site"] == "north"]
    assert played.figures("site=north")["resource_mean", "resource.ram_mb"].value == pytest.approx(
        north["ram_mb"].mean(), rel=1e-9
    )
    second = frame[frame["version"] == "2"]
    assert played.figures(None, "2")["resource_mean", "resource.ram_mb"].n == len(second)


def test_clean_rows_of_a_service_that_publishes_everything_raise_no_incident(reference: Reference) -> None:
    played = Played(configuration(), reference, events_of(rows_of(11, 20_000)))
    assert played.incidents == []


def test_clean_rows_raise_no_incident_where_the_optional_fields_are_learned() -> None:
    played = Played(configuration(), known(optional=False), events_of(rows_of(13, 8000)))
    assert played.incidents == []
    found = played.figures()
    assert np.isfinite(found["embedding_norm", "embedding"].reference)


def _grown_vectors(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    frame["vector"] = [vector * (1.5 if at >= FROM else 1.0) for at, vector in enumerate(frame["vector"])]


def _nan_of_version_2(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    late = (frame.index >= FROM) & (frame["version"] == "2")
    frame.loc[late & (rng.random(len(frame)) < 0.02), "has_nan"] = True


def _late(column: str, value: Callable[[pd.Series], pd.Series]) -> Change:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[FROM:, column] = value(frame.loc[FROM:, column])

    return change


FAULTS: list[tuple[str, Change, str, str | None]] = [
    ("vectors", _grown_vectors, "embedding_norm_shift", "embedding"),
    ("nan", _nan_of_version_2, "layer_nan", "layer.dense"),
    ("layer mean", _late("layer_mean", lambda x: x + 0.1), "layer_shift", "layer.dense.mean"),
    ("layer std", _late("layer_std", lambda x: x * 1.5), "layer_shift", "layer.dense.std"),
    ("memory", _late("ram_mb", lambda x: x * 1.4), "resource_growth", "resource.ram_mb"),
    ("confidence", _late("confidence", lambda x: x * 0 + 0.5), "confidence_shift", "confidence"),
    ("pipeline", _late("pipeline", lambda x: "p2"), "pipeline_fingerprint", None),
    ("runtime", _late("numpy", lambda x: "2.2.0"), "runtime_version", None),
]
KNOWN = [pytest.param(*fault[1:], True, id=fault[0]) for fault in FAULTS]
LEARNED = [
    pytest.param(*fault[1:], False, id=f"{fault[0]}, learned")
    for fault in FAULTS
    if fault[0] in ("vectors", "memory", "runtime")
]


@pytest.mark.parametrize(("change", "signal", "subject", "optional"), [*KNOWN, *LEARNED])
def test_a_fault_of_an_optional_field_is_one_incident_that_names_it(
    change: Change, signal: str, subject: str | None, optional: bool
) -> None:
    played = Played(configuration(), known(optional=optional), events_of(rows_of(3, N, change)))
    assert [(incident.signal, incident.subject) for incident in played.incidents] == [(signal, subject)]
    begin = 1_780_000_000.0 + FROM * 0.5
    assert begin <= played.incidents[0].opened_at <= begin + 250


def test_one_row_with_nan_in_a_layer_is_critical_at_once_and_names_its_layer(reference: Reference) -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[5, "has_nan"] = True

    played = Played(configuration(), reference, events_of(rows_of(4, 4000, change)))
    [incident] = played.incidents
    assert (incident.signal, incident.subject, incident.peak) == ("layer_nan", "layer.dense", "critical")
    assert incident.where == Where(None, "live", None)
    assert incident.opened_at <= 1_780_000_000.0 + 10 + 10.0  # the pane of the row has ended
    assert incident.resolved_at is not None
    assert "NaN in a layer" in played.alerts[0].title


def test_nan_is_told_of_a_layer_that_nobody_declared_and_of_a_model_without_a_reference() -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame.loc[40, "has_inf"] = True

    played = Played(configuration(probes=[], learn_rows=100_000), None, events_of(rows_of(4, 600, change)))
    assert [(incident.signal, incident.subject) for incident in played.incidents] == [("layer_inf", None)]


def test_vectors_that_are_none_are_counted_as_invalid() -> None:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame["vector"] = [
            -1.0 if at % 10 == 0 else np.array([]) if at % 10 == 1 else 3.0 if at % 10 == 2 else vector
            for at, vector in enumerate(frame["vector"])
        ]

    frame = rows_of(5, 1000, change)
    found = Played(configuration(), known(), events_of(frame)).figures()
    assert found["invalid_rate", "embedding"].value == pytest.approx(0.2)
    valid = [3.0 if isinstance(v, float) else float(np.linalg.norm(v)) for v in frame["vector"]
             if (isinstance(v, float) and v > 0) or (not isinstance(v, float) and len(v))]  # fmt: skip
    assert found["embedding_norm", "embedding"].value == pytest.approx(np.mean(valid), rel=1e-9)
    assert found["embedding_norm", "embedding"].n == 800


def test_a_reference_keeps_its_directions_layers_and_resources_in_its_file(reference: Reference) -> None:
    assert reference.joint is not None
    again = load_reference(dump_reference(reference))
    assert again.fingerprint == reference.fingerprint
    assert again.joint is not None
    assert again.joint.fingerprint == reference.joint.fingerprint
    assert (again.layout.probes, again.layout.resources) == (("dense",), ("cpu_s", "ram_mb"))


def test_models_that_declare_nothing_pay_for_no_layer_and_no_resource() -> None:
    plain = known(optional=False)
    wider = plain.keeping(["a", "b"], ["cpu_s"])
    assert not any(name.startswith(("nan:", "resource_", "layer_")) for name in plain.layout.slots)
    assert wider.layout.fingerprint != plain.layout.fingerprint
    assert wider.cells[None].sum() == plain.cells[None].sum()
