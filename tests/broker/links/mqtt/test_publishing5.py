"""MQTT 5.0 §2.2.1, §3.3 to §3.7, §4.3 to §4.6, §4.9: how messages travel, statement by statement."""

from __future__ import annotations

import pytest
from support.packet_case import framed, string
from support.peer5 import Peer5, connected5

from broker.core.engine import Engine, Policy
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
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
)
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    MAXIMUM_PACKET_SIZE,
    MESSAGE_EXPIRY,
    PAYLOAD_FORMAT,
    RECEIVE_MAXIMUM,
    RESPONSE_TOPIC,
    SESSION_EXPIRY,
    TOPIC_ALIAS,
)
from protocol.mqtt.v5.reasons import ReasonCode

KEPT = Properties({SESSION_EXPIRY: 1000})


def subscriber(
    engine: Engine,
    options: int = 2,
    topic_filter: bytes = b"#",
    client_id: bytes = b"s",
    properties: Properties = KEPT,
) -> Peer5:
    peer = connected5(engine, client_id, properties=properties)
    peer.send(Subscribe(1, ((topic_filter, options),)))
    assert isinstance(peer.read()[0], Suback)
    return peer


def back(engine: Engine, client_id: bytes = b"s", properties: Properties = KEPT) -> Peer5:
    return connected5(engine, client_id, clean=False, properties=properties, present=True)


def publishes(peer: Peer5) -> list[Publish]:
    return [packet for packet in peer.read() if isinstance(packet, Publish)]


# --- topic names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (framed(0x30, string(b"a/+") + b"\x00"), 0x82),  # [MQTT-3.3.2-2] [MQTT-4.7.0-1]
        (framed(0x30, string(b"\xff") + b"\x00"), 0x81),  # [MQTT-3.3.2-1]
        (framed(0x30, string(b"a\x00") + b"\x00"), 0x81),  # [MQTT-4.7.3-2]
        (framed(0x30, string(b"") + b"\x00"), 0x82),  # [MQTT-4.7.3-1]
        (framed(0x32, string(b"t") + b"\x00\x00\x00"), 0x82),  # [MQTT-2.2.1-2] has an id where there is QoS
        (framed(0x30, string(b"t") + b"\x05\x08\x00\x02\xff\xff"), 0x81),  # [MQTT-3.3.2-13]
        (framed(0x30, string(b"t") + b"\x05\x03\x00\x02\xff\xff"), 0x81),  # [MQTT-3.3.2-19]
        (framed(0x30, string(b"t") + b"\x02\x0b\x01"), 0x82),  # [MQTT-3.3.4-6]
        (framed(0x30, string(b"t") + b"\x03\x23\x00\x00"), 0x94),  # [MQTT-3.3.2-8]
        (framed(0x30, string(b"") + b"\x03\x23\x00\x01"), 0x82),  # an alias that was never set
        (b"\x30\x84\x00\x00\x01t\x00", 0x81),  # [MQTT-1.5.5-1] a remaining length of two bytes that needs one
    ],
)
def test_a_publish_that_is_none_ends_the_connection(raw: bytes, code: int) -> None:
    engine = Engine()
    listener = subscriber(engine)
    peer = connected5(engine, b"w")
    peer.write(raw)
    assert peer.read() == [Disconnect(code)]  # [MQTT-4.13.1-1]
    assert peer.closed
    assert publishes(listener) == []


def test_topics_are_bytes_that_nobody_normalizes() -> None:
    engine = Engine()
    names = [b"A", b"a", b"\xef\xbb\xbfa", "\u00e9".encode(), "e\u0301".encode(), b"/", b"a/", b"a//b"]
    listener = subscriber(engine)
    writer = connected5(engine, b"w")
    writer.send(*[Publish(name, b"") for name in names])
    # [MQTT-4.7.3-4] [MQTT-1.5.4-3] [MQTT-3.3.2-3]
    assert [packet.topic for packet in publishes(listener)] == names
    long = b"x" * 65_535
    writer.send(Publish(long, b""))  # [MQTT-4.7.3-3]
    assert [packet.topic for packet in publishes(listener)] == [long]


