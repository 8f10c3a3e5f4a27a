"""An alert in words, for people: what every readable sink says, so that all of them say the same.

Names, categories and notes come from other people's data: `clean` takes the control characters out, escaping is the
sink's.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

from leadline.alert import Alert, Evidence

LIFE = {"open": "New incident", "worse": "Getting worse", "better": "Easing", "resolved": "Resolved"}
EVIDENCE_SHOWN = 5
CHANGES_SHOWN = 3
LEAST_LOG10_P = -300  # nobody tells 1e-301 from 1e-50000


def clean(text: str) -> str:
    """One line without control, format and surrogate characters: no terminal escape, no right-to-left trick, no torn
    UTF-8.
    """
    spaced = "".join(" " if sign.isspace() else sign for sign in text)
    return "".join(sign for sign in spaced if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co"))


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, the last an ellipsis where something was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def number(value: float | None) -> str:
    """Four significant digits, thousands separated; "none" where there is no figure."""
    if value is None:
        return "none"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.4g}"


def moment(epoch_s: float) -> str:
    """UTC to the second; the bare number where no calendar reaches."""
    try:
        return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return f"{epoch_s:g} s after the epoch"


def duration(seconds: float) -> str:
    """The two largest units that matter."""
    whole = round(abs(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def what(signal: str, subject: str | None) -> str:
    return clean(f"{signal} of {subject}" if subject else signal)


def comparison(value: float | None, reference: float | None, n: int, floor: float | None) -> str:
    """Value against reference with the number of rows, and what noise alone could do."""
    noise = f"; noise alone reaches {number(floor)}" if floor is not None else ""
    if value is None:
        return f"no figure (n = {n:,}{noise})"
    against = f" against {number(reference)}" if reference is not None else ""
    return f"{number(value)}{against} (n = {n:,}{noise})"


def evidence_line(evidence: Evidence) -> str:
    parts = [f"{what(evidence.signal, evidence.subject)}: "]
    parts.append(comparison(evidence.value, evidence.reference, evidence.n, evidence.noise_floor))
    if evidence.threshold is not None:
        parts.append(f", threshold {number(evidence.threshold)}")
    if evidence.log10_p is not None:
        parts.append(
            f", p about 1e{evidence.log10_p:.0f}"
            if evidence.log10_p > LEAST_LOG10_P
            else f", p below 1e{LEAST_LOG10_P}"
        )
    if evidence.design_effect > 1.0:
        parts.append(f" with {number(evidence.design_effect)} rows worth one, as past spans vary")
    parts.append(f", over {duration(evidence.span_s)}, {clean(str(evidence.scope))}")
    if evidence.detail:
        parts.append(f": {clean(evidence.detail)}")
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Telling:
    """One alert, told: a headline, a summary, short facts by name, and lists. All of it clean, none of it escaped or
    cut.
    """

    headline: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    evidence: tuple[str, ...]
    changes: tuple[str, ...]
    advice: tuple[str, ...]
    footer: str


def scope_words(alert: Alert) -> str:
    share = alert.scope.share_of_traffic
    # "all traffic (100.0% of traffic)" says one thing twice.
    return clean(str(alert.scope)) + (f" ({share:.1%} of traffic)" if share is not None and share < 0.9995 else "")


def since_words(alert: Alert) -> str:
    age = alert.raised_at - alert.onset_at
    ago = f", {duration(age)} before this message" if age > 0 else ""
    between = ""
    if alert.onset_low is not None and alert.onset_high is not None and alert.onset_low < alert.onset_high:
        between = f" (between {_time(alert.onset_low, alert.onset_at)} and {_time(alert.onset_high, alert.onset_at)})"
    return f"{moment(alert.onset_at)}{ago}{between}"


def _time(epoch_s: float, beside: float) -> str:
    """The moment without its date where that is the other's."""
    said, other = moment(epoch_s), moment(beside)
    return said[11:19] if said[:11] == other[:11] and said.endswith("UTC") else said


def change_words(alert: Alert) -> tuple[str, ...]:
    """Changes that came before the onset, the nearest first: the likeliest cause."""
    lines = []
    for change in sorted(alert.changes_before, key=lambda each: -each.timestamp)[:CHANGES_SHOWN]:
        version = f" {change.version}" if change.version else ""
        gap = alert.onset_at - change.timestamp
        order = f"{duration(gap)} {'before' if gap >= 0 else 'after'} the onset"
        note = f": {change.note}" if change.note else ""
        lines.append(clean(f"{change.kind.replace('_', ' ')}{version} at {moment(change.timestamp)}, {order}{note}"))
    return tuple(lines)


def tell(alert: Alert) -> Telling:
    """The alert as a tired person should read it: how bad, which model, who, what, since when, how sure, why, what to
    do.
    """
    facts = [
        ("Model", clean(alert.model_id)),
        ("Affects", scope_words(alert)),
        ("What", what(alert.signal, alert.subject)),
        ("Value", comparison(alert.value, alert.reference, alert.n, alert.noise_floor)),
        ("Since", since_words(alert)),
    ]
    if alert.resolved_at is not None:
        lasted = duration(alert.resolved_at - alert.onset_at)
        facts.append(("Ended", f"{moment(alert.resolved_at)}, after {lasted}"))
    if alert.baseline == "learned":
        facts.append(("Reference", "learned from this model's own traffic: no training reference was given"))
    shown = alert.evidence[:EVIDENCE_SHOWN]
    lines = [evidence_line(each) for each in shown]
    if len(alert.evidence) > len(shown):
        lines.append(f"and {len(alert.evidence) - len(shown)} more signals")
    budget = f" · false-alarm budget: {clean(alert.false_alarm_budget)}" if alert.false_alarm_budget else ""
    return Telling(
        headline=f"{alert.severity.upper()} · {LIFE[alert.life]} · {clean(alert.title)}",
        summary=clean(alert.summary),
        facts=tuple(facts),
        evidence=tuple(lines),
        changes=change_words(alert),
        advice=tuple(clean(each) for each in alert.advice),
        footer=clean(f"incident {alert.incident_id} · alert {alert.alert_id}") + budget,
    )
