"""The publisher at the edges of a process: import, fork, exit. Each test runs a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from streams.embedded.mock_broker import MockBroker
from tests.leadline.kafka_log import read_all
from tests.patience import seconds

NOBODY = "127.0.0.1:1"
PREAMBLE = """
import multiprocessing, os, sys
from leadline import Publisher

def predict(publisher, name, n):
    for i in range(n):
        assert publisher.predict(request_id=f"{name}-{i}", model_id="m", model_version="1", score=0.5)
"""


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker({"leadline.predictions": 4}) as running:
        yield running


def run(program: str, *arguments: str, timeout_s: float = 60.0, status: int = 0) -> str:
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        PREAMBLE + textwrap.dedent(program),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=os.getcwd(), check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


def published(broker: MockBroker) -> list[str]:
    return sorted(message.key.decode() for message in read_all(broker.bootstrap_servers, "leadline.predictions"))


def names(name: str, n: int) -> list[str]:
    return [f"{name}-{i}" for i in range(n)]


def test_importing_the_publisher_is_quick_and_brings_nothing_heavy() -> None:
    program = """
    import sys, time
    began = time.process_time()
    from leadline import Publisher
    took = time.process_time() - began
    heavy = {"faust", "numpy", "pydantic", "msgspec", "confluent_kafka", "scipy", "redis", "asyncio"} & set(sys.modules)
    assert not heavy, heavy
    Publisher("127.0.0.1:1")
    assert "confluent_kafka" not in sys.modules and "faust" not in sys.modules
    print(took)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(times) < 0.1


def test_a_program_that_just_ends_has_published_everything(broker: MockBroker) -> None:
    run("predict(Publisher(sys.argv[1]), 'r', 1000)", broker.bootstrap_servers)
    assert published(broker) == sorted(names("r", 1000))


def test_a_program_that_ends_with_an_error_has_published_everything(broker: MockBroker) -> None:
    program = """
    predict(Publisher(sys.argv[1]), 'r', 100)
    raise RuntimeError("the service fell over")
    """
    run(program, broker.bootstrap_servers, status=1)
    assert len(published(broker)) == 100


def test_with_the_broker_away_a_program_ends_within_its_bound() -> None:
    began = time.monotonic()
    run("predict(Publisher(sys.argv[1], exit_timeout_s=1), 'r', 100)", NOBODY, timeout_s=30)
    assert time.monotonic() - began < seconds(5)  # of which one second is the flush, the rest Python and a busy machine


def test_forked_servers_publish_each_their_own(broker: MockBroker) -> None:
    program = """
    publisher = Publisher(sys.argv[1])
    predict(publisher, "first", 1)
    publisher.flush()  # connected: a fork while glibc resolves a name leaves the child with a lock that nobody frees
    predict(publisher, "parent", 50)  # some of it still in memory when the children begin
    children = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            assert publisher.stats.accepted == 0
            predict(publisher, f"child{child}", 50)
            sys.exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    predict(publisher, "later", 50)
    publisher.close()
    assert publisher.stats.delivered == 101, publisher.stats
    """
    run(program, broker.bootstrap_servers)
    expected = [name for part in ("parent", "child0", "child1", "child2", "later") for name in names(part, 50)]
    assert published(broker) == sorted(expected + names("first", 1))


def test_a_server_that_forks_before_it_publishes_needs_nothing_special(broker: MockBroker) -> None:
    program = """
    publisher = Publisher(sys.argv[1])
    pid = os.fork()
    predict(publisher, "child" if pid == 0 else "parent", 50)
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    run(program, broker.bootstrap_servers)
    assert published(broker) == sorted(names("child", 50) + names("parent", 50))


def test_children_of_multiprocessing_flush_though_atexit_does_not_run_there(broker: MockBroker) -> None:
    program = """
    publisher = Publisher(sys.argv[1])
    predict(publisher, "parent", 50)
    publisher.flush()  # connected, see above
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=predict, args=(publisher, f"child{n}", 50)) for n in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    """
    run(program, broker.bootstrap_servers)
    assert published(broker) == sorted(names("parent", 50) + names("child0", 50) + names("child1", 50))
