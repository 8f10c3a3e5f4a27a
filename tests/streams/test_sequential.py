import math
from collections.abc import Sequence

import numpy as np
import pytest

from detectors.adwin import AdwinConfig
from detectors.edetector import EDetectorConfig
from leadline.config import Panes, Rules
from leadline.events import DigestSample
from streams.baselines.reference_files import build_reference
from streams.core.request_keys import key_hashes, request_keys
from streams.counting.references import Reference
from streams.counting.sampling import LEVELS, Sampler, to_levels
from streams.counting.value_streams import losses, value_streams
from streams.judge.sequential import Sequential
from streams.judge.waiting_values import CHUNK
from streams.rules.evaluate import Evaluator


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(1)
    n = 20_000
    score = rng.beta(2, 5, n)
    return build(
        {
            "age": rng.normal(50, 10, n),
            "dose": rng.lognormal(0, 1, n),
            "ward": rng.choice(["a", "b"], n),
            "score": score,
            "label": (rng.random(n) < score).astype(float),
        }
    )


def build(columns: dict[str, np.ndarray]) -> Reference:
    return build_reference({name: values.tolist() for name, values in columns.items()})


def sequential(reference: Reference, **rules: object) -> Sequential:
    return Sequential(Evaluator(reference, Rules.model_validate(rules)), Panes())


def sample(
    kind: str, values: Sequence[np.ndarray], at: float, *, step: float = 1.0, version: str = "1"
) -> DigestSample:
    n = len(values[0])
    times = (at + step * np.arange(n)).tolist()
    levels = [to_levels(column, 0.0, 1.0).tolist() for column in values]
    return DigestSample(version, "live", kind, times, list(range(n)), levels)  # type: ignore[arg-type]


def unit(reference: Reference, name: str, values: np.ndarray) -> np.ndarray:
    feature = next(feature for feature in reference.features if feature.name == name)
    return np.clip((values - feature.low) / (feature.high - feature.low), 0.0, 1.0)


def test_the_baseline_of_a_stream_is_the_mean_of_the_clipped_values(reference: Reference) -> None:
    rng = np.random.default_rng(1)
    age = rng.normal(50, 10, 20_000)
    dose = rng.lognormal(0, 1, 20_000)
    streams = {stream.subject: stream for kind in value_streams(reference, Rules()).values() for stream in kind}
    assert set(streams) == {"score", "age", "dose", "loss"}
    for name, values in (("age", age), ("dose", dose)):
        clipped = unit(reference, name, values)
        assert streams[name].mean == pytest.approx(clipped.mean(), abs=0.05 * clipped.std())
        assert streams[name].sd == pytest.approx(clipped.std(), rel=0.1)


def test_the_baseline_of_the_loss_is_the_error_rate_of_the_reference(reference: Reference) -> None:
    stream = value_streams(reference, Rules())["loss"][0]
    tn, fp, fn, tp = reference.layout.part(reference.cells[None], "confusion")
    assert stream.mean == pytest.approx((fp + fn) / (tn + fp + fn + tp))


def test_losses_are_errors_of_classes_and_distances_of_values(reference: Reference) -> None:
    nan = float("nan")
    assert losses(reference, np.array([1.0, 0.0, nan]), np.array([1.0, 1.0, 1.0])).tolist()[:2] == [0.0, 1.0]
    assert math.isnan(losses(reference, np.array([nan]), np.array([1.0]))[0])


def test_values_of_the_reference_raise_nothing_whatever_the_seed(reference: Reference) -> None:
    for seed in range(3):
        rng = np.random.default_rng(100 + seed)
        judge = sequential(reference)
        n = 20_000
        score = rng.beta(2, 5, n)
        judge.keep(sample("score", [score], 0.0))
        judge.keep(
            sample(
                "features",
                [unit(reference, "age", rng.normal(50, 10, n)), unit(reference, "dose", rng.lognormal(0, 1, n))],
                0.0,
            )
        )
        wrong = ((score >= 0.5) != (rng.random(n) < score)).astype(float)
        judge.keep(sample("loss", [wrong], 0.0))
        assert judge.feed(math.inf, several=False) == []


