"""What a CONNECT of 5.0 asks for and what CONNACK grants: each property only where it says something."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve
from support.peer import OPEN_DOOR, Peer, connected
from support.peer5 import Peer5, connected5

from broker.config.model import Limits
from broker.core.engine import Engine
from broker.core.policy import Policy
from broker.links.listening.door import Door
from broker.links.mqtt.admission5 import refusal_code
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connack, Connect, Publish, Will
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    CONTENT_TYPE,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    MESSAGE_EXPIRY,
    NEVER,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY,
    TOPIC_ALIAS_MAXIMUM,
    WILL_DELAY,
)
from protocol.mqtt.v5.reasons import ReasonCode


def door(limits: Limits | None = None, **listener: Any) -> Door:
    """One that says nothing of itself but what is asked for here."""
    changed = evolve(OPEN_DOOR.listener, **{"max_topic_alias": 0, **listener})
    return Door(changed, limits or Limits(max_packet_size_bytes=0), connection_messages=False)


def silent_engine() -> Engine:
    return Engine(window=Window(inflight_messages=0))


def granted(engine: Engine, at: Door, connect: Connect) -> Properties:
    peer = Peer5(engine, at)
    peer.send(connect)
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    assert connack.return_code == 0
    return connack.properties


def connect(
    client_id: bytes = b"c", keep_alive_s: int = 60, properties: Properties = NO_PROPERTIES
) -> Connect:
    return Connect(client_id, True, keep_alive_s, 5, properties=properties)


def test_nothing_is_said_where_all_is_as_the_standard_has_it() -> None:
    assert granted(silent_engine(), door(), connect()) == NO_PROPERTIES


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (door(max_topic_alias=7), {TOPIC_ALIAS_MAXIMUM: 7}),
        (door(Limits(max_packet_size_bytes=1000)), {MAXIMUM_PACKET_SIZE: 1000}),
        (door(max_qos=1), {MAXIMUM_QOS: 1}),
        (door(max_qos=0), {MAXIMUM_QOS: 0}),
        (door(max_qos=2), {}),
    ],
)
def test_what_a_listener_does_not_take_is_told(at: Door, said: dict[int, int]) -> None:
    assert granted(silent_engine(), at, connect()).numbers == said


@pytest.mark.parametrize(("inflight", "told"), [(20, 20), (65_535, 65_535), (100_000, 65_535)])
def test_the_window_is_the_receive_maximum_as_far_as_it_can_be_said(inflight: int, told: int) -> None:
    engine = Engine(window=Window(inflight_messages=inflight))
    assert granted(engine, door(), connect()).numbers == {RECEIVE_MAXIMUM: told}


def test_that_nothing_is_retained_is_told() -> None:
    engine = Engine(window=Window(inflight_messages=0), policy=Policy(retain_available=False))
    assert granted(engine, door(), connect()).numbers == {RETAIN_AVAILABLE: 0}


@pytest.mark.parametrize(
    ("wanted", "longest", "told"),
    [(60, 0, None), (60, 60, None), (60, 59, 59), (0, 60, 60), (0, 0, None), (65_535, 10, 10)],
)
def test_a_keep_alive_that_is_too_long_or_none_is_the_listeners(
    wanted: int, longest: int, told: int | None
) -> None:
    properties = granted(silent_engine(), door(max_keepalive_s=longest), connect(keep_alive_s=wanted))
    assert properties.numbers == ({} if told is None else {SERVER_KEEP_ALIVE: told})


@pytest.mark.parametrize(
    ("wanted", "longest", "told"),
    [
        (0, 100.0, None),
        (100, 100.0, None),
        (101, 100.0, 100),
        (NEVER, 100.0, 100),
        (NEVER, 0.0, None),
        (NEVER, 1e12, NEVER - 1),
    ],
)
def test_a_session_that_is_kept_less_long_than_it_asked_for_is_told(
    wanted: int, longest: float, told: int | None
) -> None:
    engine = Engine(window=Window(inflight_messages=0), policy=Policy(persistent_client_expiration_s=longest))
    properties = Properties({SESSION_EXPIRY: wanted} if wanted else {})
    found = granted(engine, door(), connect(properties=properties)).numbers
    assert found == ({} if told is None else {SESSION_EXPIRY: told})


def test_only_who_brings_no_id_is_told_the_one_it_got() -> None:
    engine = silent_engine()
    assert granted(engine, door(), connect(b"own")).texts == {}
    texts = granted(engine, door(), connect(b"")).texts
    (session,) = [one for one in engine.sessions if one != b"own"]
    assert texts == {ASSIGNED_CLIENT_ID: session}


@pytest.mark.parametrize(
    ("properties", "expiry_s"),
    [({}, 0.0), ({SESSION_EXPIRY: 5}, 5.0), ({SESSION_EXPIRY: NEVER}, math.inf)],
)
def test_what_a_client_says_of_its_session_holds(properties: dict[int, int], expiry_s: float) -> None:
    engine = Engine()
    connected5(engine, properties=Properties(dict(properties)))
    assert engine.sessions[b"client"].expiry_s == expiry_s


@pytest.mark.parametrize(("clean", "expiry_s"), [(True, 0.0), (False, math.inf)])
def test_what_it_said_by_5_0_does_not_hold_by_3_1_1(clean: bool, expiry_s: float) -> None:
    engine = Engine()
    properties = Properties({SESSION_EXPIRY: 5, MAXIMUM_PACKET_SIZE: 100})
    will = Will(b"w", b"", 0, False, Properties({WILL_DELAY: 3, MESSAGE_EXPIRY: 4}))
    connected5(engine, clean=False, will=will, properties=properties).drop()
    session = engine.sessions[b"client"]
    assert (session.level, session.will_delay_s, session.will_expiry_s) == (5, 3, 4)
    connected(engine, clean=clean, present=not clean)
    session = engine.sessions[b"client"]
    assert (session.level, session.will_delay_s, session.will_expiry_s) == (4, 0, -1)
    assert session.expiry_s == expiry_s
    assert session.outbound.sending is None


@pytest.mark.parametrize(("taken", "ours", "used"), [(5, 10, 5), (10, 5, 5), (0, 10, 0), (5, 0, 0)])
def test_no_more_aliases_are_sent_than_both_allow(taken: int, ours: int, used: int) -> None:
    engine = Engine()
    properties = Properties({TOPIC_ALIAS_MAXIMUM: taken} if taken else {})
    connected5(engine, properties=properties, door=door(max_topic_alias_broker=ours))
    sending = engine.sessions[b"client"].outbound.sending
    assert sending is not None
    assert sending.aliases_max == used


def test_a_will_without_properties_after_one_with_them_has_none() -> None:
    engine = Engine()
    properties = Properties({WILL_DELAY: 3, MESSAGE_EXPIRY: 4}, {CONTENT_TYPE: b"t"})
    for found, delay_s, expiry_s, handed_on in (
        (properties, 3, 4, b"\x03\x00\x01t"),
        (NO_PROPERTIES, 0, -1, b""),
    ):
        connected5(engine, will=Will(b"w", b"", 0, False, found))
        session = engine.sessions[b"client"]
        assert session.will is not None
        assert session.will.properties == handed_on
        assert (session.will_delay_s, session.will_expiry_s) == (delay_s, expiry_s)


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_what_waits_from_before_is_in_no_quota_of_this_connection(waiting: int) -> None:
    """A client that had three PUBRECs may send as many messages as one that had none."""
    engine = Engine(window=Window(inflight_messages=2))
    properties = Properties({SESSION_EXPIRY: 100})
    before = connected5(engine, clean=False, properties=properties)
    for packet_id in range(1, waiting + 1):
        engine.window.inflight_messages = 20
        before.send(Publish(b"t", b"x", 2, packet_id=packet_id))
    before.drop()
    engine.window.inflight_messages = 2
    peer = connected5(engine, clean=False, properties=properties, present=True)
    peer.send(*(Publish(b"t", b"x", 2, packet_id=packet_id) for packet_id in (11, 12)))
    assert not peer.closed
    peer.send(Publish(b"t", b"x", 2, packet_id=13))
    assert peer.closed


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
        (2, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID),
        (3, ReasonCode.SERVER_UNAVAILABLE),
        (4, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (5, ReasonCode.NOT_AUTHORIZED),
        (0x8C, 0x8C),
    ],
)
def test_a_refusal_is_told_by_the_code_of_5_0(code: int, said: int) -> None:
    assert refusal_code(code) == said


def test_3_1_1_gets_a_connack_of_its_own() -> None:
    peer = Peer(Engine(), door(max_qos=1, max_topic_alias=7))
    peer.send(Connect(b"c", True, 60))
    assert peer.read_bytes() == b"\x20\x02\x00\x00"
