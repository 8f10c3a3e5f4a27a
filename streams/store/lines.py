"""Which digests still count after the store went back in time.

Redis that lost its last second, or failed over to a replica that lagged, takes state and offsets of all owners back
together. What an observer had sent in that second is in Kafka all the same: it will be counted anew, in batches cut
otherwise, under the same sequence numbers. A judge that merged both, or the first and skipped the second, would count
wrongly. So every message names the commit that sent it (fence and sequence of its owner, the *line*), each commit
leaves its line in the store, and a judge takes only digests whose commit the store still knows.

It never takes one too few: a message is sent after its commit, so a line that the store does not know was lost by it.
"""

from __future__ import annotations

from collections import defaultdict

from streams.core.records import Records
from streams.store.tables import Outgoing, Owner, Tables

LINE_HEADER = "leadline-line"


def write_line(owner: Owner, message: Outgoing) -> bytes:
    """The header of a message: owner, fence, sequence."""
    return f"{owner.kind} {owner.partition} {message.line} {message.sequence}".encode()


def read_line(text: bytes) -> tuple[Owner, str, int] | None:
    """None for what no outbox has written."""
    try:
        kind, partition, fence, sequence = text.decode().split(" ")
        return Owner("observe" if kind == "observe" else "judge", int(partition)), fence, int(sequence)
    except ValueError:
        return None


async def still_known(tables: Tables, records: Records) -> Records:
    """The records without those whose commit the store has lost. A record without a line is none of ours, and stays."""
    if records.lines is None:
        return records
    read = [read_line(line) if line else None for line in records.lines]
    fences: dict[Owner, set[str]] = defaultdict(set)
    for line in read:
        if line is not None:
            fences[line[0]].add(line[1])
    known = {owner: await tables.lines(owner, sorted(wanted)) for owner, wanted in fences.items()}
    kept = [at for at, line in enumerate(read) if line is None or line[2] <= known[line[0]].get(line[1], 0)]
    return records if len(kept) == len(records) else records.pick(kept)