def test_a_shift_of_one_feature_is_told_by_the_e_detector_with_its_onset(reference: Reference) -> None:
    rng = np.random.default_rng(5)
    age = unit(reference, "age", np.concatenate([rng.normal(50, 10, 3_200), rng.normal(62, 10, 640)]))
    dose = unit(reference, "dose", rng.lognormal(0, 1, 3_840))
    judge = sequential(reference)
    judge.keep(sample("features", [age, dose], 0.0))
    fired = judge.feed(math.inf, several=False)
    opening = [firing for firing in fired if firing.opens]
    assert opening
    assert {firing.finding.key for firing in opening} == {("edetector", "age")}
    first = opening[0]
    assert first.finding.layer == "data"
    assert first.finding.value == pytest.approx(62, abs=4)
    assert first.finding.reference == pytest.approx(50, abs=1)
    assert 3_150 <= first.start <= 3_260
    assert first.finding.log10_p < -8


def test_losses_that_grow_are_an_outcome_and_losses_that_shrink_are_none(reference: Reference) -> None:
    usual = value_streams(reference, Rules())["loss"][0].mean
    rng = np.random.default_rng(6)
    for rate, expected in ((usual + 0.25, {("edetector", "loss")}), (usual / 4, set())):
        judge = sequential(reference)
        values = np.concatenate([rng.random(960) < usual, rng.random(1_280) < rate]).astype(float)
        judge.keep(sample("loss", [values], 0.0))
        assert {f.finding.key for f in judge.feed(math.inf, several=False) if f.opens} == expected


def test_adwin_on_a_feature_is_evidence_alone_and_on_the_score_opens(reference: Reference) -> None:
    rng = np.random.default_rng(7)
    moved = np.concatenate([rng.beta(2, 5, 3_200), rng.beta(5, 2, 3_200)])
    judge = sequential(reference, sequential=False)
    judge.keep(sample("score", [moved], 0.0))
    assert [(f.finding.signal, f.opens) for f in judge.feed(math.inf, several=False)] == [("adwin", True)]
    age = unit(reference, "age", np.concatenate([rng.normal(50, 10, 3_200), rng.normal(75, 10, 3_200)]))
    judge.keep(sample("features", [age, unit(reference, "dose", rng.lognormal(0, 1, 6_400))], 0.0))
    fired = judge.feed(math.inf, several=False)
    assert {(f.finding.signal, f.finding.subject, f.opens) for f in fired} == {("adwin", "age", False)}


def test_many_features_together_speak_before_one_alone_would() -> None:
    rng = np.random.default_rng(8)
    names = [f"x{at:02d}" for at in range(40)]
    known = build({name: rng.normal(0, 1, 5_000) for name in names} | {"score": rng.random(5_000)})
    live = {name: unit(known, name, rng.normal(0.9, 1, 320)) for name in names}

    def events_until(columns: list[np.ndarray]) -> int:
        judge = sequential(known, adwin=False)
        for at in range(0, 320, CHUNK):
            judge.keep(sample("features", [column[at : at + CHUNK] for column in columns], float(at)))
            if judge.feed(math.inf, several=False):
                return at + CHUNK
        return 10_000

    alone = [unit(known, name, rng.normal(0, 1, 320)) for name in names]
    alone[0] = live["x00"]
    assert events_until(list(live.values())) < events_until(alone)


def test_page_hinkley_runs_only_where_a_rule_asks_for_it(reference: Reference) -> None:
    rng = np.random.default_rng(9)
    moved = np.concatenate([rng.beta(2, 5, 640), rng.beta(6, 2, 640)])
    for threshold, signals in ((None, set()), (30.0, {"page_hinkley"})):
        judge = sequential(reference, adwin=False, sequential=False, page_hinkley=threshold)
        judge.keep(sample("score", [moved], 0.0))
        assert {f.finding.signal for f in judge.feed(math.inf, several=False)} == signals


