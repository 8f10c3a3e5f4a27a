"""A world of two workers without processes, Kafka or Redis: the real owners, cores, chain and tables, every fault a function call.

One source partition and one partition of digests. The log is a list, the store is in memory and can be taken back, and
whatever a worker has committed is noted beside the state, so that it goes back with it: which offsets of which topic,
in which order.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from streams.baselines.reference_book import ReferenceBook
from streams.core.records import Records
from streams.core.stage import Record
from streams.counting.layout import JOIN_SLOTS
from streams.observe.partition_state import Checkpoint
from streams.store.lines import write_line
from streams.store.tables import Change, Kind, Outcome, Outgoing, Owner, StoreUnavailable
from streams.store.tables_memory import MemoryTables
from streams.transport.chain import Chain, Part, Place
from streams.transport.settings import WorkerSettings
from streams.worker.factories import JudgeFactory, ObserveFactory
from streams.worker.owner import Work
from streams.worker.shared import Shared
from tests.faults.cohort_rows import live_entries
from tests.streams.history import Event, Oracle, configuration, reference

KNOWN = reference()
CONFIG = configuration()
SETTINGS = WorkerSettings(bootstrap_servers="", redis_url="")
TOPICS = SETTINGS.topics
GROUPS = TOPICS.groups(SETTINGS.roles)
KINDS: tuple[Kind, ...] = ("observe", "judge")
FETCH = 1_000_000


class Store(MemoryTables):
    """Memory tables that lose an answer on demand, and go back in time."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: dict[Owner, list[tuple[str, int, int]]] = defaultdict(list)
        self.lose: str = ""
        self._kept: list[Any] = []

    async def commit(self, owner: Owner, change: Change) -> Outcome:
        lose, self.lose = self.lose, ""
        if lose == "commit":
            raise StoreUnavailable("gone before it came")
        outcome = await super().commit(owner, change)
        if outcome is Outcome.COMMITTED:
            for topic, end in change.offsets.items():
                begin = change.expected[topic]
                if begin is not None and end > begin:
                    self.counted[owner].append((topic, begin, end))
        if lose == "answer":
            raise StoreUnavailable("gone before it answered")
        return outcome

    def keep(self) -> None:
        """What is on its disk now."""
        self._kept.append(copy.deepcopy((self._owners, self.counted)))

    def back(self, which: int) -> None:
        """Restarted, or failed over, with what was kept."""
        if self._kept:
            which %= len(self._kept)
            self._owners, self.counted = copy.deepcopy(self._kept[which])
            del self._kept[which + 1 :]  # what came after it was never there


