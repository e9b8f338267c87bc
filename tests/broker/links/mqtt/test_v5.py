"""What a client of MQTT 5.0 sees of the broker, statement by statement, alone and beside clients of 3.1.1."""

from __future__ import annotations

import math

import pytest
from support.peer import Peer, connected, subscribed
from support.peer5 import Peer5, connected5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.links.listening.door import Door
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    AUTHENTICATION_METHOD,
    CONTENT_TYPE,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    MESSAGE_EXPIRY,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY,
    TOPIC_ALIAS,
    WILL_DELAY,
)
from protocol.mqtt.v5.reasons import ReasonCode


def expiring(seconds: int) -> Properties:
    return Properties({SESSION_EXPIRY: seconds})


def ids(*numbers: int) -> Properties:
    return Properties(subscription_ids=list(numbers))


def subscriber(
    engine: Engine, topic_filter: bytes, options: int, client_id: bytes = b"s", number: int = 0
) -> Peer5:
    peer = connected5(engine, client_id)
    peer.send(Subscribe(1, ((topic_filter, options),), ids(number) if number else NO_PROPERTIES))
    assert isinstance(peer.read()[0], Suback)
    return peer


def door(**settings: object) -> Door:
    return Door(
        Listener(port=1883, security=Security(allow_anonymous=True), **settings),  # type: ignore[arg-type]
        Limits(),
    )


def refused(peer: Peer5, code: int) -> None:
    """The peer was told why, and its connection is over [MQTT-4.13.1-1]."""
    assert peer.read() == [Disconnect(code)]
    assert peer.closed


# --- connecting -----------------------------------------------------------------------------------------


def test_connack_says_what_is_not_the_default() -> None:
    engine = Engine(Policy(retain_available=False))
    peer = Peer5(engine, door(max_qos=1, max_keepalive_s=30))
    peer.send(Connect(b"", True, 60, 5))
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    numbers = connack.properties.numbers
    assert numbers[RETAIN_AVAILABLE] == 0  # [MQTT-3.2.2-13]
    assert numbers[MAXIMUM_QOS] == 1  # [MQTT-3.2.2-9]
    assert numbers[SERVER_KEEP_ALIVE] == 30  # [MQTT-3.1.2-21]
    assert connack.properties.texts[ASSIGNED_CLIENT_ID] in engine.sessions  # [MQTT-3.1.3-7]


def test_a_connect_with_a_fault_is_told_its_code() -> None:
    peer = Peer5(Engine())
    peer.write(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x00")
    assert peer.read() == [Connack(False, ReasonCode.PROTOCOL_ERROR)]
    assert peer.closed


def test_an_authentication_method_is_refused() -> None:
    peer = Peer5(Engine())
    peer.send(Connect(b"c", True, 60, 5, properties=Properties(texts={AUTHENTICATION_METHOD: b"SCRAM"})))
    assert peer.read() == [Connack(False, ReasonCode.BAD_AUTHENTICATION_METHOD)]  # [MQTT-4.12.0-1]
    assert peer.closed


def test_who_may_not_enter_is_told_in_the_words_of_its_version() -> None:
    strict = Door(Listener(port=1883), Limits())
    peer = Peer5(Engine(), strict)
    peer.send(Connect(b"c", True, 60, 5))
    assert peer.read() == [Connack(False, ReasonCode.NOT_AUTHORIZED)]
    older = Peer(Engine(), strict)
    older.send(Connect(b"c", True, 60))
    assert older.read() == [Connack(False, 5)]


def test_a_session_taken_over_is_told_so() -> None:
    engine = Engine()
    first = connected5(engine)
    connected5(engine)
    refused(first, ReasonCode.SESSION_TAKEN_OVER)  # [MQTT-3.1.4-3]


def test_a_session_lives_as_long_as_its_expiry_says() -> None:
    engine = Engine()
    peer = connected5(engine, properties=expiring(10))
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.drop()
    engine.now += 9
    engine.expire()
    connected5(engine, clean=False, properties=expiring(10), present=True).drop()
    engine.now += 11
    engine.expire()
    assert not engine.sessions  # [MQTT-3.1.2-23]
    assert engine.counters.sessions_expired == 1


def test_a_session_without_expiry_ends_with_its_connection() -> None:
    engine = Engine()
    connected5(engine, clean=False).drop()
    assert not engine.sessions


def test_a_session_that_never_expires_is_kept() -> None:
    engine = Engine()
    connected5(engine, properties=expiring(0xFFFF_FFFF)).drop()
    assert engine.sessions[b"client"].expiry_s == math.inf
    engine.now += 1e9
    engine.expire()
    assert engine.sessions


def test_clean_start_wipes_and_keeps_from_then_on() -> None:
    engine = Engine()
    peer = connected5(engine, properties=expiring(10))
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.drop()
    connected5(engine, properties=expiring(10)).drop()  # [MQTT-3.1.2-4]
    assert engine.sessions[b"client"].subscriptions == {}


def test_disconnect_changes_the_expiry_but_not_from_nothing() -> None:
    engine = Engine()
    connected5(engine, properties=expiring(10)).send(Disconnect(0, expiring(0)))
    assert not engine.sessions
    peer = connected5(engine)
    peer.send(Disconnect(0, expiring(5)))
    refused(peer, ReasonCode.PROTOCOL_ERROR)


def test_one_client_id_by_3_1_1_then_5_0_and_back() -> None:
    engine = Engine()
    old = connected(engine, b"x", clean=False)
    old.send(Subscribe(1, ((b"t", 1),)))
    old.drop()
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"1", 1, packet_id=1, properties=Properties(user=[(b"a", b"b")])))
    new = connected5(engine, b"x", clean=False, properties=expiring(60), present=True)
    (publish,) = new.read()
    assert isinstance(publish, Publish)
    assert publish.properties.user == [(b"a", b"b")]
    new.drop()
    back = connected(engine, b"x", clean=False, present=True)
    assert back.read() == [Publish(b"t", b"1", 1, False, True, 1)]


