"""Backoff with full jitter, never sooner than asked."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sinks.retry import RetryPolicy


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


def test_the_wait_doubles_up_to_the_cap() -> None:
    policy = RetryPolicy(base_s=1, cap_s=10)
    assert [policy.wait_s(n, None, longest) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_the_jitter_reaches_down_to_zero() -> None:
    assert RetryPolicy().wait_s(5, None, shortest) == 0


@given(failures=st.integers(1, 10**9), seed=st.integers())
def test_any_number_of_failures_gives_a_finite_wait_within_the_cap(failures: int, seed: int) -> None:
    wait = RetryPolicy(cap_s=60).wait_s(failures, None, random.Random(seed).uniform)
    assert math.isfinite(wait)
    assert 0 <= wait <= 60


def test_what_was_asked_for_is_a_floor_with_the_jitter_on_top() -> None:
    policy = RetryPolicy(base_s=1, cap_s=60)
    assert policy.wait_s(1, 30, shortest) == 30
    assert policy.wait_s(1, 30, longest) == 31


def test_an_unreasonable_demand_is_cut() -> None:
    assert RetryPolicy(longest_after_s=900).wait_s(1, 1e12, shortest) == 900


@pytest.mark.parametrize("field", ["base_s", "cap_s", "longest_after_s", "give_up_after_s"])
def test_times_must_be_positive(field: str) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate({field: 0})
