"""What a worker shows in Redis: its stages' views, latest wins, and how it stands itself."""

from __future__ import annotations

import time

from streams.store.tables import StoreUnavailable, Tables, View
from streams.worker.life import Life
from streams.worker.owners import Owners
from streams.worker.shared import Shared
from streams.worker.status import EXPIRE_S, Rate, WorkerProgress, counted


class Display:
    """Writes after the commit, and outside of its promise."""

    def __init__(self, tables: Tables, shared: Shared, owners: Owners, life: Life) -> None:
        self._tables, self._shared, self._owners, self._life = tables, shared, owners, life
        self._started_at = time.time()
        self._rate = Rate()

    @property
    def _key(self) -> str:
        settings = self._shared.settings
        return f"{settings.key_prefix}:worker:{settings.worker_id}"

    def progress(self) -> WorkerProgress:
        """How far everything is, now. Callable from any coroutine of the loop."""
        settings, counters, relay = self._shared.settings, self._shared.counters, self._shared.relay
        return WorkerProgress(
            worker_id=settings.worker_id,
            group=settings.group,
            started_at=self._started_at,
            updated_at=time.time(),
            state=self._life.state,
            healthy=self._life.healthy,
            events_per_s=self._rate.see(time.monotonic(), counters.records),
            outbox_waiting=relay.waiting,
            outbox_sent=relay.sent,
            partitions=self._owners.standings(),
            **counted(counters),
        )

    async def show_status(self) -> None:
        """Renew the worker's hash; `StoreUnavailable` where that fails, and in the methods below."""
        await self._tables.show({self._key: self.progress().view()}, EXPIRE_S)

    async def show_views(self) -> None:
        """Write the views that have changed since the last time."""
        views: dict[str, View] = dict(self._shared.views)
        if not views:
            return
        self._shared.views.clear()
        try:
            await self._tables.show(views)
        except StoreUnavailable:
            for key, view in views.items():
                self._shared.views.setdefault(key, view)  # what came since is newer
            raise

    async def take_leave(self) -> None:
        """The last views; and no status, because there is no worker any more."""
        await self.show_views()
        await self._tables.show({self._key: None})