def test_an_alias_is_set_anew_and_forgotten_with_its_connection() -> None:
    engine = Engine()
    listener = subscriber(engine, 0)
    writer = connected5(engine, b"w")
    for alias in range(1, 11):  # [MQTT-3.3.2-12]
        named = Properties({TOPIC_ALIAS: alias})
        writer.send(Publish(b"t%d" % alias, b"", properties=named), Publish(b"", b"", properties=named))
    assert [packet.topic for packet in publishes(listener)] == [
        b"t%d" % (index // 2 + 1) for index in range(20)
    ]
    writer.send(Publish(b"other", b"", properties=Properties({TOPIC_ALIAS: 1})))
    writer.send(Publish(b"", b"", 1, packet_id=1, properties=Properties({TOPIC_ALIAS: 1})))
    assert [packet.topic for packet in publishes(listener)] == [b"other", b"other"]
    again = connected5(engine, b"w")
    again.send(Publish(b"", b"", properties=Properties({TOPIC_ALIAS: 1})))  # [MQTT-3.3.2-7]
    assert again.read() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


# --- properties -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_properties_are_handed_on_unaltered_live_retained_and_queued(qos: int, retain: bool) -> None:
    # [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    properties = Properties(
        {PAYLOAD_FORMAT: 0},
        {RESPONSE_TOPIC: b"r/\xc3\xa9", CORRELATION_DATA: b"", CONTENT_TYPE: b""},
        [(b"k", b"2"), (b"k", b"1"), (b"", b"")],
    )
    engine = Engine()
    away = subscriber(engine, client_id=b"away")
    away.drop()
    live = subscriber(engine, 2 | 8)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"p", qos, retain, False, 1 if qos else 0, properties))
    if qos == 2:
        writer.send(Pubrel(1))
    (publish,) = publishes(live)
    assert (publish.properties, publish.qos, publish.retain) == (properties, qos, retain)
    if qos:
        (publish,) = publishes(back(engine, b"away"))
        assert (publish.properties, publish.qos, publish.retain) == (properties, qos, False)
    late = connected5(engine, b"late")
    late.send(Subscribe(1, ((b"t", 2),)))
    assert [packet.properties for packet in publishes(late)] == ([properties] if retain else [])


def test_an_expiry_of_nothing_reaches_who_is_here_now() -> None:
    engine = Engine()
    engine.now = 5.0
    listener, away = subscriber(engine), subscriber(engine, client_id=b"away")
    away.drop()
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"", 1, True, packet_id=1, properties=Properties({MESSAGE_EXPIRY: 0})))
    (publish,) = publishes(listener)
    assert publish.properties.numbers == {MESSAGE_EXPIRY: 0}
    engine.now += 0.1
    assert publishes(back(engine, b"away")) == []  # [MQTT-3.3.2-5]
    late = connected5(engine, b"late")
    late.send(Subscribe(1, ((b"t", 0),)))
    assert publishes(late) == []
    engine.expire()
    assert len(engine.retained) == 0


def test_what_has_been_sent_does_not_expire_any_more() -> None:
    engine = Engine()
    peer = subscriber(engine)
    connected5(engine, b"w").send(
        Publish(b"t", b"", 2, packet_id=1, properties=Properties({MESSAGE_EXPIRY: 5})), Pubrel(1)
    )
    assert len(publishes(peer)) == 1
    peer.drop()
    engine.now += 10
    engine.expire()
    again = back(engine)
    assert [packet.dup for packet in publishes(again)] == [True]  # [MQTT-4.3.3-7]
    again.send(Pubrec(1))
    assert again.read() == [Pubrel(1)]  # [MQTT-4.3.3-13]


# --- retained messages ------------------------------------------------------------------------------------


def test_a_retained_message_replaces_the_one_before_and_an_empty_one_removes_it() -> None:
    engine = Engine()
    listener = subscriber(engine)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"1", 0, True), Publish(b"t", b"2", 0, True))
    kept = engine.retained.get(b"t")
    assert kept is not None
    assert kept.payload == b"2"  # [MQTT-3.3.1-5]
    writer.send(Publish(b"t", b"3"))
    assert engine.retained.get(b"t") is kept  # [MQTT-3.3.1-8]
    writer.send(Publish(b"t", b"", 0, True))
    assert engine.retained.get(b"t") is None  # [MQTT-3.3.1-6] [MQTT-3.3.1-7]
    # All were handed on, none as retained [MQTT-3.3.1-12].
    assert [(packet.payload, packet.retain) for packet in publishes(listener)] == [
        (b"1", False),
        (b"2", False),
        (b"3", False),
        (b"", False),
    ]


# --- QoS 0, 1, 2 ------------------------------------------------------------------------------------------


