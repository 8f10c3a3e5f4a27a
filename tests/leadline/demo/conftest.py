"""One trained model for all tests of the demo, and a service that needs no clock."""

from __future__ import annotations

import pytest

from leadline.demo.hospital import Service
from leadline.demo.model import Model, train


@pytest.fixture(scope="session")
def model() -> Model:
    return train()


@pytest.fixture
def service(model: Model) -> Service:
    return Service(model, began=1_800_000_000.0, rate=200)
