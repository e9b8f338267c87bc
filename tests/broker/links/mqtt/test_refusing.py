"""Who may not come in is told why in its own version, counted by reason, and closed."""

from __future__ import annotations

import logging

import pytest
from support.peer import OPEN_DOOR, Peer

from broker.config.model import Limits
from broker.core.engine import Engine
from broker.links.listening.door import Door
from broker.links.mqtt.refusing import refuse, refuse_outdated
from protocol.mqtt.packets import UNSUPPORTED_PROTOCOL_VERSION_5_0, ConnectReturnCode


def refused(level: int, code: int, max_qos: int = 2) -> tuple[bytes, Engine]:
    """What the client gets, and the engine that refused it."""
    engine = Engine()
    door = Door(OPEN_DOOR.listener, Limits(), connection_messages=False)
    door.max_qos = max_qos
    peer = Peer(engine, door)
    peer.link.level = level
    refuse(peer.link, code, "why not")
    engine.flush()
    assert peer.closed
    return peer.read_bytes(), engine


@pytest.mark.parametrize(
    ("level", "code", "answer"),
    [
        (4, ConnectReturnCode.IDENTIFIER_REJECTED, b"\x20\x02\x00\x02"),
        (4, ConnectReturnCode.NOT_AUTHORIZED, b"\x20\x02\x00\x05"),
        (5, ConnectReturnCode.IDENTIFIER_REJECTED, b"\x20\x03\x00\x85\x00"),
        (5, ConnectReturnCode.NOT_AUTHORIZED, b"\x20\x03\x00\x87\x00"),
        (4, UNSUPPORTED_PROTOCOL_VERSION_5_0, b"\x20\x03\x00\x84\x00"),
    ],
)
def test_the_code_is_that_of_the_clients_version(level: int, code: int, answer: bytes) -> None:
    assert refused(level, code)[0] == answer


def test_a_listener_with_a_lower_qos_says_so_to_5_0_even_then() -> None:
    assert refused(5, ConnectReturnCode.NOT_AUTHORIZED, 1)[0] == b"\x20\x05\x00\x87\x02\x24\x01"
    assert refused(4, ConnectReturnCode.NOT_AUTHORIZED, 1)[0] == b"\x20\x02\x00\x05"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "protocol_version"),
        (2, "client_id"),
        (3, "unavailable"),
        (4, "bad_credentials"),
        (5, "not_authorized"),
        (UNSUPPORTED_PROTOCOL_VERSION_5_0, "protocol_version"),
        (0x8C, "other"),
    ],
)
def test_each_reason_has_its_counter(code: int, reason: str) -> None:
    _, engine = refused(5, code)
    assert engine.counters.refused == {reason: 1}
    assert engine.counters.other_packets_sent == 1


def test_the_log_says_whom_and_why(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(Engine())
    with caplog.at_level(logging.INFO):
        refuse_outdated(peer.link)
    assert (
        caplog.messages[0]
        == "Client connection from 127.0.0.1:50000 refused: what let it in has changed since."
    )
    assert peer.link.engine.counters.refused == {"not_authorized": 1}
