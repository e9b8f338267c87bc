"""A client is let in: who was here under its id leaves, and it is told whether anything was kept for it."""

from __future__ import annotations

import logging

import pytest
from attrs import evolve
from support.peer import OPEN_DOOR, Peer, connected, subscribed
from support.peer5 import Peer5, connected5

from broker.config.model import Limits
from broker.core.engine import Engine
from broker.links.listening.door import Door
from broker.links.mqtt.admission import admit
from protocol.mqtt.packets import Connect, Disconnect, Pingreq, Pingresp, Publish, Will
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import MAXIMUM_PACKET_SIZE, SESSION_EXPIRY, WILL_DELAY

TALKATIVE = Door(OPEN_DOOR.listener, Limits(), connection_messages=True)
WILL = Will(b"gone", b"old", 0, False)


@pytest.mark.parametrize(("level", "told"), [(3, 0), (4, 1)])
def test_only_3_1_1_is_told_that_its_session_was_kept(level: int, told: int) -> None:
    engine = Engine()
    connected(engine, clean=False).drop()
    peer = Peer(engine)
    peer.send(Connect(b"client", False, 60, level))
    assert peer.read_bytes() == bytes((0x20, 2, told, 0))


@pytest.mark.parametrize(("before", "now", "told"), [(True, False, 0), (False, True, 0), (False, False, 1)])
def test_a_session_goes_on_if_neither_connection_is_clean(before: bool, now: bool, told: int) -> None:
    engine = Engine()
    connected(engine, clean=before).drop()
    peer = Peer(engine)
    peer.send(Connect(b"client", now, 60))
    assert peer.read_bytes() == bytes((0x20, 2, told, 0))


def test_who_was_here_under_this_id_leaves_and_is_told_if_it_can_be() -> None:
    engine = Engine()
    older = connected5(engine)
    newer = connected(engine)
    assert older.closed
    assert older.read() == [Disconnect(0x8E)]
    newer.send(Pingreq())
    assert newer.read() == [Pingresp()]
    third = connected5(engine)
    assert newer.closed
    assert newer.read_bytes() == b""
    assert not third.closed


@pytest.mark.parametrize(
    ("before", "now", "is_published"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_the_will_of_a_session_that_just_moves_is_not_published(
    before: bool, now: bool, is_published: bool
) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"gone", 0))
    connected(engine, clean=before, will=WILL)
    peer = Peer(engine)
    peer.send(Connect(b"client", now, 60))
    assert reader.read() == ([Publish(b"gone", b"old")] if is_published else [])


@pytest.mark.parametrize(("delay_s", "is_published"), [(0, True), (5, False)])
def test_a_will_of_5_0_is_published_unless_it_has_a_delay(delay_s: int, is_published: bool) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"gone", 0))
    properties = Properties({SESSION_EXPIRY: 100})
    will = Will(b"gone", b"old", 0, False, Properties({WILL_DELAY: delay_s} if delay_s else {}))
    connected5(engine, clean=False, will=will, properties=properties)
    connected5(engine, clean=False, properties=properties, present=True)
    engine.now += 50
    engine.expire()
    engine.flush()
    assert reader.read() == ([Publish(b"gone", b"old")] if is_published else [])


def test_who_takes_no_packet_as_long_as_its_connack_gets_none() -> None:
    engine = Engine()
    for most, is_let_in in ((10, False), (100, True)):
        peer = Peer5(engine)
        peer.send(Connect(b"c", True, 60, 5, properties=Properties({MAXIMUM_PACKET_SIZE: most})))
        assert bool(peer.read_bytes()) == is_let_in
        assert peer.closed != is_let_in


def test_a_will_is_below_the_mount_point_and_says_whose_it_was() -> None:
    engine = Engine()
    door = Door(OPEN_DOOR.listener, Limits(), connection_messages=False)
    door.mount_point = b"site/"
    peer = Peer(engine, door)
    peer.send(Connect(b"c", True, 60, will=Will(b"gone", b"x", 1, True), user_name=b"user"))
    will = engine.sessions[b"c"].will
    assert will is not None
    assert (will.topic, will.payload, will.qos, will.retain) == (b"site/gone", b"x", 1, True)
    assert (will.client_id, will.user_name, will.listener_port) == (b"c", b"user", door.port)


@pytest.mark.parametrize(
    ("connect", "line"),
    [
        (
            Connect("c é".encode(), True, 60),
            "New client connected from 127.0.0.1:50000 as c é (p4, c1, k60).",
        ),
        (
            Connect(b"c", False, 0, 3, user_name=b"u"),
            "New client connected from 127.0.0.1:50000 as c (p3, c0, k0, u'u').",
        ),
    ],
)
def test_the_log_says_who_came_as_mosquitto_does(
    connect: Connect, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine()
    with caplog.at_level(logging.INFO):
        peer = Peer(engine, TALKATIVE)
        peer.send(connect)
        silent = Peer(engine)
        silent.send(Connect(b"silent", True, 60))
    assert [said for said in caplog.messages if "connected" in said] == [line]


def test_what_a_client_did_is_counted_when_it_is_let_in() -> None:
    engine = Engine()
    connected(engine)
    assert engine.counters.connections_accepted == 1
    assert engine.counters.other_packets_sent == 1


def test_a_keep_alive_of_a_minute_may_be_silent_for_one_and_a_half() -> None:
    engine = Engine()
    peer = connected(engine, keep_alive_s=60)
    engine.now += 89
    assert not peer.link.silent_too_long()
    engine.now += 2
    assert peer.link.silent_too_long()
    idle = connected(engine, b"idle", keep_alive_s=0)
    engine.now += 1e6
    assert not idle.link.silent_too_long()


def test_who_is_back_before_its_wills_delay_is_over_has_none_published() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"gone", 0))
    properties = Properties({SESSION_EXPIRY: 100})
    will = Will(b"gone", b"old", 0, False, Properties({WILL_DELAY: 10}))
    connected5(engine, clean=False, will=will, properties=properties).drop()
    engine.now += 9
    connected5(engine, clean=False, properties=properties, present=True)
    engine.now += 50
    engine.expire()
    engine.flush()
    assert reader.read() == []


def test_what_follows_the_connect_in_one_receive_is_answered_behind_its_connack() -> None:
    peer = Peer(Engine())
    peer.link.check_slowly = lambda link, packet, is_slow: True
    peer.send(Connect(b"c", True, 60), Pingreq())
    assert peer.read_bytes() == b""
    admit(peer.link, Connect(b"c", True, 60), in_turn=True)
    peer.engine.flush()
    assert peer.read_bytes() == b"\x20\x02\x00\x00\xd0\x00"


def test_what_the_listener_says_holds_for_the_session_from_this_connection_on() -> None:
    engine = Engine()
    for port, max_qos in ((1883, 2), (1884, 1)):
        listener = evolve(OPEN_DOOR.listener, port=port, max_qos=max_qos)
        peer = Peer(engine, Door(listener, Limits(), connection_messages=False))
        peer.send(Connect(b"c", False, 60, user_name=b"u", bridge=True))
        session = engine.sessions[b"c"]
        found = (session.user_name, session.bridge, session.listener_port, session.max_qos)
        assert found == (b"u", True, port, max_qos)
        peer.drop()
