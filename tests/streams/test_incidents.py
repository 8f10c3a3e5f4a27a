from streams.judge.incidents import MAX_EVIDENCE, Firing, Incident, Where, attach, belongs, intersects, severity_of
from streams.rules.finding import Finding

ALL, NORTH, SOUTH, ICU = (
    Where(None, "live", None),
    Where(None, "live", "site=north"),
    Where(None, "live", "site=south"),
    Where(None, "live", "ward=icu"),
)
OLD, NEW = Where("1", "live", None), Where("2", "live", None)


def finding(
    signal: str = "psi", subject: str | None = "age", layer: str = "data", n: int = 100, log10_p: float = -20.0
) -> Finding:
    return Finding(signal, subject, layer, 0.5, 0.0, n, 0.1, 0.2, 0.05, log10_p, 5.0)  # type: ignore[arg-type]


def incident(where: Where = ALL) -> Incident:
    return Incident(
        "i", "m", where, "psi", "age", "data", "warn", 100.0, 90.0, 90.0, 100.0, 10.0, 0.5, 0.0, 100, 100, []
    )


def test_cells_meet_unless_a_version_or_a_segment_of_one_name_parts_them() -> None:
    assert intersects(ALL, NORTH)
    assert intersects(NORTH, ICU)
    assert not intersects(NORTH, SOUTH)
    assert not intersects(OLD, NEW)
    assert not intersects(ALL, Where(None, "shadow", None))


def test_full_evidence_keeps_what_came_first_and_how_few_rows_showed_it() -> None:
    held = incident()
    first = Firing(ALL, finding(n=40), 90.0, 100.0)
    attach(held, first)
    for number in range(MAX_EVIDENCE + 20):
        attach(held, Firing(ALL, finding(subject=f"f{number}", log10_p=-50.0), 90.0, 100.0))
    attach(held, Firing(ALL, finding(n=9000), 0.0, 200.0))
    row = held.holds(first.key)
    assert row is not None
    assert (row.first_n, row.finding.n, row.first_end) == (40, 9000, 100.0)
    assert len(held.evidence) == MAX_EVIDENCE


def test_a_layer_makes_an_incident_worse_once_though_its_row_finds_no_place() -> None:
    held = incident()
    for number in range(MAX_EVIDENCE):
        attach(held, Firing(ALL, finding(subject=f"f{number}"), 90.0, 100.0))
    outcome = Firing(ALL, finding("auc", None, "outcome"), 90.0, 110.0)
    assert attach(held, outcome) == "worse"
    assert attach(held, outcome) is None
    assert held.layers == ["data", "outcome"]


def test_the_peak_outlives_the_severity() -> None:
    held = incident()
    attach(held, Firing(ALL, finding(), 90.0, 100.0))
    assert severity_of(held.evidence) == held.peak == "critical"
    held.evidence.clear()
    assert severity_of(held.evidence) == "warn"
    assert held.peak == "critical"


def test_another_feature_whose_span_began_after_the_opening_is_news() -> None:
    held = incident()
    assert not belongs(Firing(ALL, finding(subject="sodium"), 300.0, 310.0), held, 0.0)
    assert belongs(Firing(ALL, finding(subject="sodium"), 60.0, 110.0), held, 0.0)


def test_a_later_layer_belongs_while_its_span_may_hold_labels_of_the_incidents_beginning() -> None:
    # For ever, it would be swallowed by a drift that stays; later it is the rows' own earlier time that tells (`News`).
    held, outcome = incident(), finding("auc", None, "outcome")
    assert belongs(Firing(NORTH, outcome, 120.0, 130.0), held, 30.0)
    assert not belongs(Firing(NORTH, outcome, 140.0, 150.0), held, 30.0)
    latency = finding("latency_over_slo", "latency_ms", "model")
    assert not belongs(Firing(NORTH, latency, 120.0, 130.0), held, 30.0), "only labels come late"


def test_another_signal_of_the_same_subject_belongs_where_it_says_the_same() -> None:
    held = incident()
    assert belongs(Firing(ALL, finding("mean_shift"), 300.0, 310.0), held, 0.0)
    assert not belongs(Firing(ALL, finding("null_rate"), 300.0, 310.0), held, 0.0)


def test_the_other_half_of_a_scope_that_was_drawn_too_small_belongs() -> None:
    held = incident(OLD)
    assert belongs(Firing(NEW, finding("js_divergence"), 60.0, 300.0), held, 0.0)
    assert not belongs(Firing(NEW, finding("null_rate"), 60.0, 300.0), held, 0.0)
    assert not belongs(Firing(NEW, finding("js_divergence"), 110.0, 300.0), held, 0.0), "it began after the opening"


def test_what_stands_alone_is_no_part_of_another_fault() -> None:
    missing, coverage = finding("missing_rate", "confidence", "schema"), finding("label_coverage", None, "outcome")
    for firing in (missing, coverage):
        assert not belongs(Firing(ALL, firing, 60.0, 110.0), incident(), 0.0)
    held = incident()
    held.signal, held.subject, held.layer = "missing_rate", "confidence", "schema"
    assert not belongs(Firing(ALL, finding("psi"), 60.0, 110.0), held, 0.0)
    assert belongs(Firing(ALL, finding("missing_rate", "embedding", "schema"), 60.0, 110.0), held, 0.0)
    assert not belongs(Firing(ALL, finding("missing_rate", "embedding", "schema"), 300.0, 310.0), held, 0.0)


def test_labels_of_all_versions_that_stop_are_news_beside_those_of_one() -> None:
    coverage = finding("label_coverage", None, "outcome")
    of_one, of_all = incident(OLD), incident()
    for held in (of_one, of_all):
        held.signal, held.subject, held.layer = "label_coverage", None, "outcome"
    assert belongs(Firing(OLD, coverage, 300.0, 310.0), of_one, 0.0)
    assert not belongs(Firing(ALL, coverage, 300.0, 310.0), of_one, 0.0)
    assert not belongs(Firing(NEW, coverage, 300.0, 310.0), of_one, 0.0)
    assert belongs(Firing(NEW, coverage, 300.0, 310.0), of_all, 0.0)


def test_labels_of_a_fault_that_is_over_open_no_incident_of_their_own() -> None:
    held = incident()
    held.resolved_at = 200.0
    outcome = finding("auc", None, "outcome")
    assert belongs(Firing(ALL, outcome, 210.0, 240.0), held, 30.0)
    assert not belongs(Firing(ALL, outcome, 231.0, 240.0), held, 30.0)