def test_at_qos_0_a_publish_goes_once_without_id() -> None:
    engine = Engine()
    listener = subscriber(engine, 0)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"x", 2, packet_id=9), Pubrel(9))
    # [MQTT-4.3.1-1] [MQTT-2.2.1-2] [MQTT-3.8.4-8]
    assert publishes(listener) == [Publish(b"t", b"x")]
    assert writer.read() == [Pubrec(9), Pubcomp(9)]


def test_each_message_has_an_id_of_its_own_until_it_is_acknowledged() -> None:
    engine = Engine(window=Window(inflight_messages=0))
    peer = subscriber(engine)
    writer = connected5(engine, b"w")
    for packet_id in (1, 2, 3):
        writer.send(Publish(b"t", b"%d" % packet_id, 1 + packet_id % 2, packet_id=packet_id))
        if packet_id % 2:
            writer.send(Pubrel(packet_id))
    sent = publishes(peer)
    # [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT-3.3.1-3]
    assert [(packet.packet_id, packet.dup, packet.qos) for packet in sent] == [
        (1, False, 2),
        (2, False, 1),
        (3, False, 2),
    ]
    outbound = engine.sessions[b"s"].outbound
    outbound.last_packet_id = 65_535
    writer.send(Publish(b"t", b"", 1, packet_id=4))
    assert [packet.packet_id for packet in publishes(peer)] == [4]  # the first that is free
    peer.send(Puback(2), Pubrec(1))
    assert peer.read() == [Pubrel(1)]  # [MQTT-2.2.1-5] [MQTT-4.3.3-4]
    peer.drop()
    again = back(engine)
    # [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.6.0-5]
    assert again.read() == [
        Pubrel(1),
        Publish(b"t", b"3", 2, False, True, 3),
        Publish(b"t", b"", 1, False, True, 4),
    ]
    again.send(Pubcomp(1), Puback(4, ReasonCode.UNSPECIFIED_ERROR), Pubrec(3, ReasonCode.QUOTA_EXCEEDED))
    again.drop()
    assert back(engine).read() == []  # [MQTT-4.4.0-2]


def test_the_broker_answers_by_qos_and_a_repeated_id_is_a_new_message() -> None:
    engine = Engine()
    listener = subscriber(engine)
    writer = connected5(engine, b"w")
    again = Publish(b"t", b"x", 1, dup=True, packet_id=5)
    writer.send(Publish(b"t", b"x", 1, packet_id=5), again)
    # [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.2-5] [MQTT-2.2.1-6]
    assert writer.read() == [Puback(5), Puback(5)]
    assert len(publishes(listener)) == 2


def test_a_message_of_qos_2_is_handed_on_once_however_often_it_comes() -> None:
    engine = Engine()
    listener = subscriber(engine)
    writer = connected5(engine, b"w", properties=KEPT)
    message = Publish(b"t", b"x", 2, packet_id=5)
    repeated = Publish(b"t", b"x", 2, dup=True, packet_id=5)
    writer.send(message, repeated)
    assert writer.read() == [Pubrec(5), Pubrec(5)]  # [MQTT-4.3.3-8] [MQTT-4.3.3-10]
    writer.drop()
    writer = back(engine, b"w")
    writer.send(repeated, Pubrel(5), Pubrel(5))
    assert writer.read() == [Pubrec(5), Pubcomp(5), Pubcomp(5)]  # [MQTT-4.3.3-11]
    assert len(publishes(listener)) == 1
    writer.send(message, Pubrel(5))  # [MQTT-4.3.3-12]
    assert len(publishes(listener)) == 1


def test_a_refused_message_of_qos_2_leaves_its_id_free() -> None:
    policy = Policy(message_size_limit=3)
    engine = Engine(policy)
    listener = subscriber(engine)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"too long", 2, packet_id=5))
    assert writer.read() == [Pubrec(5, ReasonCode.QUOTA_EXCEEDED)]
    writer.send(Publish(b"t", b"new", 2, packet_id=5), Pubrel(5))  # [MQTT-4.3.3-9]
    assert writer.read() == [Pubrec(5), Pubcomp(5)]
    assert [packet.payload for packet in publishes(listener)] == [b"new"]
    writer.send(Publish(b"t", b"ok", 2, packet_id=6))
    policy.message_size_limit = 1
    writer.send(Publish(b"t", b"ok", 2, dup=True, packet_id=6))
    assert writer.read() == [Pubrec(6), Pubrec(6, ReasonCode.QUOTA_EXCEEDED)]
    inbound = engine.sessions[b"w"].inbound
    assert inbound is not None
    assert not inbound.has(6)


