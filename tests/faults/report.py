"""The table in `docs/reliability.md`, between its markers, from the results of the long form."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
KILLS = ("kill", "kill_static", "kill_all")
REDIS_RESTARTS = ("redis_restart", "redis_lossy_restart")
BROKER_FAULTS = ("outage", "errors", "slow")
REBALANCES = {"kill": 1, "kill_all": 1, "term": 1, "add": 1, "zombie": 2}  # at least, for each fault


def write(results: Path, document: Path, command: str) -> None:
    """Put the table of these results between the markers; what stands around them is kept."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    text = document.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{table(rows, command)}{END}{after}")


def table(rows: Sequence[dict[str, Any]], command: str) -> str:
    """Markdown: a column for each backend and kind of store."""
    columns: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        name = "Apache Kafka, Redis" if row["backend"] == "kafka" else "mock broker, wheel Redis"
        if row["verdict"]["lossy"]:
            name += " that goes back in time"
        columns.setdefault(name, []).append(row)
    if len(columns) > 1:
        columns["together"] = list(rows)
    figures = {name: _figures(of_column) for name, of_column in columns.items()}
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    kinds = next(iter(figures.values()))
    lines += [f"| {what} | {' | '.join(shown[what] for shown in figures.values())} |" for what in kinds]
    dates = sorted({row["date"] for row in rows})
    return "\n".join([f"`{command}`, {', '.join(dates)}", "", *lines, ""])


def aims(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What a campaign must have done, as a line each: what, how often, of how many."""
    done: Counter[str] = Counter()
    for row in rows:
        done.update(row["done"])
    reached = {
        "kills": (_sum(done, KILLS), 100),
        "rebalances": (sum(done[name] * weight for name, weight in REBALANCES.items()), 50),
        "Redis restarts": (_sum(done, REDIS_RESTARTS), 20),
        "broker faults": (_sum(done, BROKER_FAULTS), 50),
    }
    return [f"{what} {count}/{aim}" for what, (count, aim) in reached.items()]


def _sum(done: Counter[str], names: Sequence[str]) -> int:
    return sum(done[name] for name in names)


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    done: Counter[str] = Counter()
    for row in rows:
        done.update(row["done"])
    verdicts = [row["verdict"] for row in rows]

    def total(name: str) -> str:
        return f"{sum(verdict[name] for verdict in verdicts):,}"

    def spread(name: str) -> str:
        values = sorted(value for row in rows for value in row[name])
        return f"{values[len(values) // 2]:.1f} s, at most {values[-1]:.1f} s (n = {len(values)})" if values else "–"

    return {
        "episodes (seeds)": f"{len(rows)} ({', '.join(str(row['seed']) for row in rows)})",
        "minutes": f"{sum(row['seconds'] for row in rows) / 60:.0f}",
        "workers killed (kill -9)": str(_sum(done, KILLS)),
        "workers stopped (SIGTERM)": str(done["term"]),
        "workers paused past their session": str(done["zombie"]),
        "rebalances forced, at least": str(sum(done[name] * weight for name, weight in REBALANCES.items())),
        "Redis killed and restarted": str(_sum(done, REDIS_RESTARTS)),
        "of these with its last moments lost": str(done["redis_lossy_restart"]),
        "Redis failed over to a replica that lagged": str(done["redis_fail_over"]),
        "connections to Redis cut, or slowed down": str(done["redis_cut"] + done["redis_slow"]),
        "broker away (Kafka: kill -9 and restart)": str(done["outage"]),
        "broker errors or cut connections": str(done["errors"]),
        "network of the broker slowed down": str(done["slow"]),
        "events in the log": total("events"),
        "events in aborted transactions": f"{sum(row['aborted'] for row in rows):,}",
        "**lost**": total("lost"),
        "**counted twice**": total("doubled"),
        "other differences": f"{sum(len(verdict['faults']) for verdict in verdicts)}",
        "rejected events, each reported": total("rejected"),
        "alerts (sent again under the same id)": f"{total('alerts')} ({total('alerts_repeated')})",
        "commits refused (of these by the fence)": f"{sum(r['refused'] for r in rows)} ({sum(r['fenced'] for r in rows)})",
        "takeover after kill -9, group at rest (session timeout 6 s; aim 9 s)": spread("after_kill"),
        "takeover after SIGTERM, group at rest (aim 3 s)": spread("after_term"),
        "SIGTERM to end of process": spread("to_stop"),
    }