class Broker:
    """Topics as lists."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Record]] = defaultdict(list)

    def append(self, topic: str, key: bytes, value: bytes, line: bytes | None = None) -> None:
        log = self.logs[topic]
        log.append(Record(len(log), key, value, 1e10, line))


class Lanes:
    """`streams.transport.intake.Intake` of one worker, fetching when it is told, with records lost on the way when it is told."""

    def __init__(self, broker: Broker) -> None:
        self.chain = Chain()
        self._broker = broker
        self._asked: set[Place] = set()
        self._now = 0.0

    async def bounds(self, place: Place) -> tuple[int, int]:
        return 0, len(self._broker.logs[place.topic])

    async def committed(self, places: Sequence[Place]) -> dict[Place, int]:
        return {}

    async def go_back(self, positions: Mapping[Place, int]) -> None:
        self.chain.place(positions)

    def take(self, topics: Sequence[str], count: int, lost: frozenset[int] = frozenset()) -> tuple[Part, ...]:
        """Fetch and hand over. `lost` (places in the fetch) never arrive; asked again, the log shows them."""
        self._now += 1000.0  # so that no lane is trusted for what it showed before
        for topic in topics:
            place = Place(topic, 0)
            lane = self.chain.lanes.get(place)
            if lane is None:
                continue
            fetched = self._broker.logs[topic][lane.upto : lane.upto + count]
            if place not in self._asked:
                fetched = [record for at, record in enumerate(fetched) if at not in lost]
            self._asked.discard(place)
            if not self.chain.arrive(place, Records.of(fetched), self._now):
                self._asked.add(place)
        lanes = [self.chain.lanes[Place(topic, 0)] for topic in topics if Place(topic, 0) in self.chain.lanes]
        return tuple(lane.take(count) for lane in lanes if lane.records)


class Sender:
    """`streams.worker.outbox.Relay` of one worker: what is not sent yet, and confirmations that the store has not heard of."""

    def __init__(self) -> None:
        self.queue: list[tuple[Owner, Outgoing]] = []
        self.confirmed: list[tuple[Owner, tuple[int, str]]] = []

    def submit(self, owner: Owner, messages: Sequence[Outgoing]) -> None:
        self.queue += [(owner, message) for message in messages]

    def owed(self, owner: Owner) -> int:
        return sum(whose == owner for whose, _ in (*self.queue, *self.confirmed))

    async def room(self) -> None: ...


class Worker:
    """The owners of one process, and parts that it has in hand."""

    def __init__(self, world: World) -> None:
        self.lanes, self.sender = Lanes(world.broker), Sender()
        factories = {"observe": ObserveFactory(CONFIG, world.book, 1), "judge": JudgeFactory(CONFIG, world.book)}
        shared = Shared(SETTINGS, world.store, cast(Any, self.sender), cast(Any, self.lanes), cast(Any, factories))
        self.works = {kind: Work(Owner(kind, 0), GROUPS[kind], shared) for kind in KINDS}
        self.late: list[tuple[Kind, tuple[Part, ...]]] = []


class World:
    """Everything. Each method is one step; `check` holds after any of them, `settle` ends with all counted."""

    def __init__(self) -> None:
        self.book = ReferenceBook(CONFIG, {"m": KNOWN})
        self.store, self.broker = Store(), Broker()
        self.events: dict[str, list[Event]] = {TOPICS.predictions: [], TOPICS.labels: []}
        self.workers = [Worker(self), Worker(self)]

    def publish(self, event: Event) -> None:
        topic = TOPICS.predictions if event.source == "predictions" else TOPICS.labels
        record = event.record(0)
        self.events[topic].append(event)
        self.broker.append(topic, record.key or b"", record.value or b"")

    async def claim(self, number: int, kind: Kind) -> None:
        worker = self.workers[number]
        await worker.lanes.go_back(await worker.works[kind].claim())

    async def work(
        self, number: int, kind: Kind, count: int, *, lost: frozenset[int] = frozenset(), fate: str = "", lose: str = ""
    ) -> None:
        """One batch. `fate`: thrown (away on its way to the owner), late (it comes after others), twice, or none."""
        worker = self.workers[number]
        parts = worker.lanes.take(GROUPS[kind], count, lost)
        if not parts or fate == "thrown":
            return
        if fate == "late":
            worker.late.append((kind, parts))
            return
        self.store.lose = lose
        await worker.works[kind].process(parts)
        self.store.lose = ""
        if fate == "twice":
            await worker.works[kind].process(parts)

    async def come_late(self, number: int) -> None:
        worker = self.workers[number]
        if worker.late:
            kind, parts = worker.late.pop(0)
            await worker.works[kind].process(parts)

    async def send(self, number: int, count: int, told: str) -> None:
        """Kafka has confirmed that many messages. The store is `told` at once, late (`tell`), or never."""
        worker = self.workers[number]
        sent, worker.sender.queue = worker.sender.queue[:count], worker.sender.queue[count:]
        for owner, message in sent:
            send = message.send
            self.broker.append(send.topic, send.key, send.value, write_line(owner, message))
            if told != "never":
                worker.sender.confirmed.append((owner, (message.sequence, message.line)))
        if told == "at once":
            await self.tell(number)

    async def tell(self, number: int) -> None:
        """Confirmations come to the store, which may be another one by now."""
        sender = self.workers[number].sender
        confirmed, sender.confirmed = sender.confirmed, []
        for owner, message in confirmed:
            await self.store.acknowledge(owner, [message])

    def crash(self, number: int) -> None:
        """kill -9, and a new process."""
        self.workers[number] = Worker(self)

    async def settle(self, number: int) -> None:
        """One worker has everything and nothing fails any more: all is read, sent and judged."""
        for kind in KINDS:
            await self.claim(number, kind)
        for _ in range(1000):
            for kind in KINDS:
                await self.work(number, kind, FETCH)
            await self.send(number, FETCH, "at once")
            if self._settled(number):
                return
        raise AssertionError("it does not settle")

    def _settled(self, number: int) -> bool:
        stood = {kind: self.store._state(Owner(kind, 0)).offsets for kind in KINDS}
        return not self.workers[number].sender.queue and all(
            stood[kind].get(topic) == len(self.broker.logs[topic]) for kind in KINDS for topic in GROUPS[kind]
        )

    # What must hold

    def oracle(self) -> Oracle:
        """A dictionary that has read what the store says is counted, in that order."""
        stood: Counter[str] = Counter()
        read: list[Event] = []
        for topic, begin, end in self.store.counted[Owner("observe", 0)]:
            assert begin == stood[topic], f"{topic}: [{begin}, {end}) counted after {stood[topic]}"
            read += self.events[topic][begin:end]
            stood[topic] = end
        return Oracle(KNOWN).read(read)

    def check(self) -> None:
        """What the store holds of the observer is what a dictionary says of the same events."""
        packed = self.store._state(Owner("observe", 0)).checkpoint
        counts = msgspec.msgpack.decode(packed, type=Checkpoint).counts if packed else {}
        _assert_same(counts, self.oracle().counts)

    def check_settled(self) -> None:
        """Every event once, in the observer's counts and through digests in the judge's."""
        self.check()
        oracle = self.oracle()
        read = Counter(
            {
                topic: max((e for t, _, e in self.store.counted[Owner("observe", 0)] if t == topic), default=0)
                for topic in self.events
            }
        )
        assert read == Counter({topic: len(events) for topic, events in self.events.items()})
        expected: Counter[str] = Counter()
        for (_, _, stage, segment), slots in oracle.slots.items():
            if stage == "live" and segment is None:
                expected.update({name: int(slots[name]) for name in ("rows", *JOIN_SLOTS)})
        _assert_same(self.judged(), expected)

    def judged(self) -> Counter[str]:
        """The judge's cohort rows of all live traffic."""
        layout = self.book.get("m").layout
        total = np.zeros(layout.size)
        for _, slots, values in live_entries(self.store._state(Owner("judge", 0)).tables):
            np.add.at(total, slots, values)
        return Counter({name: int(layout.one(total, name)) for name in ("rows", *JOIN_SLOTS)})


def _assert_same(found: Mapping[str, int], expected: Mapping[str, int]) -> None:
    names = found.keys() | expected.keys()
    differences = {name: (found.get(name, 0), expected.get(name, 0)) for name in names}
    differences = {name: (got, should) for name, (got, should) in sorted(differences.items()) if got != should}
    assert not differences, f"is, should be: {differences}"
