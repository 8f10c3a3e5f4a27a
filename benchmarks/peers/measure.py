"""What one run found, and the check that it counted right."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.sides import Side

CHECKED = ("predictions", "labels", "joined", "bins", "positives", "negatives", "windowed")


class WrongCount(AssertionError):
    """A side counted something else than the load contains; its speed means nothing."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One side, once. ``one_in`` is the ADWIN sample (1 = all values, 10 = a tenth).

    ``timed_events`` are those counted while the clock ran: all of them, or fewer where the clock is read from outside.
    ``observed_seconds``: Leadline only, until all events were counted and committed, the judges not yet through.
    """

    side: Side
    one_in: int
    events: int
    timed_events: int
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    joined: int | None
    checked: tuple[str, ...]
    observed_seconds: float | None = None

    @property
    def observed_rate(self) -> float | None:
        """Events per second of the observers alone."""
        return None if self.observed_seconds is None else self.timed_events / self.observed_seconds

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.timed_events / self.seconds

    @property
    def cpu_us_per_event(self) -> float:
        """Microseconds of CPU, all threads, per event."""
        return self.cpu_seconds / self.timed_events * 1e6


def checked_run(side: Side, one_in: int, result: dict[str, Any], expected: dict[str, Any]) -> Run:
    """Compare every count that the side reports with the load's own. Raises WrongCount."""
    compared = tuple(name for name in CHECKED if name in result)
    needed = {"joined"} if side.statistics else {"predictions", "labels"}
    if not needed <= set(compared):
        raise WrongCount(f"{side.name} reported {compared}, without {sorted(needed - set(compared))}")
    for name in compared:
        if result[name] != expected[name]:
            raise WrongCount(f"{side.name}: {name} = {_short(result[name])}, the load has {_short(expected[name])}")
    return Run(
        side=side,
        one_in=one_in,
        events=result["events"],
        timed_events=result.get("timed_events", result["events"]),
        seconds=result["seconds"],
        cpu_seconds=result["cpu_seconds"],
        peak_rss_mb=result["peak_rss_mb"],
        joined=result.get("joined"),
        checked=compared,
        observed_seconds=result.get("observed_seconds"),
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:120] + "..."


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The median of one side's runs in one ADWIN mode."""

    side: Side
    one_in: int
    events: int
    runs: int
    rate: float
    slowest: float
    fastest: float
    cpu_us_per_event: float
    peak_rss_mb: float
    joined: int | None
    observed_rate: float | None


def figures(runs: list[Run]) -> list[Figure]:
    """Medians per (side, ADWIN mode), in order of first appearance."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.side.name, run.one_in), []).append(run)
    return [
        Figure(
            side=group[0].side,
            one_in=group[0].one_in,
            events=group[0].events,
            runs=len(group),
            rate=statistics.median(run.rate for run in group),
            slowest=min(run.rate for run in group),
            fastest=max(run.rate for run in group),
            cpu_us_per_event=statistics.median(run.cpu_us_per_event for run in group),
            peak_rss_mb=max(run.peak_rss_mb for run in group),
            joined=group[0].joined,
            observed_rate=_median([run.observed_rate for run in group if run.observed_rate is not None]),
        )
        for group in groups.values()
    ]


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def leadline_ratio(figure: Figure, found: list[Figure]) -> float | None:
    """How many times as fast Leadline is in the same ADWIN mode; None without a Leadline figure.

    A ceiling feeds no ADWIN, so it is compared with Leadline's all-values figure.
    """
    ours = [f for f in found if f.side.kind == "leadline" and f.one_in == figure.one_in]
    return ours[0].rate / figure.rate if ours else None
