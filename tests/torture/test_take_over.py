"""`--take-over` again and again, under rows and messages of QoS 1: nothing is lost, and no port is ever closed."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from itertools import count, pairwise
from pathlib import Path

import psycopg
import pytest
from attrs import Factory, define
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from support.polling import until_blocking
from support.postgres import cluster, database
from support.rowcast_process import RowcastProcess
from torture.followers import Crowd
from torture.rolling import Writing, judge

from broker.cli.main import main

__all__ = ["cluster", "database"]

SETTINGS = """
[broker]
control_socket = "control"
drain = "2s"
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast"]
[security]
allow_anonymous = true
[websocket.rowcast]
anonymous_subscribe = ["row/#"]
[[history]]
topics = ["row/#"]
[persistence]
persistence = true
persistence_location = "."
[database]
dsn = "{dsn}"
kind = "wal"
[database.replication]
allow_unbounded_wal = true
[source.rows]
tables = ["public.item"]
[[mqtt.route]]
from = "rows"
topics = "row/{topic}"
qos = 1
"""
SAID = "said/x"
"""Paho sends one or the other message out of order when it connects again."""
TIMES = 3
READERS = 100
CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04ada1"


@define
class Hearing:
    """What a subscriber of QoS 1 has got, in the order of first sight; it may get a message a second time."""

    seen: dict[str, dict[int, None]] = Factory(dict)

    def take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        text = message.payload.decode()
        number = int(text.rpartition(":")[2].strip(" }"))
        self.seen.setdefault(message.topic, {}).setdefault(number)

    def faults(self, said: int, written: Writing) -> list[str]:
        """What is missing or out of order, in words."""
        wanted = {SAID: said} | {f"row/{topic}": written.of(topic) for topic in range(written.topics)}
        faults = []
        for topic, last in wanted.items():
            seen = list(self.seen.get(topic, ()))
            if lacking := sorted(set(range(1, last + 1)) - set(seen)):
                faults.append(f"{topic}: {lacking} of {last} are missing")
            elif topic != SAID and (late := [after for before, after in pairwise(seen) if after < before]):
                faults.append(f"{topic}: {late} came late")
        return faults


class Knocking(threading.Thread):
    """Connects to the ports again and again."""

    def __init__(self, *ports: int) -> None:
        super().__init__(daemon=True)
        self.ports, self.refused, self.made = ports, 0, 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.005):
            for port in self.ports:
                try:
                    with socket.create_connection(("127.0.0.1", port), 60) as sock:
                        sock.sendall(CONNECT)
                        self.made += 1
                except ConnectionRefusedError:
                    self.refused += 1
                except OSError:
                    pass  # it was accepted, and has ended with its process


class Saying(threading.Thread):
    """Publishes one number after the other at QoS 1."""

    def __init__(self, client: paho.Client) -> None:
        super().__init__(daemon=True)
        self.client, self.said = client, 0
        self.is_over = threading.Event()

    def run(self) -> None:
        for number in count(1):
            if self.is_over.wait(0.01):
                return
            self.client.publish(SAID, b": %d" % number, 1)
            self.said = number


def connected(name: str, port: int, stack: ExitStack) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=False)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    stack.callback(client.loop_stop)
    until_blocking(client.is_connected, 30)
    return client


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_taking_over_again_and_again_loses_nothing(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE item (topic int, number int, PRIMARY KEY (topic, number))")
    process = RowcastProcess.from_toml(tmp_path, SETTINGS.replace("{dsn}", database))
    assert main(["feed", "install", "-c", str(process.config), "--apply"]) == 0
    hearing = Hearing()
    with ExitStack() as stack:
        stack.enter_context(process)
        crowd = Crowd(process.websocket_port, READERS)
        stack.callback(crowd.close)
        hears, says = (connected(name, process.port, stack) for name in ("hears", "says"))
        hears.on_message = hearing.take
        hears.subscribe([("said/#", 1), ("row/#", 1)])
        crowd.until(crowd.all_follow)
        knocking = Knocking(process.port, process.websocket_port)
        writing, saying = Writing(database, crowd.topics, 100), Saying(says)
        for thread in (knocking, writing, saying):
            thread.start()
        for turn in range(1, TIMES + 1):
            goal = turn * 150
            crowd.until(lambda goal=goal: min(writing.written, saying.said) > goal)  # type: ignore[misc]
            old, process = process, process.successor()
            beginning = threading.Thread(target=stack.enter_context, args=(process,))
            beginning.start()
            crowd.until(lambda beginning=beginning: not beginning.is_alive())  # type: ignore[misc]
            assert old.wait(60) == 0, old.lines
            crowd.until(lambda turn=turn: crowd.tally.moved == turn * READERS and crowd.all_follow())  # type: ignore[misc]
        saying.is_over.set()
        writing.is_over = True
        for thread in (saying, writing):
            thread.join()

        def missing() -> list[str]:
            return judge(crowd, writing) + hearing.faults(saying.said, writing)

        with suppress(AssertionError):  # and it is said below what is missing
            crowd.until(lambda: not missing(), 60)
        knocking.is_over.set()
        knocking.join()
    assert missing() == []
    assert crowd.tally.unrecovered == 0
    assert (knocking.refused, knocking.made > 100) == (0, True)
