"""Learned baselines, shared: the judge that learns one shows it in Redis, and every other worker takes it from there."""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from leadline.config import Config
from streams.baselines.reference_book import ReferenceBook
from streams.baselines.stored_reference import load_reference
from streams.counting.features import BadReference
from streams.store.store import Store, open_store
from streams.store.tables import StoreError

log = logging.getLogger(__name__)

POLL_S = 5.0
SUFFIX = ":reference"


class LearnedBaselines:
    """Fills a book from `{prefix}:model:*:reference`, once at the start (whose errors it raises) and then every few seconds.

    `book.learn` only ever adds, and a model's first entry stands, so a thread beside the event loop does no harm.
    """

    def __init__(self, config: Config, book: ReferenceBook, *, poll_s: float = POLL_S) -> None:
        self._url = config.redis.url.get_secret_value()
        self._start = f"{config.redis.prefix}:model:"
        self._book = book
        self._poll_s = poll_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leadline-baselines", daemon=True)
        self._store: Store | None = None

    def poll(self) -> list[str]:
        """Ids of the models whose baseline was taken in. `StoreError` where Redis does not answer."""
        if self._store is None:
            self._store = open_store(self._url)
        taken = []
        for key in self._store.keys(f"{self._start}*{SUFFIX}"):
            model_id = key.removeprefix(self._start).removesuffix(SUFFIX)
            if not self._book.is_learning(model_id):
                continue
            text = self._store.text(key)
            if text is None:
                continue
            try:
                self._book.learn(model_id, load_reference(text, f"learned baseline of {model_id}"))
            except BadReference as error:
                log.warning("%s", error)
                continue
            taken.append(model_id)
        return taken

    def _watch(self) -> None:
        while not self._ended.wait(self._poll_s):
            try:
                taken = self.poll()
            except StoreError as error:
                log.debug("baselines not looked up: %s", error)  # the worker itself says that Redis is away
                continue
            if taken:
                log.info("learned baselines of %s taken over", ", ".join(taken))

    def __enter__(self) -> Self:
        self.poll()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self._poll_s)
        if self._store is not None:
            self._store.close()
