"""A bench on each backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.backend import Backend
from tests.sinks.bench import Bench


@pytest.fixture
def bench(backend: Backend, tmp_path: Path) -> Bench:
    return Bench(backend, tmp_path)