def test_messages_keep_their_order_for_each_subscriber() -> None:
    engine = Engine(window=Window(inflight_messages=1))
    peer = subscriber(engine, 1)
    writer = connected5(engine, b"w")
    for number in range(6):
        writer.send(Publish(b"t", b"%d" % number, 1, packet_id=1))
    seen = publishes(peer)
    while seen[-1].payload != b"5":
        peer.send(Puback(seen[-1].packet_id))
        seen += publishes(peer)
    assert [packet.payload for packet in seen] == [b"%d" % number for number in range(6)]  # [MQTT-4.6.0-6]


# --- quotas -----------------------------------------------------------------------------------------------


def test_the_quota_begins_anew_with_each_connection_and_only_publish_waits_for_it() -> None:
    engine = Engine(window=Window(inflight_messages=0))
    peer = subscriber(engine, properties=Properties({SESSION_EXPIRY: 9, RECEIVE_MAXIMUM: 4}))
    writer = connected5(engine, b"w")
    for number in range(6):
        writer.send(Publish(b"t", b"%d" % number, 1, packet_id=1))
    assert [packet.payload for packet in publishes(peer)] == [b"0", b"1", b"2", b"3"]  # [MQTT-4.9.0-1]
    peer.send(Pingreq())
    assert peer.read() == [Pingresp()]  # [MQTT-3.3.4-10] [MQTT-4.9.0-3]
    peer.send(Puback(1))
    assert [packet.payload for packet in publishes(peer)] == [b"4"]
    peer.drop()
    small = back(engine, properties=Properties({SESSION_EXPIRY: 9, RECEIVE_MAXIMUM: 1}))
    seen = []
    for expected in (b"1", b"2", b"3", b"4", b"5"):
        (publish,) = publishes(small)  # [MQTT-4.9.0-2] [MQTT-3.3.4-9]
        assert publish.payload == expected
        seen.append(publish.dup)
        small.send(Puback(publish.packet_id))
    assert seen == [True, True, True, True, False]


def test_a_message_in_flight_that_the_new_connection_is_too_small_for_is_let_go() -> None:
    engine = Engine()
    peer = subscriber(engine)
    connected5(engine, b"w").send(
        Publish(b"t", b"x" * 100, 1, packet_id=1), Publish(b"t", b"y", 1, packet_id=1)
    )
    assert len(publishes(peer)) == 2
    peer.drop()
    again = back(engine, properties=Properties({SESSION_EXPIRY: 9, MAXIMUM_PACKET_SIZE: 50}))
    assert [packet.payload for packet in publishes(again)] == [b"y"]  # [MQTT-3.1.2-25]
    assert engine.counters.dropped_too_large == 1
    assert engine.sessions[b"s"].outbound.inflight_count() == 1


def test_more_at_a_time_than_the_broker_said_ends_the_connection() -> None:
    peer = connected5(Engine(window=Window(inflight_messages=1)))
    peer.send(Publish(b"t", b"", 2, packet_id=1), Publish(b"t", b"", 2, dup=True, packet_id=1))
    assert peer.read() == [Pubrec(1), Pubrec(1)]  # the same one again is not one more
    peer.send(Publish(b"t", b"", 2, packet_id=2))
    assert peer.read() == [Disconnect(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)]  # [MQTT-3.3.4-7]


@pytest.mark.parametrize("stray", [Puback(9), Pubcomp(9), Pubrec(9, ReasonCode.UNSPECIFIED_ERROR)])
def test_an_acknowledgement_of_nothing_is_left_alone(stray: Packet) -> None:
    peer = connected5(Engine())
    peer.send(stray, Pingreq())
    assert peer.read() == [Pingresp()]


def test_overlapping_subscriptions_bring_one_copy_at_the_highest_qos() -> None:
    engine = Engine()
    peer = connected5(engine, b"s")
    for number, (topic_filter, qos) in enumerate(((b"a/#", 1), (b"a/+", 2), (b"+/b", 0)), 1):
        peer.send(Subscribe(1, ((topic_filter, qos),), Properties(subscription_ids=[number])))
    peer.read()
    writer = connected5(engine, b"w")
    writer.send(Publish(b"a/b", b"", 2, packet_id=1), Pubrel(1))
    (publish,) = publishes(peer)
    assert publish.qos == 2  # [MQTT-3.3.4-2]
    assert sorted(publish.properties.subscription_ids) == [1, 2, 3]  # [MQTT-3.3.4-3]
    assert publish.properties.numbers == NO_PROPERTIES.numbers
