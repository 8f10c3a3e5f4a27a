"""The Faust app: one agent for each kind of owner, so that one coroutine alone touches a partition's state."""

from __future__ import annotations

from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.types import AppT, K, Message, StreamT, V
from mode import CrashingSupervisor
from yarl import URL

from streams.transport.intake import Fetched
from streams.transport.security import credentials
from streams.transport.settings import WorkerSettings
from streams.transport.transport import NAME, register
from streams.worker.owners import Owners

FOREVER_S = 315_360_000.0  # aiokafka fetches nothing here, and would leave the group for it


class Raw(faust.Schema[Any, Any]):
    """Nothing to decode: the transport's value is the batch itself."""

    def loads_key(self, app: AppT, message: Message, **_: Any) -> K:
        return message.key

    def loads_value(self, app: AppT, message: Message, **_: Any) -> V:
        return message.value


class Boot(BootStrategy):
    """No web server (it would listen on every interface) and no producer (the relay has one)."""

    enable_web = False
    enable_kafka_producer = False


class App(faust.App):
    """The app of one worker. `claims` is where the transport finds the owners."""

    BootStrategy = Boot
    claims: Owners

    def _create_directories(self) -> None: ...  # there is no table on disk


def build_app(settings: WorkerSettings, owners: Owners) -> App:
    """The app, its agents registered, nothing started."""
    register()
    app = App(
        settings.group,
        broker=[URL(f"{NAME}://{server.strip()}") for server in settings.bootstrap_servers.split(",")],
        broker_credentials=credentials(settings.kafka),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        broker_request_timeout=settings.claim_timeout_s + settings.session_timeout_s,  # Faust's limit for a claim, too
        broker_rebalance_timeout=max(30.0, settings.session_timeout_s),
        broker_max_poll_interval=FOREVER_S,
        broker_commit_interval=settings.mirror_s,
        broker_client_id=settings.worker_id,
        consumer_group_instance_id=settings.group_instance_id,
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=1,  # keeps Faust's own assignor, which puts equal partitions of all topics on one worker
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=1,  # a message is a batch of thousands
        stream_processing_timeout=settings.stall_s,
        stream_recovery_delay=0.0,
        agent_supervisor=CrashingSupervisor,
        processing_guarantee="at_least_once",
        web_enabled=False,
        autodiscover=False,
        loghandlers=[],
    )
    app.claims = owners
    for kind, topics in settings.topics.groups(settings.roles).items():
        channel = app.topic(*topics, schema=Raw(), acks=False)

        async def work(stream: StreamT[Fetched]) -> None:
            # What fails in a batch goes to `owners.fail` and stops the worker: Faust would acknowledge the batch and
            # start the agent again.
            async for fetched in stream:
                await owners.submit(fetched)

        app.agent(channel, name=kind, concurrency=1)(work)
    return app
