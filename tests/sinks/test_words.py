"""An alert in words."""

from __future__ import annotations

import pytest

from leadline.alert import ChangeNote
from sinks.words import CHANGES_SHOWN, EVIDENCE_SHOWN, clean, clip, duration, evidence_line, moment, number, tell
from tests.sinks.samples import ONSET, alert, full_alert


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        (0.0, "0"),
        (3.0, "3"),
        (-2.0, "-2"),
        (4200.0, "4,200"),
        (0.123456, "0.1235"),
        (1e-09, "1e-09"),
        (12345.678, "1.235e+04"),
        (1234.5, "1,234"),
        (1e300, "1e+300"),
        (-0.5, "-0.5"),
    ],
)
def test_a_number_has_four_digits_that_matter(value: float | None, words: str) -> None:
    assert number(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (100000, "1 d 3 h"),
        (-90, "1 min 30 s"),
    ],
)
def test_a_duration_has_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_moment_is_utc_and_survives_any_number() -> None:
    assert moment(ONSET) == "2026-09-21 14:13:20 UTC"
    assert moment(1e300) == "1e+300 s after the epoch"


def test_control_characters_and_direction_tricks_are_taken_out() -> None:
    assert clean("a\x1b[31m\u202eb\r\nc\ud800\x00") == "a[31mb  c"


def test_clipping_shows_that_something_is_missing() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"


def test_the_telling_has_severity_model_scope_what_since_value_change_and_advice() -> None:
    told = tell(full_alert())
    facts = dict(told.facts)
    assert told.headline == "WARN · Resolved · age has drifted"
    assert facts["Model"] == "readmission"
    assert facts["Affects"] == "version 3, site=north (25.0% of traffic)"
    assert facts["What"] == "psi of age"
    assert facts["Value"] == "0.3123 against 0.1 (n = 4,200; noise alone reaches 0.012)"
    assert facts["Since"].startswith("2026-09-21 14:13:20 UTC, 1 min 30 s before this message (between ")
    assert facts["Ended"] == "2026-09-21 15:13:20 UTC, after 1 h"
    assert told.evidence == (
        "psi of age: 0.3123 against 0.1 (n = 4,200; noise alone reaches 0.012), threshold 0.2, p about 1e-12 "
        "with 4.2 rows worth one, as past spans vary, over 5 min, version 3: bin 70 to 80 doubled",
    )
    assert told.changes == ("deploy 3 at 2026-09-21 14:11:20 UTC, 2 min before the onset: new scaler",)
    assert told.advice == ("Compare the scaler of version 3 with version 2.",)


def test_the_interval_of_the_onset_names_a_date_only_where_it_is_another() -> None:
    near = tell(alert(onset_low=ONSET - 5, onset_high=ONSET + 5))
    assert dict(near.facts)["Since"].endswith("(between 14:13:15 and 14:13:25)")
    far = tell(alert(onset_low=ONSET - 86_400, onset_high=ONSET + 5))
    assert dict(far.facts)["Since"].endswith("(between 2026-09-20 14:13:20 UTC and 14:13:25)")


def test_a_chance_that_nobody_can_tell_from_none_is_no_number() -> None:
    evidence = full_alert().evidence[0].model_copy(update={"log10_p": -50_000.0})
    assert ", p below 1e-300 " in evidence_line(evidence)


def test_no_figure_is_said_so() -> None:
    assert dict(tell(alert(value=None)).facts)["Value"] == "no figure (n = 4,200; noise alone reaches 0.012)"


def test_the_nearest_change_comes_first_and_few_are_shown() -> None:
    changes = tuple(ChangeNote(kind="deploy", timestamp=ONSET - gap, version=str(gap)) for gap in (500, 5, 50, 5000))
    told = tell(alert(changes_before=changes))
    assert [line.split()[1] for line in told.changes] == ["5", "50", "500"]
    assert len(told.changes) == CHANGES_SHOWN


def test_more_evidence_than_is_shown_is_counted() -> None:
    told = tell(full_alert().model_copy(update={"evidence": full_alert().evidence * 9}))
    assert len(told.evidence) == EVIDENCE_SHOWN + 1
    assert told.evidence[-1] == "and 4 more signals"