# --- publications ---------------------------------------------------------------------------------------


def test_properties_reach_5_0_unchanged_and_3_1_1_without_them() -> None:
    engine = Engine()
    new, old = subscriber(engine, b"t", 1), subscribed(engine, (b"t", 1), client_id=b"old")
    properties = Properties(
        {1: 1}, {3: b"text/plain", 8: b"answer", 9: b"\x00\xff"}, [(b"a", b"1"), (b"a", b"2")]
    )
    writer = connected5(engine, b"w")
    writer.send(
        Publish(b"t", b"p", 1, packet_id=7, properties=properties), Publish(b"t", b"q", properties=properties)
    )
    assert new.read() == [
        Publish(b"t", b"p", 1, packet_id=1, properties=properties),  # [MQTT-3.3.2-17] [MQTT-3.3.2-20]
        Publish(b"t", b"q", properties=properties),
    ]
    assert old.read() == [Publish(b"t", b"p", 1, packet_id=1), Publish(b"t", b"q")]
    assert writer.read() == [Puback(7)]


def test_3_1_1_publications_reach_5_0() -> None:
    engine = Engine()
    new = subscriber(engine, b"#", 2)
    connected(engine, b"w").send(
        Publish(b"a", b"1"), Publish(b"a", b"2"), Publish(b"b", b"3", 1, packet_id=1)
    )
    assert new.read() == [Publish(b"a", b"1"), Publish(b"a", b"2"), Publish(b"b", b"3", 1, packet_id=1)]


def test_nobody_there_is_told() -> None:
    peer = connected5(Engine())
    peer.send(Publish(b"t", b"", 1, packet_id=1))
    assert peer.read() == [Puback(1, ReasonCode.NO_MATCHING_SUBSCRIBERS)]


def test_no_local_retain_as_published_and_ids() -> None:
    engine = Engine()
    peer = connected5(engine)
    peer.send(
        Subscribe(1, ((b"a/+", 0 | 8),), ids(5)),
        Subscribe(2, ((b"a/#", 1 | 4),), ids(268_435_455)),
        Pingreq(),
    )
    peer.read()
    connected5(engine, b"w").send(Publish(b"a/b", b"1", 1, True, packet_id=1))
    (publish,) = peer.read()
    assert isinstance(publish, Publish)
    assert (publish.qos, publish.retain) == (1, True)  # [MQTT-3.3.1-13]
    assert sorted(publish.properties.subscription_ids) == [5, 268_435_455]  # [MQTT-3.3.4-4]
    peer.send(Publish(b"a/b", b"2", 1, packet_id=3))
    own = [packet for packet in peer.read() if isinstance(packet, Publish)]
    assert [(packet.qos, packet.properties.subscription_ids) for packet in own] == [
        (0, [5])
    ]  # [MQTT-3.8.3-3]


@pytest.mark.parametrize(("handling", "first", "again"), [(0, 1, 1), (1, 1, 0), (2, 0, 0)])
def test_retain_handling(handling: int, first: int, again: int) -> None:
    engine = Engine()
    connected(engine, b"w").send(Publish(b"t", b"kept", 0, True))
    peer = connected5(engine)
    for wanted in (first, again):
        peer.send(Subscribe(1, ((b"t", handling << 4),)))
        assert len(peer.read()) == 1 + wanted  # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]


