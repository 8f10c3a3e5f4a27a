"""What a serving thread holds, and what becomes of it on the wire."""

from __future__ import annotations

import enum
import math
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from leadline import publisher_values as contract
from leadline.events import Probe
from leadline.publisher_values import InvalidEvent


class Ward(enum.StrEnum):
    SURGERY = "surgery"


@pytest.mark.parametrize(
    ("given", "published"),
    [
        (1.5, 1.5),
        (7, 7),
        (True, True),
        ("a", "a"),
        (None, None),
        (math.nan, None),
        (-math.inf, None),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.float64("nan"), None),
        (np.float16("inf"), None),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), float(2**64)),
        (np.bool_(False), False),
        (np.str_("b"), "b"),
        (np.array(2.0), 2.0),
        (np.array([2.0]), 2.0),
        (Ward.SURGERY, "surgery"),
        (Decimal("1.25"), 1.25),
        (Decimal("NaN"), None),
        (Fraction(1, 4), 0.25),
        (2**63 - 1, 2**63 - 1),
        (2**63, float(2**63)),
        (10**400, None),
        (pd.NA, None),
        (pd.NaT, None),
    ],
)
def test_a_feature_is_published_as_json_can_hold_it(given: Any, published: Any) -> None:
    found = contract.plain(given)
    assert found == published
    assert type(found) is type(published)


@pytest.mark.parametrize(
    "given", [[1.0], {}, object(), 1j, np.array([1.0, 2.0]), datetime.now(UTC), np.datetime64("2026-01-01"), b"x"]
)
def test_what_is_no_scalar_is_no_feature(given: Any) -> None:
    with pytest.raises((InvalidEvent, ValueError)):
        contract.features({"x": given})


def test_a_pandas_row_is_a_set_of_features() -> None:
    frame = pd.DataFrame({"age": [71, 64], "hba1c": [6.1, None], "ward": ["surgery", None], 7: [True, False]})
    assert contract.features(frame.iloc[0]) == {"age": 71, "hba1c": 6.1, "ward": "surgery", "7": True}
    assert contract.features(frame.iloc[1]) == {"age": 64, "hba1c": None, "ward": None, "7": False}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0),
        (1_700_000_000.25, 1_700_000_000.25),
        (np.float64(5.5), 5.5),
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T23:13:20.500+01:00", 1_700_000_000.5),
        (datetime.fromtimestamp(1_700_000_000, UTC), 1_700_000_000.0),
        (pd.Timestamp(1_700_000_000, unit="s", tz="Europe/Berlin"), 1_700_000_000.0),
    ],
)
def test_a_time_is_published_in_epoch_seconds(given: Any, seconds: float) -> None:
    assert contract.timestamp(given) == seconds


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (1_700_000_000_000, "timestamp_in_milliseconds"),
        (1.7e15, "timestamp_in_microseconds"),
        (1.7e18, "timestamp_in_nanoseconds"),
        (-1.0, "timestamp_negative"),
        ("yesterday", "timestamp_unreadable"),
        ("2023-11-14T22:13:20", "timestamp_unreadable"),
        (datetime(2026, 1, 1), "timestamp_unreadable"),  # no offset
        (math.nan, "not_finite"),
        (True, "wrong_type"),
        ([], "wrong_type"),
    ],
)
def test_a_time_that_the_worker_would_refuse_is_refused_here_for_the_same_reason(given: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        contract.timestamp(given)
    assert refused.value.reason == reason
    assert reason in contract.INVALID_REASONS


@pytest.mark.parametrize(
    ("given", "published"),
    [
        (np.float32(0.25), 0.25),
        (1, 1),
        ({"yes": np.float64(0.75), "no": 0.25}, {"yes": 0.75, "no": 0.25}),
        ({np.int64(0): 0.5, np.int64(1): 0.5}, {"0": 0.5, "1": 0.5}),
    ],
)
def test_a_score_is_a_number_or_a_map_of_classes(given: Any, published: Any) -> None:
    assert contract.score(given) == published


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (math.nan, "not_finite"),
        (np.float32("inf"), "not_finite"),
        ({"yes": math.nan}, "not_finite"),
        (None, "wrong_type"),
        ("0.5", "wrong_type"),
        (True, "wrong_type"),
        ({"yes": None}, "wrong_type"),
        ({"yes": "0.5"}, "wrong_type"),
    ],
)
def test_a_score_that_cannot_be_counted_makes_the_event_invalid(given: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        contract.score(given)
    assert refused.value.reason == reason


def test_optional_numbers_that_are_not_finite_are_left_out() -> None:
    assert contract.numbers({"cpu": np.float32(0.5), "gpu": math.nan, "ram": None}, "resources") == {"cpu": 0.5}
    assert contract.number(math.inf, "latency_ms") is None


def test_segments_are_text() -> None:
    given = {"site": "north", "ward": np.int64(3), "emergency": np.bool_(True), "region": math.nan}
    assert contract.strings(given, "segments") == {"site": "north", "ward": "3", "emergency": "true"}
    with pytest.raises(InvalidEvent):
        contract.strings({"age": 3.5}, "segments")


def test_an_embedding_is_a_norm_or_a_vector() -> None:
    assert contract.embedding(np.array([1.0, 2.0], dtype=np.float32)) == [1.0, 2.0]
    assert contract.embedding(np.float64(2.5)) == 2.5
    assert contract.embedding([0.0, math.nan]) is None
    with pytest.raises(InvalidEvent):
        contract.embedding("abc")


def test_a_probe_whose_mean_is_nan_says_so() -> None:
    given = {
        "dense": Probe(mean=math.nan, std=1.0),
        "out": {"mean": np.float32("inf"), "std": None},
        "ok": {"mean": 0.0},
    }
    assert contract.probes(given) == {
        "dense": {"std": 1.0, "has_nan": True, "has_inf": False},
        "out": {"has_nan": False, "has_inf": True},
        "ok": {"mean": 0.0, "has_nan": False, "has_inf": False},
    }
    with pytest.raises(InvalidEvent):
        contract.probes({"dense": {"variance": 1.0}})


@pytest.mark.parametrize("given", ["r-1", np.str_("r-1"), 17, np.int64(17), UUID(int=5)])
def test_people_use_text_integers_and_uuids_as_ids(given: Any) -> None:
    assert contract.identifier(given, "request_id", 512) == str(given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "empty_id"),
        (None, "empty_id"),
        (1.5, "wrong_type"),
        (True, "wrong_type"),
        ("x" * 513, "wrong_type"),
        ([], "wrong_type"),
    ],
)
def test_an_id_that_is_none_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        contract.identifier(given, "request_id", 512)
    assert refused.value.reason == reason