def test_the_order_and_the_cuts_of_digests_change_nothing(reference: Reference) -> None:
    rng = np.random.default_rng(10)
    values = np.concatenate([rng.beta(2, 5, 1_000), rng.beta(5, 2, 1_000)])
    whole = sequential(reference)
    whole.keep(sample("score", [values], 0.0))
    expected = [(f.finding, f.start) for end in range(0, 2_050, 50) for f in whole.feed(float(end), several=False)]
    assert expected
    parts = sequential(reference)
    pieces = [sample("score", [values[at : at + 100]], float(at)) for at in range(0, 2_000, 100)]
    for number in rng.permutation(20).tolist():
        parts.keep(pieces[number])
    found = [(f.finding, f.start) for end in range(0, 2_050, 50) for f in parts.feed(float(end), several=False)]
    assert found == expected


def test_rows_bring_back_detectors_and_waiting_values(reference: Reference) -> None:
    rng = np.random.default_rng(11)
    values = np.concatenate([rng.beta(2, 5, 1_000), rng.beta(5, 2, 1_000)])
    whole, store = sequential(reference), {}
    kept = sequential(reference)
    for at in range(0, 2_000, 50):
        piece = sample("score", [values[at : at + 50]], float(at))
        whole.keep(piece)
        kept.keep(piece)
        said = [f.finding for f in kept.feed(float(at + 20), several=False)]
        assert said == [f.finding for f in whole.feed(float(at + 20), several=False)]
        written, gone = kept.take_changes()
        assert not set(written) & set(gone)
        store.update(written)
        for name in gone:
            store.pop(name, None)
        kept = sequential(reference)
        kept.restore(dict(store), same_reference=True)
    assert list(kept.figures(False)) == list(whole.figures(False))
    assert len(store) == 2  # the detectors of one stream, and what waits


def test_another_budget_begins_anew_and_another_reference_forgets_all(reference: Reference) -> None:
    first = sequential(reference)
    first.keep(sample("score", [np.full(200, 0.3)], 0.0))
    first.feed(math.inf, several=False)
    rows, _ = first.take_changes()
    other = sequential(reference, false_alarms_per_month=9.0)
    other.restore(dict(rows), same_reference=True)
    assert not other.detectors
    assert any(name.startswith("d") for name in other.take_changes()[1])
    changed = sequential(reference)
    changed.restore(dict(rows), same_reference=False)
    assert set(changed.take_changes()[1]) == set(rows)


def test_figures_are_those_of_the_detectors_fed_by_hand(reference: Reference) -> None:
    rng = np.random.default_rng(12)
    values = to_levels(rng.beta(2, 5, 640), 0.0, 1.0) / LEVELS
    judge = sequential(reference)
    judge.keep(sample("score", [values], 0.0))
    judge.feed(math.inf, several=False)
    shown = {figure.signal: figure for _, figure in judge.figures(several=False)}
    adwin = AdwinConfig(significance=1e-9).build()
    adwin.update_many(values)
    assert shown["adwin_mean"].value == pytest.approx(adwin.estimate, abs=1e-12)
    assert shown["adwin_mean"].n == 640
    stream = value_streams(reference, Rules())["score"][0]
    detector = EDetectorConfig(baseline=stream.mean, tolerance=stream.tolerance, alpha=1e-9).build()
    detector.update_many(values)
    assert shown["log10_evidence"].value == pytest.approx(max(detector.log_e / math.log(10), 0.0))


def test_a_sampler_keeps_to_its_cap_and_chooses_by_hash() -> None:
    keys = request_keys([f"request-{at}" for at in range(50_000)])
    hashes = key_hashes(keys)
    panes = np.repeat(np.arange(10), 5_000)
    sampler = Sampler(200.0)
    kept = [len(sampler.choose(hashes[panes == pane], panes[panes == pane])) for pane in range(10)]
    assert all(100 <= count <= 800 for count in kept[:1])
    assert all(150 <= count <= 260 for count in kept[1:])
    again = Sampler(*sampler.state())
    assert np.array_equal(
        again.choose(hashes[:5_000], panes[:5_000] + 10), sampler.choose(hashes[:5_000], panes[:5_000] + 10)
    )
