"""`python -m tests.real up | down | status`: what `make kafka-up` and `make kafka-down` run.

`up` starts Apache Kafka and Redis in `.kafka/`, leaves them running, and writes their addresses to `.kafka/env`, for a
shell (`. .kafka/env`) and for the test fixtures. `up` twice is the same as once. `down` stops both and removes
`.kafka/env`; the jars stay.
"""

import argparse
import shutil
import sys

from tests.real.environment import CACHE, RUNNING, Addresses
from tests.real.kafka import KafkaServer
from tests.real.maven import KAFKA_VERSION
from tests.real.process import NotReady, PartMissing
from tests.real.redis_server import RealRedis, newest_on_path


def servers(kafka_port: int | None = None, redis_port: int | None = None) -> tuple[KafkaServer, RealRedis]:
    known = Addresses.read()
    if known is not None:
        kafka_port, redis_port = kafka_port or known.kafka_port, redis_port or known.redis_port
    return (
        KafkaServer(RUNNING, CACHE, port=kafka_port, detached=True),
        RealRedis(RUNNING, port=redis_port, detached=True),
    )


def up(kafka_port: int | None, redis_port: int | None) -> None:
    kafka, redis = servers(kafka_port, redis_port)
    if Addresses.read() is None:
        down()  # left over from an `up` that was cut off: its ports are unknown
        shutil.rmtree(RUNNING, ignore_errors=True)
    RUNNING.mkdir(parents=True, exist_ok=True)
    binary = newest_on_path()  # before the slower half
    try:
        kafka.start()
        redis.start()
    except BaseException:
        kafka.stop()
        redis.stop()
        raise
    addresses = Addresses(kafka.bootstrap_servers, redis.redis_url)
    addresses.write()
    version = ".".join(map(str, binary.version))
    print(f"Apache Kafka {KAFKA_VERSION} on {addresses.bootstrap_servers}, Redis {version} on {addresses.redis_url}")


def down() -> None:
    for server in servers():
        server.stop()
    Addresses.remove()
    shutil.rmtree(RUNNING, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--kafka-port", type=int)
    parser.add_argument("--redis-port", type=int)
    options = parser.parse_args()
    try:
        if options.command == "up":
            up(options.kafka_port, options.redis_port)
        elif options.command == "down":
            down()
        else:
            addresses = Addresses.read_live()
            print(addresses or "not up")
            return 0 if addresses else 1
    except (NotReady, PartMissing) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
