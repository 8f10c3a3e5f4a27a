"""The programs under `examples/`, run as their first lines say: what they publish is valid and its labels find their predictions."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from leadline.events import Label, Prediction
from leadline.partition import partition_of
from streams.embedded.mock_broker import MockBroker
from tests.leadline.kafka_log import read_all
from tests.patience import seconds

EXAMPLES = Path(__file__).parents[2] / "examples"
PARTITIONS, REQUESTS = 4, 200


@pytest.mark.parametrize("name", ["publish_with_leadline.py", "publish_without_leadline.py"])
def test_an_example_publishes_what_a_worker_joins_also_the_second_time(name: str) -> None:
    topics = {f"leadline.{topic}": PARTITIONS for topic in ("predictions", "labels", "changes")}
    with MockBroker(topics) as broker:
        for _ in range(2):
            command = [sys.executable, str(EXAMPLES / name), broker.bootstrap_servers, "--requests", str(REQUESTS)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(60), check=False)
            assert done.returncode == 0, done.stderr
        ids: dict[str, set[tuple[bytes, int]]] = {}
        for topic, kind in (("leadline.predictions", Prediction), ("leadline.labels", Label)):
            found = read_all(broker.bootstrap_servers, topic)
            events = [msgspec.json.decode(message.value, type=kind) for message in found]
            assert [event.request_id.encode() for event in events] == [message.key for message in found]
            assert all(abs(float(event.timestamp) - time.time()) < seconds(300) for event in events)
            assert all(partition_of(message.key, PARTITIONS) == message.partition for message in found)
            ids[topic] = {(message.key, message.partition) for message in found}
        assert ids["leadline.predictions"] == ids["leadline.labels"]
        assert len(ids["leadline.predictions"]) == 2 * REQUESTS


def test_the_example_says_what_was_lost_and_how_to_look_a_request_up() -> None:
    topics = {f"leadline.{topic}": PARTITIONS for topic in ("predictions", "labels", "changes")}
    with MockBroker(topics) as broker:
        options = ["--requests", "30", "--rate", "100", "--shift-after", "0.1"]
        command = [sys.executable, str(EXAMPLES / "publish_with_leadline.py"), broker.bootstrap_servers, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(60), check=True)
        last = done.stdout.split("leadline request ")[1].strip()
        assert "dropped={}" in done.stdout
        assert last.encode() in {message.key for message in read_all(broker.bootstrap_servers, "leadline.predictions")}
