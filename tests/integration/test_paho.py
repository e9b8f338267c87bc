"""paho-mqtt, over TCP and WebSocket: what a plain user of the library does."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from support.rowcast_process import RowcastProcess

WITHIN_S = 50.0


class PahoClient:
    """A client whose messages wait in `inbox` as (topic, payload, qos, retain)."""

    def __init__(self, rowcast: RowcastProcess, transport: Any, client_id: str = "", **more: Any) -> None:
        self.inbox: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self.connections: queue.Queue[tuple[int, bool]] = queue.Queue()
        self._subscribed: queue.Queue[list[int]] = queue.Queue()
        self._port = rowcast.port if transport == "tcp" else rowcast.websocket_port
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, transport=transport, **more
        )
        self.client.on_message = self._message
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._granted

    def _message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self.inbox.put((message.topic, bytes(message.payload), message.qos, message.retain))

    def _connected(self, client: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self.connections.put((reason.value, flags.session_present))

    def _granted(self, client: paho.Client, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        self._subscribed.put([reason.value for reason in reasons])

    def connect(self) -> tuple[int, bool]:
        """Return code and session present."""
        self.client.connect("127.0.0.1", self._port)
        self.client.loop_start()
        return self.connections.get(timeout=WITHIN_S)

    def subscribe(self, topic_filter: str, qos: int) -> list[int]:
        self.client.subscribe(topic_filter, qos)
        return self._subscribed.get(timeout=WITHIN_S)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos, retain).wait_for_publish(WITHIN_S)

    def hear(self) -> tuple[str, bytes, int, bool]:
        return self.inbox.get(timeout=WITHIN_S)

    def cut(self) -> None:
        """End the connection as a crash would."""
        raw: Any = self.client.socket()
        self.client.loop_stop()
        getattr(raw, "_socket", raw).shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


Make = Callable[..., PahoClient]


@pytest.fixture(params=["tcp", "websockets"])
def make(request: pytest.FixtureRequest, rowcast: RowcastProcess) -> Iterator[Make]:
    made: list[PahoClient] = []

    def make(client_id: str = "", **more: Any) -> PahoClient:
        made.append(PahoClient(rowcast, request.param, client_id, **more))
        return made[-1]

    yield make
    for client in made:
        client.leave()


def test_every_quality_of_service_in_both_directions(make: Make) -> None:
    client = make()
    assert client.connect() == (0, False)
    assert client.subscribe("both/#", 2) == [2]
    for qos in (0, 1, 2):
        client.publish(f"both/{qos}", b"hello", qos)
        assert client.hear() == (f"both/{qos}", b"hello", qos, False)


def test_a_message_of_a_million_bytes(make: Make) -> None:
    client, payload = make(), bytes(range(256)) * 4096
    client.connect()
    client.subscribe("large", 1)
    client.publish("large", payload, 1)
    assert client.hear() == ("large", payload, 1, False)


def test_a_retained_message_is_replayed_and_cleared(make: Make) -> None:
    publisher, early, late = make(), make(), make()
    publisher.connect()
    publisher.publish("kept", b"value", 1, retain=True)
    early.connect()
    early.subscribe("kept", 1)
    assert early.hear() == ("kept", b"value", 1, True)
    publisher.publish("kept", b"", 1, retain=True)
    assert early.hear() == ("kept", b"", 1, False)
    late.connect()
    late.subscribe("kept", 1)
    publisher.publish("kept", b"live", 1)
    assert late.hear() == ("kept", b"live", 1, False)


def test_a_will_goes_out_when_the_connection_is_cut(make: Make) -> None:
    watcher, mortal = make(), make()
    watcher.connect()
    watcher.subscribe("will", 2)
    mortal.client.will_set("will", b"gone", 2)
    mortal.connect()
    mortal.cut()
    assert watcher.hear() == ("will", b"gone", 2, False)


def test_a_session_goes_on_where_it_stopped(make: Make) -> None:
    publisher, client = make(), make("lasting", clean_session=False)
    publisher.connect()
    client.connect()
    client.subscribe("session/#", 2)
    client.leave()
    for qos in (0, 1, 2):
        publisher.publish(f"session/{qos}", b"while away", qos)
    again = make("lasting", clean_session=False)
    assert again.connect() == (0, True)
    assert again.hear() == ("session/1", b"while away", 1, False)
    assert again.hear() == ("session/2", b"while away", 2, False)
    again.leave()
    make("lasting", clean_session=True).connect()
