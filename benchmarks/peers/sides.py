"""The sides of the comparison: what each one is, what it does and does not do, and how many events it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.peers import venvs


@dataclass(frozen=True, kw_only=True)
class Side:
    """One competitor. ``events`` is the most it is given (None: all); ``statistics`` is false for the bare ceilings."""

    name: str
    module: str
    variant: str
    does: str
    recovery: str
    events: int | None = None
    environment: venvs.Environment | None = None
    statistics: bool = True
    kind: Literal["leadline", "peer", "ceiling"] = "peer"


LEADLINE = Side(
    name="leadline",
    module="",
    variant="",
    does="whole job: checks, join, digests by pane, ten histograms, ADWINs, AUC; leadline run as it ships",
    recovery="exactly once: state, rows and offset in one Redis commit a batch",
    kind="leadline",
)
SIDES = (
    LEADLINE,
    Side(
        name="faust-dict",
        module="benchmarks.peers.plain_faust",
        variant="dict",
        does="@app.agent, one event at a time; join in a dict; the job",
        recovery="none: a crash loses the join and the counts",
        events=40_000,
    ),
    Side(
        name="faust-table",
        module="benchmarks.peers.plain_faust",
        variant="table",
        does="as faust-dict, join in a Faust Table with changelog",
        recovery="the join at least once; counts in memory",
        events=40_000,
    ),
    Side(
        name="quix-dict",
        module="benchmarks.peers.quix_streams",
        variant="dict",
        does="dataframe.update, one event at a time; join in a dict; the job",
        recovery="none: a crash loses the join and the counts",
        events=200_000,
        environment=venvs.QUIX,
    ),
    Side(
        name="quix-state",
        module="benchmarks.peers.quix_streams",
        variant="state",
        does="as quix-dict, join in Quix state (RocksDB, changelog, checkpoint every 5 s)",
        recovery="the join at least once; counts in memory",
        events=100_000,
        environment=venvs.QUIX,
    ),
    Side(
        name="bytewax-partition",
        module="benchmarks.peers.bytewax_flow",
        variant="partition",
        does="stateful_batch keyed by partition; join in a dict; the job",
        recovery="none: in memory, no recovery store",
        environment=venvs.BYTEWAX,
    ),
    Side(
        name="bytewax-join",
        module="benchmarks.peers.bytewax_flow",
        variant="join",
        does="op.join by request id, statistics keyed by model",
        recovery="none: in memory, no recovery store",
        events=400_000,
        environment=venvs.BYTEWAX,
    ),
    Side(
        name="ceiling-aiokafka",
        module="benchmarks.peers.ceiling",
        variant="aiokafka",
        does="fetch + msgspec decode only",
        recovery="-",
        statistics=False,
        kind="ceiling",
    ),
    Side(
        name="ceiling-confluent",
        module="benchmarks.peers.ceiling",
        variant="confluent",
        does="fetch + msgspec decode only",
        recovery="-",
        statistics=False,
        kind="ceiling",
    ),
)