def test_a_topic_alias_stands_for_its_topic_on_its_connection() -> None:
    engine = Engine()
    listener, peer = subscriber(engine, b"#", 0), connected5(engine)
    alias = Properties({TOPIC_ALIAS: 3})
    peer.send(Publish(b"t", b"1", properties=alias), Publish(b"", b"2", properties=alias))
    assert listener.read() == [Publish(b"t", b"1"), Publish(b"t", b"2")]
    again = connected5(engine)
    again.send(Publish(b"", b"3", properties=alias))
    refused(again, ReasonCode.PROTOCOL_ERROR)
    high = connected5(engine)
    high.send(Publish(b"t", b"", properties=Properties({TOPIC_ALIAS: 11})))
    refused(high, ReasonCode.TOPIC_ALIAS_INVALID)


def test_a_message_waits_no_longer_than_its_expiry_and_says_what_is_left() -> None:
    engine = Engine()
    away = connected5(engine, b"away", properties=expiring(1000))
    away.send(Subscribe(1, ((b"t", 1),)))
    away.drop()
    writer = connected5(engine, b"w")
    for seconds in (10, 100):
        writer.send(
            Publish(
                b"t", b"%d" % seconds, 1, True, packet_id=1, properties=Properties({MESSAGE_EXPIRY: seconds})
            )
        )
    engine.now += 30
    engine.expire()
    back = connected5(engine, b"away", clean=False, properties=expiring(1000), present=True)
    (publish,) = back.read()
    assert isinstance(publish, Publish)
    assert (publish.payload, publish.properties.numbers) == (b"100", {MESSAGE_EXPIRY: 70})  # [MQTT-3.3.2-6]
    late = subscriber(engine, b"x", 0, b"late")
    late.send(Subscribe(1, ((b"t", 0),)))
    assert [p.properties.numbers for p in late.read() if isinstance(p, Publish)] == [{MESSAGE_EXPIRY: 70}]
    engine.now += 71
    engine.expire()
    assert len(engine.retained) == 0
    assert engine.counters.messages_expired == 1


@pytest.mark.parametrize(
    ("lifetimes", "queued_max", "sent"),
    [
        ((10, 0, 10, 0), 1000, [(2, b"1"), (4, b"3")]),
        ((0, 10, 10), 1000, [(1, b"0")]),
        ((0, 10, 10), 2, [(1, b"0")]),
        ((10, 0), 1, [(2, b"1")]),
    ],
)
def test_a_message_that_expires_in_the_queue_takes_its_packet_id_with_it(
    lifetimes: tuple[int, ...], queued_max: int, sent: list[tuple[int, bytes]]
) -> None:
    engine = Engine(window=Window(queued_messages=queued_max))
    away = connected5(engine, b"away", properties=expiring(1000))
    away.send(Subscribe(1, ((b"t", 1),)))
    away.drop()
    writer = connected5(engine, b"w")
    for number, seconds in enumerate(lifetimes):
        properties = Properties({MESSAGE_EXPIRY: seconds}) if seconds else NO_PROPERTIES
        writer.send(Publish(b"t", b"%d" % number, 1, packet_id=1, properties=properties))
        engine.now += 11 * (queued_max < len(lifetimes))
    engine.now += 11
    back = connected5(engine, b"away", clean=False, properties=expiring(1000), present=True)
    assert [(p.packet_id, p.payload) for p in back.read() if isinstance(p, Publish)] == sent
    back.send(*(Puback(packet_id) for packet_id, _ in sent))
    writer.send(Publish(b"t", b"next", 1, packet_id=1))
    assert [p.packet_id for p in back.read() if isinstance(p, Publish)] == [len(lifetimes) + 1]


def test_the_receive_maximum_is_the_window() -> None:
    engine = Engine()
    peer = connected5(engine, properties=Properties({RECEIVE_MAXIMUM: 2}))
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.read()
    for _ in range(3):
        connected(engine, b"w").send(Publish(b"t", b"", 1, packet_id=1))
    assert [packet.packet_id for packet in peer.read() if isinstance(packet, Publish)] == [
        1,
        2,
    ]  # [MQTT-3.3.4-9]
    peer.send(Puback(1, ReasonCode.UNSPECIFIED_ERROR))
    assert [packet.packet_id for packet in peer.read() if isinstance(packet, Publish)] == [3]


def test_more_than_our_receive_maximum_ends_the_connection() -> None:
    peer = connected5(Engine(window=Window(inflight_messages=2)))
    for packet_id in (1, 2, 3):
        peer.send(Publish(b"t", b"", 2, packet_id=packet_id))
    assert peer.read() == [Pubrec(1), Pubrec(2), Disconnect(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)]


