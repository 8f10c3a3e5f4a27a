"""The delivery process's settings, all in one frozen model: `DeliverSettings.model_validate(mapping)` or by keyword."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from sinks.base import Settings
from sinks.kafka import KafkaSettings
from sinks.record import AnyRecordConfig, FileRecordConfig
from sinks.registry import AnySinkConfig, check_names


class DeliverSettings(Settings):
    """Everything that `deliver` needs. At least one sink: without any, every alert would be done with as soon as it is
    read.
    """

    kafka: KafkaSettings
    sinks: tuple[AnySinkConfig, ...] = Field(min_length=1)
    record: AnyRecordConfig = FileRecordConfig()
    send_timeout_s: float = Field(default=60.0, gt=0, description="guard over one attempt")
    full_patience_s: float = Field(
        default=30.0, ge=0, description="how long, once an outage, a full queue may hold up the others"
    )
    drain_s: float = Field(default=1.0, ge=0, description="on SIGTERM: time for the attempts under way")

    @model_validator(mode="after")
    def _names(self) -> Self:
        check_names(self.sinks)
        return self
