"""The whole life of a worker's process: signals, the watchdog, the exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal

from streams.core.stage import StageFactory
from streams.store.tables import Tables
from streams.transport.beginning import GapHook, no_alert
from streams.transport.settings import WorkerSettings
from streams.worker.shared import KeyHook, no_key_alert
from streams.worker.watchdog import EXIT_FAILED, Progress, Watchdog
from streams.worker.worker import Worker

log = logging.getLogger(__name__)


def run_worker(
    settings: WorkerSettings,
    observe: StageFactory,
    judge: StageFactory,
    *,
    on_gap: GapHook = no_alert,
    on_keys: KeyHook = no_key_alert,
    tables: Tables | None = None,
) -> int:
    """Until SIGTERM or SIGINT (0), or until something makes it stop (1, the reason logged).

    Where stopping itself hangs the watchdog ends the process, after `settings.stop_s`: with 1 and the reason if there is one, else with 71.
    """
    # Batches are many short-lived tuples without cycles: the collector's default pace costs a fifth of the fetch.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    watchdog = Watchdog(Progress(settings.stall_s), settings.stop_s)
    watchdog.start()

    async def main() -> None:
        worker = Worker(settings, observe, judge, tables=tables, on_gap=on_gap, on_keys=on_keys, watchdog=watchdog)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        await worker.run()

    try:
        asyncio.run(main())
    except Exception as error:
        log.critical("worker %s ends: %s: %s", settings.worker_id, type(error).__name__, error, exc_info=error)
        return EXIT_FAILED
    finally:
        watchdog.close()
    return 0