def test_what_is_too_large_for_a_client_is_not_sent_and_counted() -> None:
    engine = Engine()
    peer = connected5(engine, properties=Properties({MAXIMUM_PACKET_SIZE: 30}))
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.read()
    writer = connected5(engine, b"w")
    for qos in (0, 1):
        writer.send(Publish(b"t", b"x" * 40, qos, packet_id=qos), Publish(b"t", b"x", qos, packet_id=qos))
    assert peer.read() == [Publish(b"t", b"x"), Publish(b"t", b"x", 1, packet_id=2)]  # [MQTT-3.1.2-24]
    assert engine.counters.dropped_too_large == 2


def test_a_pubrec_with_an_error_frees_the_packet_id() -> None:
    engine = Engine()
    peer = subscriber(engine, b"t", 2)
    connected(engine, b"w").send(Publish(b"t", b"", 2, packet_id=1), Pubrel(1))
    peer.read()
    peer.send(Pubrec(1, ReasonCode.UNSPECIFIED_ERROR))
    assert peer.read() == []  # [MQTT-4.3.3-4]
    assert engine.sessions[b"s"].outbound.inflight_count() == 0


def test_what_a_client_may_not_write_is_refused_with_its_code() -> None:
    engine = Engine(Policy(message_size_limit=5))
    peer = connected5(engine)
    peer.send(Publish(b"t", b"123456", 1, packet_id=1), Publish(b"t", b"123456", 2, packet_id=2))
    assert peer.read() == [Puback(1, ReasonCode.QUOTA_EXCEEDED), Pubrec(2, ReasonCode.QUOTA_EXCEEDED)]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (Publish(b"t", b"", 2, packet_id=1), ReasonCode.QOS_NOT_SUPPORTED),
        (Publish(b"t", b"", 0, True), ReasonCode.RETAIN_NOT_SUPPORTED),  # [MQTT-3.2.2-14]
        (Auth(), ReasonCode.PROTOCOL_ERROR),
        (Connect(b"c", True, 60, 5), ReasonCode.PROTOCOL_ERROR),
        (Publish(b"t", b"", properties=ids(1)), ReasonCode.PROTOCOL_ERROR),
        (Pubrel(1, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND), None),
    ],
)
def test_what_may_not_come_ends_the_connection_with_its_code(sent: Packet, code: int | None) -> None:
    peer = connected5(Engine(Policy(retain_available=False)), door=door(max_qos=1))
    peer.send(sent)
    if code is None:
        assert peer.read() == [Pubcomp(1)]
    else:
        refused(peer, code)


def test_unsubscribe_says_what_there_was() -> None:
    peer = subscriber(Engine(), b"a", 0)
    peer.send(Unsubscribe(2, (b"a", b"b")), Pingreq())
    assert peer.read() == [Unsuback(2, (0, ReasonCode.NO_SUBSCRIPTION_EXISTED)), Pingresp()]


# --- wills ----------------------------------------------------------------------------------------------


def with_will(engine: Engine, delay_s: int, expiry_s: int) -> Peer5:
    properties = Properties({WILL_DELAY: delay_s, MESSAGE_EXPIRY: 7}, {CONTENT_TYPE: b"x"})
    will = Will(b"will", b"gone", 0, False, properties)
    return connected5(engine, will=will, properties=expiring(expiry_s))


def test_a_will_waits_for_its_delay_and_does_not_carry_it() -> None:
    engine = Engine()
    listener = subscriber(engine, b"will", 0)
    with_will(engine, 10, 100).drop()
    engine.now += 9
    engine.expire()
    assert listener.read() == []
    engine.now += 2
    engine.expire()
    engine.flush()
    expected = Properties({MESSAGE_EXPIRY: 7}, {CONTENT_TYPE: b"x"})
    assert listener.read() == [Publish(b"will", b"gone", properties=expected)]
    engine.now += 100
    engine.expire()
    engine.flush()
    assert listener.read() == []


def test_a_client_that_is_back_in_time_has_no_will_published() -> None:
    engine = Engine()
    listener = subscriber(engine, b"will", 0)
    with_will(engine, 10, 100).drop()
    connected5(engine, clean=False, properties=expiring(100), present=True)  # [MQTT-3.1.3-9]
    engine.now += 50
    engine.expire()
    engine.flush()
    assert listener.read() == []


@pytest.mark.parametrize("expiry_s", [0, 5])
def test_a_will_is_published_when_its_session_ends(expiry_s: int) -> None:
    engine = Engine()
    listener = subscriber(engine, b"will", 0)
    with_will(engine, 1000, expiry_s).drop()
    engine.now += 6
    engine.expire()
    engine.flush()
    assert len(listener.read()) == 1


def test_a_goodbye_with_will_publishes_it() -> None:
    engine = Engine()
    listener = subscriber(engine, b"will", 0)
    with_will(engine, 0, 0).send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL))
    with_will(engine, 0, 0).send(Disconnect())
    assert len(listener.read()) == 1
