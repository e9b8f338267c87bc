"""A socket of the pump with an MQTT client: what its link is told of it."""

from __future__ import annotations

import socket

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.links.listening.door import Door
from broker.links.mqtt.connection import MqttConnection
from broker.links.mqtt.link import MqttLink
from broker.links.pump import READY_MAX, Pump
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Pingreq
from protocol.mqtt.v5.reasons import ReasonCode

CONNACK = b"\x20\x02\x00\x00"


def served() -> tuple[Pump, MqttConnection, socket.socket, list[MqttLink]]:
    """A connected client, its end, and the links that have ended."""
    ended: list[MqttLink] = []
    pump = Pump(Engine(), lambda link: None, ended.append)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    pump.add(theirs, door, "peer")
    ours.send(encode(Connect(b"c", True, 60)))
    pump.serve_round(pump.ready.poll(0, READY_MAX))
    assert ours.recv(100) == CONNACK
    (connection,) = pump._connections.values()
    assert isinstance(connection, MqttConnection)
    return pump, connection, ours, ended


def test_what_comes_is_answered_and_the_end_of_it_is_told() -> None:
    pump, connection, ours, ended = served()
    with ours:
        ours.send(encode(Pingreq()))
        pump.serve_round(pump.ready.poll(0, READY_MAX))
        assert ours.recv(100) == b"\xd0\x00"
        assert not ended
    pump.serve_round(pump.ready.poll(0, READY_MAX))
    assert ended == [connection.link]
    pump.close_all()


def test_a_pump_that_stops_says_so_to_the_link() -> None:
    pump, connection, ours, ended = served()
    with ours:
        pump.close_all()
        assert connection.link.code == ReasonCode.SERVER_SHUTTING_DOWN
        assert ended == [connection.link]
        assert ours.recv(100) == b""
