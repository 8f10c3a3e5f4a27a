"""What a tired person reads: figures in their own unit, how sure, how far, and how it ended."""

from __future__ import annotations

import pytest

from leadline.alert import ChangeNote
from streams.judge.alerting import advice_of, title_of
from streams.judge.incident_words import figure_of, summary_of
from streams.judge.incidents import EvidenceRow, Firing, Incident, Where, evidence_of
from streams.rules.finding import Finding

ALL = Where(None, "live", None)


def finding(signal: str, subject: str | None, value: float, reference: float, layer: str = "data") -> Finding:
    return Finding(signal, subject, layer, value, reference, 1200, 0.1, 0.2, 0.05, -12.0, 5.0)  # type: ignore[arg-type]


def incident(found: Finding, share: float | None = None, where: Where = ALL) -> tuple[Incident, EvidenceRow]:
    row = evidence_of(Firing(where, found, 100.0, 400.0))
    made = Incident(
        id="i",
        model_id="m",
        where=where,
        signal=found.signal,
        subject=found.subject,
        layer=found.layer,
        severity="warn",
        opened_at=400.0,
        onset_at=100.0,
        onset_low=90.0,
        onset_high=110.0,
        span_s=300.0,
        value=found.value,
        reference=found.reference,
        n=found.n,
        needed=30,
        evidence=[row],
        share=share,
    )
    return made, row


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (finding("null_rate", "age", 0.354, 0.002), "35% of the values are null, 0.2% in the reference"),
        (finding("psi", "age", 0.4321, 0.0), "PSI is 0.432: 0 is no change, 0.1 would matter"),
        (finding("auc", None, 0.7213, 0.8), "AUC is 0.721, 0.8 in the reference"),
        (finding("mean_shift", "age", 84.06, 60.0), "mean shift is 84.1, 60 in the reference"),
        (
            finding("realised_minus_estimated", "label", 0.5, 0.3),
            "50% is what outcomes say, these scores promised 30%",
        ),
        (finding("traffic_share", None, 0.0, 0.152), "0% of the traffic, 15% at this time of the days before"),
        (finding("psi", "age", float("nan"), 0.0), "PSI is unknown: 0 is no change, 0.1 would matter"),
    ],
)
def test_a_figure_is_told_in_its_own_unit(found: Finding, words: str) -> None:
    assert figure_of(found) == words


def test_the_summary_says_how_many_rows_how_sure_and_how_far() -> None:
    made, row = incident(finding("null_rate", "age", 0.354, 0.002), share=0.25)
    assert summary_of(made, row, "open", 400.0) == (
        "35% of the values are null, 0.2% in the reference (on 1,200 rows in 5 m; noise alone does this once in 10^12 looks). "
        "Affected: 25% of the traffic."
    )


def test_an_incident_of_all_traffic_does_not_say_so_in_percent() -> None:
    made, row = incident(finding("null_rate", "age", 0.354, 0.002), share=1.0)
    assert "traffic" not in summary_of(made, row, "open", 400.0)


def test_other_subjects_are_named_and_other_signals_of_the_same_one_are_not() -> None:
    made, row = incident(finding("psi", "age", 0.4, 0.0))
    for name in ("age", "pulse", "ward", "cost", "score"):
        made.evidence.append(evidence_of(Firing(ALL, finding("ks", name, 0.3, 0.0), 100.0, 400.0)))
    assert "With it moved pulse, ward, cost and 1 more." in summary_of(made, row, "open", 400.0)


def test_getting_worse_says_what_became_of_the_outcomes() -> None:
    made, row = incident(finding("psi", "age", 0.4, 0.0))
    made.evidence.append(evidence_of(Firing(ALL, finding("auc", None, 0.6, 0.8, "outcome"), 100.0, 400.0)))
    assert "It has reached the outcomes: AUC is 0.6, 0.8 in the reference." in summary_of(made, row, "worse", 400.0)


def test_the_end_says_what_was_seen_last_and_whether_it_was_seen_to_recover() -> None:
    made, row = incident(finding("psi", "age", 0.4, 0.0))
    assert summary_of(made, row, "resolved", 3700.0).startswith("Last seen: PSI is 0.4")
    assert summary_of(made, row, "resolved", 3700.0).endswith("Back to normal after 1 h.")
    made.ended = "no_more_traffic"
    assert "not because it was seen to recover" in summary_of(made, row, "resolved", 3700.0)


def test_a_title_says_in_which_direction() -> None:
    assert title_of(incident(finding("null_rate", "age", 0.3, 0.1))[0]) == "m: age: more nulls (all traffic)"
    assert title_of(incident(finding("null_rate", "age", 0.0, 0.1))[0]) == "m: age: fewer nulls (all traffic)"
    west = Where(None, "live", "site=west")
    gone = incident(finding("traffic_share", None, 0.0, 0.15), where=west)[0]
    assert title_of(gone) == "m: no traffic any more (site=west)"


def test_what_people_did_just_before_comes_first_in_what_to_do() -> None:
    made, _ = incident(finding("psi", "age", 0.4, 0.0), where=Where("2", "live", None))
    near, other = (
        ChangeNote(kind="deploy", timestamp=40.0, version="2"),
        ChangeNote(kind="deploy", timestamp=50.0, version="3"),
    )
    assert advice_of(made, (near,))[0] == (
        "The deploy of version 2 came 1 m before the onset: look there first, or take it back."
    )
    assert len(advice_of(made, (other,))) == 1, "another version's deploy is no cause of this one's"
