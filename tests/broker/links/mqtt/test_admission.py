"""A CONNECT is judged once, in its turn; and what a peer sends wrongly ends its connection with a reason."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import evolve
from support.peer import OPEN_DOOR, Peer, connected
from support.peer5 import Peer5

from broker.config.model import Limits, Security
from broker.core.engine import Engine
from broker.core.policy import Policy
from broker.links.listening.door import Door
from broker.links.listening.judgement import Accepted, Refused, TurnedAway
from broker.links.mqtt.admission import admit, check_will, fail
from broker.links.mqtt.link import MqttLink
from protocol.mqtt.errors import (
    ConnectRefused,
    MalformedPacket,
    PacketTooLarge,
    ProtocolError,
    ProtocolViolation,
)
from protocol.mqtt.packets import Connect, ConnectReturnCode, Disconnect, Will

CONNECT = Connect(b"c", True, 60)


def door(**listener: Any) -> Door:
    return Door(evolve(OPEN_DOOR.listener, **listener), Limits(), connection_messages=False)


@pytest.mark.parametrize(
    ("will", "at", "available", "code"),
    [
        (Will(b"t", b"", 2, True), door(), True, None),
        (Will(b"$CONTROL/x", b"", 0, False), door(), True, 0x82),
        (Will(b"t", b"", 2, False), door(max_qos=1), True, 0x9B),
        (Will(b"t", b"", 1, False), door(max_qos=1), True, None),
        (Will(b"t", b"", 0, True), door(), False, 0x9A),
        (Will(b"t", b"", 0, False), door(), False, None),
        (Will(b"t" * 65_530, b"", 0, False), door(), True, None),
        (Will(b"/" * 200, b"", 0, False), door(mount_point="a/"), True, 0x82),
    ],
)
def test_a_will_that_could_not_be_published_is_refused(
    will: Will, at: Door, available: bool, code: int | None
) -> None:
    link = Peer(Engine(policy=Policy(retain_available=available)), at).link
    if code is None:
        check_will(link, will)
        return
    with pytest.raises(ProtocolError) as refused:
        check_will(link, will)
    assert refused.value.reason_code == code


class Elsewhere:
    """Somebody else decides: takes what it is asked about, or says that there is nothing to wait for."""

    def __init__(self, takes: bool) -> None:
        self.takes = takes
        self.asked: list[bool] = []

    def __call__(self, link: MqttLink, packet: Connect, is_slow: bool) -> bool:
        self.asked.append(is_slow)
        return self.takes


def awaiting(engine: Engine, at: Door, elsewhere: Elsewhere) -> Peer:
    """A peer whose CONNECT came."""
    peer = Peer(engine, at)
    peer.link.check_slowly = elsewhere
    peer.send(CONNECT)
    return peer


def test_a_client_waits_for_its_turn_and_is_then_let_in() -> None:
    engine, elsewhere = Engine(), Elsewhere(True)
    peer = awaiting(engine, OPEN_DOOR, elsewhere)
    assert (elsewhere.asked, peer.read_bytes()) == ([False], b"")
    assert b"c" not in engine.sessions
    admit(peer.link, CONNECT, in_turn=True)
    engine.flush()
    assert peer.read_bytes() == b"\x20\x02\x00\x00"
    assert elsewhere.asked == [False]


def test_a_client_that_nobody_has_to_wait_for_is_let_in_at_once() -> None:
    elsewhere = Elsewhere(False)
    assert awaiting(Engine(), OPEN_DOOR, elsewhere).read_bytes() == b"\x20\x02\x00\x00"
    assert elsewhere.asked == [False]


def test_who_is_refused_anyhow_waits_for_nobody() -> None:
    elsewhere = Elsewhere(True)
    peer = awaiting(Engine(), door(security=Security(allow_anonymous=False)), elsewhere)
    assert peer.closed
    assert elsewhere.asked == []
    assert peer.read_bytes() == b"\x20\x02\x00\x05"


def test_who_left_while_it_was_decided_about_is_not_let_in() -> None:
    engine = Engine()
    peer = awaiting(engine, OPEN_DOOR, Elsewhere(True))
    peer.link.close("closed its connection.")
    admit(peer.link, CONNECT, in_turn=True)
    engine.flush()
    assert b"c" not in engine.sessions
    assert peer.read_bytes() == b""


def test_what_was_judged_before_is_not_asked_again() -> None:
    engine = Engine()
    peer = awaiting(engine, OPEN_DOOR, Elsewhere(True))
    why = Refused(ConnectReturnCode.SERVER_UNAVAILABLE, "another node has it")
    admit(peer.link, CONNECT, in_turn=True, judgement=why)
    engine.flush()
    assert peer.closed
    assert peer.read_bytes() == b"\x20\x02\x00\x03"


def test_who_is_turned_away_gets_no_answer() -> None:
    peer = awaiting(Engine(), OPEN_DOOR, Elsewhere(True))
    admit(peer.link, CONNECT, in_turn=True, judgement=TurnedAway("no room."))
    peer.engine.flush()
    assert peer.closed
    assert peer.read_bytes() == b""


def test_rules_that_changed_while_it_waited_keep_it_out() -> None:
    engine = Engine()
    at = door()
    peer = awaiting(engine, at, Elsewhere(True))
    judgement = at.judge(CONNECT, None, engine.sessions, None)
    assert isinstance(judgement, Accepted)
    at.configure(evolve(at.listener, security=Security(allow_anonymous=False)), Limits(), False)
    admit(peer.link, CONNECT, in_turn=True, judgement=judgement)
    engine.flush()
    assert peer.closed
    assert peer.read_bytes() == b"\x20\x02\x00\x05"
    assert b"c" not in engine.sessions


def test_a_peer_that_has_gone_is_let_in_for_what_it_sent_and_closed() -> None:
    engine = Engine()
    peer = awaiting(engine, OPEN_DOOR, Elsewhere(True))
    peer.link.departed = True
    admit(peer.link, CONNECT, in_turn=True)
    engine.flush()
    assert peer.closed
    assert engine.counters.connections_accepted == 1


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (PacketTooLarge("long"), "disconnected due to oversize packet.", 0x95),
        (MalformedPacket("bad"), "disconnected due to malformed packet.", 0x81),
        (ProtocolViolation("no"), "disconnected due to protocol error.", 0x82),
        (ProtocolViolation("no", reason_code=0x9B), "disconnected due to protocol error.", 0x9B),
    ],
)
def test_a_fault_of_a_connected_client_is_told_by_5_0_and_logged(
    error: ProtocolError, said: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    peer = Peer5(engine, Door(OPEN_DOOR.listener, Limits(), connection_messages=True))
    peer.send(Connect(b"c", True, 60, 5))
    peer.read()
    with caplog.at_level(logging.INFO):
        fail(peer.link, error)
    engine.flush()
    assert peer.closed
    assert peer.read() == [Disconnect(code)]
    assert engine.counters.protocol_errors == 1
    assert caplog.messages == [f"Client c [127.0.0.1:50000] {said}"]


def test_a_fault_before_connack_names_the_peer_and_the_statement(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(Engine())
    with caplog.at_level(logging.INFO):
        fail(peer.link, MalformedPacket("bad", "MQTT-3.1.0-1"))
    peer.engine.flush()
    assert peer.closed
    assert peer.read_bytes() == b""
    assert caplog.messages == ["Connection from 127.0.0.1:50000 closed: bad [MQTT-3.1.0-1]."]


def test_a_connect_that_is_refused_by_its_bytes_is_answered() -> None:
    peer = Peer(Engine())
    fail(peer.link, ConnectRefused(1, "level 9", "MQTT-3.1.2-2"))
    peer.engine.flush()
    assert peer.read_bytes() == b"\x20\x02\x00\x01"
    assert peer.closed


def test_a_second_connect_is_a_fault_and_no_new_client() -> None:
    engine = Engine()
    peer = connected(engine, b"c")
    peer.send(Connect(b"d", True, 60))
    assert peer.closed
    assert b"d" not in engine.sessions
