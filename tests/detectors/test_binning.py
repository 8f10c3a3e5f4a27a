"""Values to bins: every value is counted exactly once, and what lies outside is never dropped."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import BadParameter, BadValues
from detectors.binning import MAX_EDGES, CategoryBins, NumericBins, category, count, count_by_cell
from detectors.divergence import psi
from tests.detectors.data import DATA_SETS, PREFIXES, heavy_tail, rare_spike, uniform

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)
JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5), st.lists(st.integers())
)


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("bins", [10, 100])
def test_counts_agree_with_numpy_at_many_prefixes(name: str, bins: int) -> None:
    values = DATA_SETS[name]()
    mapping = NumericBins.from_reference(values, bins)
    ends = np.array([-np.inf, *mapping.edges, np.inf])
    for n in PREFIXES:
        oracle = [((values[:n] >= low) & (values[:n] < high)).sum() for low, high in pairwise(ends)]
        counts = count(mapping.assign(values[:n]), mapping.size)
        assert counts[: mapping.ordered].tolist() == oracle
        assert counts[mapping.ordered :].tolist() == [0, 0]


def test_without_heavy_values_the_edges_are_the_reference_deciles() -> None:
    values = uniform(5_000)
    mapping = NumericBins.from_reference(values)
    np.testing.assert_allclose(mapping.edges, np.quantile(values, np.arange(1, 10) / 10), rtol=1e-12)
    assert mapping.ordered == 10


def test_values_far_outside_the_training_range_raise_psi() -> None:
    reference = np.random.default_rng(1).normal(size=10_000)
    live = np.random.default_rng(2).normal(size=10_000)
    live[:2_000] = 1e6
    mapping = NumericBins.from_reference(reference)
    tables = [count(mapping.assign(v), mapping.size)[: mapping.ordered] for v in (live, reference)]
    # closed percentile edges drop those rows and report 0.046, "stable"
    assert psi(*tables) == pytest.approx(0.24, abs=0.02)


def test_a_value_on_an_edge_belongs_to_the_bin_that_it_opens() -> None:
    mapping = NumericBins((0.0, 1.0))
    assert mapping.assign(np.array([-1e-300, 0.0, 0.999, 1.0, 1e308])).tolist() == [0, 1, 1, 2, 2]
    assert mapping.labels == ("(-inf, 0)", "[0, 1)", "[1, inf)", "missing", "invalid")


def test_a_constant_has_its_own_bin_between_two_open_tails() -> None:
    mapping = NumericBins.from_reference(np.full(50, 3.0))
    assert mapping.assign(np.array([2.999999, 3.0, 3.000001])).tolist() == [0, 1, 2]


def test_a_rare_amount_beside_many_zeros_is_told_from_zero() -> None:
    mapping = NumericBins.from_reference(rare_spike())
    zero, amount = mapping.assign(np.array([0.0, 20.0]))
    assert zero != amount


def test_a_rare_positive_of_a_binary_feature_has_its_own_bin() -> None:
    mapping = NumericBins.from_reference([0.0] * 97 + [1.0] * 3)
    assert len(set(mapping.assign(np.array([-1.0, 0.0, 1.0, 2.0])).tolist())) == 4


@pytest.mark.parametrize("n", [255, 256])
@pytest.mark.parametrize("edges", [0, 1, 24, 25])
def test_many_values_are_sorted_as_few_are(n: int, edges: int) -> None:
    mapping = NumericBins(tuple(float(edge) for edge in range(edges)))
    values = np.resize(np.array([-np.inf, np.inf, np.nan, -1.0, 0.0, 0.5, 23.0, 24.0, 1e9, -0.0]), n)
    assert mapping.assign(values).tolist() == [mapping.assign(values[i : i + 1])[0] for i in range(n)]


def test_nan_infinity_and_null_have_bins_of_their_own() -> None:
    mapping = NumericBins.from_reference(uniform())
    codes = mapping.assign(np.array([np.nan, np.inf, -np.inf, np.nan]), np.array([False, False, False, True]))
    assert codes.tolist() == [mapping.invalid] * 3 + [mapping.missing]


def test_json_values_of_any_type_are_sorted_into_number_null_and_invalid() -> None:
    mapping = NumericBins((0.0, 1.0))
    bad, null = mapping.invalid, mapping.missing
    mixed: list[object] = [True, False, 0, 2.5, None, "0.5", 10**400, float("nan"), [1.0], {}]
    assert mapping.assign_objects(mixed).tolist() == [2, 1, 1, 2, null, bad, bad, bad, bad, bad]
    assert mapping.assign_objects([None, 0.5]).tolist() == [null, 1]
    assert mapping.assign_objects([0.5, 10**400]).tolist() == [1, bad]
    assert mapping.assign_objects([]).tolist() == []


@given(st.lists(JSON, max_size=30))
def test_every_json_value_has_exactly_one_code(values: list[object]) -> None:
    numeric = NumericBins((-1.0, 0.0, 1.0))
    assert count(numeric.assign_objects(values), numeric.size).sum() == len(values)
    categories = CategoryBins(("a", "true", "3"), ("b",))
    assert count(categories.assign(values), categories.size).sum() == len(values)
    one_by_one = [numeric.assign_objects([value])[0] for value in values]
    assert numeric.assign_objects(values).tolist() == one_by_one


@given(st.lists(FINITE, min_size=1, max_size=200), st.integers(2, 125))
def test_any_reference_gives_increasing_finite_edges(values: list[float], bins: int) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        mapping = NumericBins.from_reference(values, bins)
    assert len(mapping.edges) <= MAX_EDGES
    assert list(mapping.edges) == sorted(set(mapping.edges))
    assert np.isfinite(mapping.edges).all()


def test_equal_edges_are_equal_bins_with_equal_fingerprints() -> None:
    a, b = NumericBins((0.0, 1.0)), NumericBins((-0.0 + 0.0, 1.0))
    assert a == b
    assert hash(a) == hash(b)
    assert a.fingerprint == b.fingerprint
    assert a.fingerprint != NumericBins((0.0, 1.0 + 1e-15)).fingerprint
    assert CategoryBins(("a", "b")).fingerprint != CategoryBins(("b", "a")).fingerprint
    assert CategoryBins(("a",), ("b",)).fingerprint != CategoryBins(("a", "b")).fingerprint


@pytest.mark.parametrize("edges", [(1.0, 1.0), (2.0, 1.0), (np.nan,), (0.0, np.inf), tuple(range(MAX_EDGES + 1))])
def test_edges_that_do_not_increase_or_do_not_fit_a_byte_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(BadParameter):
        NumericBins(edges)


def test_a_reference_without_values_is_refused() -> None:
    with pytest.raises(BadValues):
        NumericBins.from_reference([np.nan, np.inf])
    with pytest.raises(BadValues):
        CategoryBins.from_reference([None, None])


def test_fine_bins_hold_little_mass_each() -> None:
    values = heavy_tail(20_000)
    mapping = NumericBins.fine(values)
    counts = count(mapping.assign(values), mapping.size)
    assert mapping.ordered == 100
    assert counts.max() <= 1.05 * values.size / 100


def test_categories_go_to_top_other_new_missing_and_invalid() -> None:
    reference = ["a"] * 5 + ["b"] * 3 + ["c"] * 3 + ["rare"]
    mapping = CategoryBins.from_reference(reference, top=3)
    assert mapping.top == ("a", "b", "c")
    live = ["c", "rare", "never seen", None, float("nan"), ["list"]]
    assert mapping.assign(live).tolist() == [2, mapping.other, mapping.new, mapping.missing, *[mapping.invalid] * 2]
    assert mapping.labels == ("a", "b", "c", "other", "new", "missing", "invalid")


def test_numbers_and_bools_are_categories_under_one_name() -> None:
    mapping = CategoryBins.from_reference([3, 3.0, True, "true", 2.5], top=5)
    assert mapping.top == ("3", "true", "2.5")
    assert mapping.assign([3.0, np.True_, 2.5, "3"]).tolist() == [0, 1, 2, 0]
    assert category(10**5000) is None


def test_a_reference_with_more_values_than_are_listed_never_calls_anything_new() -> None:
    names = [f"u{i}" for i in range(100)]
    mapping = CategoryBins.from_reference(names, top=10, rest=20)
    assert not mapping.complete
    assert mapping.assign(["u99", "stranger"]).tolist() == [mapping.other, mapping.other]


def test_counts_by_cell_are_the_counts_of_each_cells_rows() -> None:
    rng = np.random.default_rng(3)
    codes, cells = rng.integers(0, 5, 400).astype(np.uint8), rng.integers(0, 7, 400)
    table = count_by_cell(codes, cells, 5, 7)
    for cell in range(7):
        np.testing.assert_array_equal(table[cell], count(codes[cells == cell], 5))
