"""MQTT 5.0 §3.1, §3.2, §3.14, §3.15, §4.12, §4.13: how a connection begins and ends, statement by statement."""

from __future__ import annotations

import pytest
from support.packet_case import framed, string
from support.peer import Peer, connected
from support.peer5 import Peer5, connected5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.links.listening.door import Door
from protocol.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Will,
)
from protocol.mqtt.v5.codec import encode
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    AUTHENTICATION_METHOD,
    CONTENT_TYPE,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    REASON_STRING,
    REQUEST_PROBLEM_INFORMATION,
    REQUEST_RESPONSE_INFORMATION,
    RESPONSE_INFORMATION,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY,
    TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
    WILL_DELAY,
)
from protocol.mqtt.v5.reasons import ReasonCode

CONNECT = b"\x00\x04MQTT\x05"


def door(**settings: object) -> Door:
    limits = Limits(
        max_packet_size_bytes=settings.pop("max_packet_size", 0),  # type: ignore[arg-type]
        message_size_limit_bytes=settings.pop("message_size_limit", 0),  # type: ignore[arg-type]
    )
    listener = Listener(port=1883, security=Security(allow_anonymous=True), **settings)  # type: ignore[arg-type]
    return Door(listener, limits)


def watcher(engine: Engine, topic_filter: bytes = b"#", options: int = 0) -> Peer5:
    peer = connected5(engine, b"watcher")
    peer.send(Subscribe(1, ((topic_filter, options),)))
    assert isinstance(peer.read()[0], Suback)
    return peer


def raw_connect(flags: int, payload: bytes, properties: bytes = b"\x00") -> bytes:
    return framed(0x10, CONNECT + bytes([flags]) + b"\x00\x3c" + properties + payload)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (encode(Pingreq()), b""),  # [MQTT-3.1.0-1]
        (encode(Publish(b"t", b"")), b""),
        (framed(0x10, b"\x00\x04MQTX\x05\x02\x00\x3c\x00" + string(b"c")), None),  # [MQTT-3.1.2-1]
        # A later version is told in 5.0's way, an earlier one, and one by 3.1's name, in that of 3.1 [MQTT-3.1.2-2]
        (framed(0x10, b"\x00\x04MQTT\x06\x02\x00\x3c\x00" + string(b"c")), b"\x20\x03\x00\x84\x00"),
        (framed(0x10, b"\x00\x04MQTT\x63\x02\x00\x3c\x00" + string(b"c")), b"\x20\x03\x00\x84\x00"),
        (framed(0x10, b"\x00\x04MQTT\x00\x02\x00\x3c" + string(b"c")), b"\x20\x02\x00\x01"),
        (framed(0x10, b"\x00\x06MQIsdp\x00\x02\x00\x3c" + string(b"c")), b"\x20\x02\x00\x01"),
        (framed(0x10, b"\x00\x06MQIsdp\x09\x02\x00\x3c" + string(b"c")), b"\x20\x02\x00\x01"),
        # Will flag, and no will; will flag, and no will payload [MQTT-3.1.2-9] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
        (raw_connect(6, string(b"c")), b"\x20\x03\x00\x81\x00"),
        (raw_connect(6, string(b"c") + b"\x00" + string(b"w")), b"\x20\x03\x00\x81\x00"),
        # A will topic, a client id and a user name that are no text [MQTT-3.1.3-11] [MQTT-3.1.3-4] [MQTT-3.1.3-12]
        (raw_connect(6, string(b"c") + b"\x00" + string(b"\xff") + string(b"")), b"\x20\x03\x00\x81\x00"),
        (raw_connect(2, string(b"\xff")), b"\x20\x03\x00\x81\x00"),
        (raw_connect(0x82, string(b"c") + string(b"\xff")), b"\x20\x03\x00\x81\x00"),
        # A name, a password, that no flag announces [MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT-3.1.4-1]
        (raw_connect(2, string(b"c") + string(b"u")), b"\x20\x03\x00\x81\x00"),
        (raw_connect(0x82, string(b"c") + string(b"u") + string(b"p")), b"\x20\x03\x00\x81\x00"),
        # ... and one that a flag announces, and that is not there [MQTT-3.1.2-17] [MQTT-3.1.2-19]
        (raw_connect(0x82, string(b"c")), b"\x20\x03\x00\x81\x00"),
        (raw_connect(0xC2, string(b"c") + string(b"u")), b"\x20\x03\x00\x81\x00"),
        # A surrogate in a user property [MQTT-1.5.7-1]
        (raw_connect(2, string(b"c"), b"\x08\x26\x00\x03\xed\xa0\x80\x00\x00"), b"\x20\x03\x00\x81\x00"),
    ],
)
def test_a_connect_that_is_none_is_not_let_in(sent: bytes, answer: bytes | None) -> None:
    """And what is told has the form of 5.0 where 5.0 was asked for [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.14.0-1]."""
    engine = Engine()
    peer = Peer5(engine)
    peer.write(sent)
    data = peer.read_bytes()
    if answer is None:
        assert data == b"" or (data[0] == 0x20 and data[2] == 0 and data[3] in (1, 0x84))
    else:
        assert data == answer
    assert peer.closed
    assert not engine.sessions


def test_a_password_needs_no_user_name() -> None:
    peer = Peer5(Engine())
    peer.write(raw_connect(0x42, string(b"c") + string(b"\x00\xff")))
    assert isinstance(peer.read()[0], Connack)
    assert not peer.closed


def test_a_second_connect_is_a_protocol_error() -> None:
    engine = Engine()
    peer = connected5(engine, b"c")
    peer.send(Connect(b"c", True, 60, 5), Pingreq())
    assert peer.read() == [
        Disconnect(ReasonCode.PROTOCOL_ERROR)
    ]  # [MQTT-3.1.0-2] [MQTT-4.13.2-1] [MQTT-3.2.0-2]
    assert peer.closed
    assert not engine.sessions


def test_what_follows_a_refused_connect_is_not_looked_at() -> None:
    engine = Engine()
    listener = watcher(engine)
    peer = Peer5(engine, Door(Listener(port=1883), Limits()))
    peer.send(Connect(b"c", True, 60, 5), Publish(b"t", b"x"))  # [MQTT-3.1.4-6]
    assert peer.read() == [Connack(False, ReasonCode.NOT_AUTHORIZED)]  # [MQTT-3.1.4-2] [MQTT-3.2.2-8]
    assert listener.read() == []


def test_what_follows_an_accepted_connect_in_the_same_receive_is_answered_after_its_connack() -> None:
    peer = Peer5(Engine())
    peer.send(Connect(b"c", True, 60, 5), Pingreq())
    first, second = peer.read()  # [MQTT-3.2.0-1] [MQTT-3.1.4-5] [MQTT-3.12.4-1]
    assert isinstance(first, Connack)
    assert first.return_code == 0
    assert second == Pingresp()


def test_the_first_byte_of_connack_has_only_session_present() -> None:
    engine = Engine()
    for clean, present in ((True, 0), (False, 1), (True, 0)):
        peer = Peer5(engine)
        peer.send(Connect(b"c", clean, 60, 5, properties=Properties({SESSION_EXPIRY: 9})))
        data = peer.read_bytes()
        # [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.4-4]
        assert data[2] == present
        peer.drop()


def test_state_belongs_to_a_client_id() -> None:
    engine = Engine()
    first = connected5(engine, b"one", properties=Properties({SESSION_EXPIRY: 9}))
    first.send(Subscribe(1, ((b"t", 1),)))
    first.drop()
    connected5(engine, b"two", clean=False)  # [MQTT-3.1.3-2]
    connected5(engine, b"one", clean=False, properties=Properties({SESSION_EXPIRY: 9}), present=True)


@pytest.mark.parametrize("clean", [True, False])
def test_a_client_without_an_id_gets_one_of_its_own(clean: bool) -> None:
    engine = Engine()
    names = set()
    for _ in range(2):
        peer = Peer5(engine)
        peer.send(Connect(b"", clean, 60, 5))
        (connack,) = peer.read()
        assert isinstance(connack, Connack)
        names.add(connack.properties.texts[ASSIGNED_CLIENT_ID])  # [MQTT-3.1.3-6] [MQTT-3.2.2-16]
    assert names == set(engine.sessions)
    assert len(names) == 2


def test_an_id_of_letters_and_digits_is_taken_and_one_that_is_not_allowed_refused() -> None:
    connected5(Engine(), b"0123456789abcdefXYZABCD")  # [MQTT-3.1.3-5]
    strict = Door(Listener(port=1883, security=Security(allow_zero_length_clientid=False)), Limits())
    peer = Peer5(Engine(), strict)
    peer.send(Connect(b"", True, 60, 5))
    assert peer.read() == [Connack(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)]  # [MQTT-3.1.3-8]
    assert peer.closed


def test_a_client_that_is_silent_for_one_and_a_half_times_its_keep_alive_is_told_and_closed() -> None:
    engine = Engine()
    peer = connected5(engine)  # 60 s
    engine.now = 89.0
    assert not peer.link.silent_too_long()
    engine.now = 91.0
    assert peer.link.silent_too_long()  # [MQTT-3.1.2-22] [MQTT-3.2.2-22]
    never = Peer5(engine)
    never.send(Connect(b"never", True, 0, 5))
    engine.now = 1e9
    assert not never.link.silent_too_long()


@pytest.mark.parametrize(
    ("longest", "wanted", "told"),
    [
        (0, 0, None),
        (0, 65_535, None),
        (10, 10, None),
        (10, 11, 10),
        (10, 0, 10),
        (65_535, 0, 65_535),
        (65_535, 65_535, None),
    ],
)
def test_a_server_keep_alive_is_told_where_the_client_asks_for_more(
    longest: int, wanted: int, told: int | None
) -> None:
    peer = Peer5(Engine(), door(max_keepalive_s=longest))
    peer.send(Connect(b"c", True, wanted, 5))
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    assert connack.properties.numbers.get(SERVER_KEEP_ALIVE) == told  # [MQTT-3.2.2-21]


def test_the_servers_keep_alive_is_the_one_that_counts() -> None:
    engine = Engine()
    peer = Peer5(engine, door(max_keepalive_s=10))
    peer.send(Connect(b"c", True, 60, 5))
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    assert connack.properties.numbers[SERVER_KEEP_ALIVE] == 10
    engine.now = 16.0
    assert peer.link.silent_too_long()


def test_a_client_that_takes_no_packet_as_long_as_its_connack_is_closed_without_one() -> None:
    engine = Engine()
    peer = Peer5(engine)
    peer.send(Connect(b"", True, 60, 5, properties=Properties({MAXIMUM_PACKET_SIZE: 5})))
    assert peer.read_bytes() == b""  # [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20]
    assert peer.closed
    assert (engine.connected, engine.sessions) == (0, {})


def test_an_answer_longer_than_the_client_takes_is_not_sent() -> None:
    peer = connected5(Engine(), properties=Properties({MAXIMUM_PACKET_SIZE: 20}))
    peer.send(Subscribe(1, tuple((b"%d" % index, 0) for index in range(30))))
    assert peer.read() == [Disconnect(ReasonCode.PACKET_TOO_LARGE)]


def test_nothing_is_said_that_was_not_asked_for() -> None:
    """No response information, no reason strings, no user properties of the broker's own."""
    # [MQTT-3.1.2-28] [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2]
    # [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
    # [MQTT-3.14.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    for wants in (0, 1):
        peer = Peer5(Engine(Policy(message_size_limit=3)))
        asked = Properties({REQUEST_PROBLEM_INFORMATION: wants, REQUEST_RESPONSE_INFORMATION: wants})
        peer.send(Connect(b"c", True, 60, 5, properties=asked))
        (connack,) = peer.read()
        assert isinstance(connack, Connack)
        assert not {RESPONSE_INFORMATION, REASON_STRING} & set(connack.properties.texts)
        assert connack.properties.user == []
        peer.send(Publish(b"t", b"too long", 1, packet_id=1), Connect(b"c", True, 60, 5))
        puback, disconnect = peer.read()
        assert isinstance(puback, Puback)
        assert (puback.reason_code, puback.properties) == (ReasonCode.QUOTA_EXCEEDED, NO_PROPERTIES)
        assert disconnect == Disconnect(ReasonCode.PROTOCOL_ERROR)


# --- wills ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_published_as_it_was_given(retain: bool) -> None:
    engine = Engine()
    listener = watcher(engine, options=8 | 2)
    properties = Properties({}, {CONTENT_TYPE: b"x"}, [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")])
    connected5(engine, will=Will(b"w", b"gone", 1, retain, properties)).drop()  # [MQTT-3.1.2-7]
    (publish,) = listener.read()
    # [MQTT-3.1.2-8] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.3-10]
    assert publish == Publish(b"w", b"gone", 1, retain, packet_id=1, properties=properties)
    assert (engine.retained.get(b"w") is not None) == retain


def test_the_properties_of_a_will_stay_in_their_order() -> None:
    """But those that are the broker's: its delay, and its expiry, of which what is left comes last."""
    engine = Engine()
    listener = watcher(engine)
    first, delay, expiry, topic, last = (
        b"\x26\x00\x01a\x00\x011",
        b"\x18\x00\x00\x00\x00",
        b"\x02\x00\x00\x00\x09",
        b"\x08\x00\x01r\x01\x01",
        b"\x26\x00\x01a\x00\x012",
    )
    properties = first + delay + expiry + topic + last
    peer = Peer5(engine)
    will = bytes((len(properties),)) + properties + string(b"w") + string(b"gone")
    peer.write(raw_connect(2 | 4, string(b"c") + will))
    peer.drop()
    forwarded = first + topic + last + expiry
    expected = framed(0x30, string(b"w") + bytes((len(forwarded),)) + forwarded + b"gone")
    assert listener.read_bytes() == expected  # [MQTT-3.1.3-10]


@pytest.mark.parametrize(
    ("code", "published"),
    [(0, 0), (ReasonCode.DISCONNECT_WITH_WILL, 1), (ReasonCode.UNSPECIFIED_ERROR, 1)],
)
def test_a_goodbye_removes_the_will_only_if_it_is_a_normal_one(code: int, published: int) -> None:
    engine = Engine()
    listener = watcher(engine)
    peer = connected5(engine, will=Will(b"w", b"gone", 0, False))
    peer.send(Disconnect(code), Publish(b"t", b"late"))  # [MQTT-3.14.4-3] [MQTT-3.1.2-10]
    assert len(listener.read()) == published
    assert peer.read_bytes() == b""  # [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    assert peer.closed


@pytest.mark.parametrize(
    ("clean", "delay", "published"), [(True, 0, 1), (False, 0, 1), (True, 10, 1), (False, 10, 0)]
)
def test_the_will_of_a_session_that_is_taken_over(clean: bool, delay: int, published: int) -> None:
    """§3.1.3.2.2: it goes out unless the new connection goes on with the session and the delay is not over."""
    engine = Engine()
    listener = watcher(engine)
    kept = Properties({SESSION_EXPIRY: 100})
    will = Will(b"w", b"gone", 0, False, Properties({WILL_DELAY: delay}))
    connected5(engine, will=will, properties=kept)
    connected5(engine, clean=clean, properties=kept, present=not clean)
    engine.flush()
    assert len(listener.read()) == published


@pytest.mark.parametrize(
    ("policy", "settings", "will", "code"),
    [
        (Policy(), {"max_qos": 1}, Will(b"w", b"", 2, False), ReasonCode.QOS_NOT_SUPPORTED),
        (
            Policy(retain_available=False),
            {},
            Will(b"w", b"", 0, True),
            ReasonCode.RETAIN_NOT_SUPPORTED,
        ),
        (
            Policy(message_size_limit=3),
            {"message_size_limit": 3},
            Will(b"w", b"four", 0, False),
            ReasonCode.PACKET_TOO_LARGE,
        ),
    ],
)
def test_a_will_that_could_not_be_published_is_refused(
    policy: Policy, settings: dict[str, object], will: Will, code: int
) -> None:
    peer = Peer5(Engine(policy), door(**settings))
    peer.send(Connect(b"c", True, 60, 5, will))
    told = Properties({MAXIMUM_QOS: 1} if code == ReasonCode.QOS_NOT_SUPPORTED else {})
    assert peer.read() == [Connack(False, code, told)]  # [MQTT-3.2.2-9] [MQTT-3.2.2-12] [MQTT-3.2.2-13]
    assert peer.closed


@pytest.mark.parametrize(
    ("connect", "code"),
    [
        (raw_connect(2, string(b"c\xff")), ReasonCode.MALFORMED_PACKET),
        (raw_connect(2, string(b"c"), b"\x06" + 2 * b"\x21\x00\x01"), ReasonCode.PROTOCOL_ERROR),
    ],
)
def test_whoever_is_not_let_in_is_told_a_lower_maximum_qos(connect: bytes, code: int) -> None:
    """As Mosquitto, whatever the reason [MQTT-3.2.2-9]."""
    peer = Peer5(Engine(), door(max_qos=0))
    peer.write(connect)
    assert peer.read() == [Connack(False, code, Properties({MAXIMUM_QOS: 0}))]


@pytest.mark.parametrize("level", [4, 5])
def test_the_longest_packet_is_counted_as_by_mosquitto(level: int) -> None:
    """With its first byte, without its length: one of 52 bytes is over a limit of 50, and one of 51 is not."""
    connect = connected5 if level == 5 else connected
    for body_bytes, closes in ((49, False), (50, True)):
        peer = connect(Engine(), door=door(max_packet_size=50))
        peer.write(framed(0x30, string(b"a") + bytes(body_bytes - 3)))
        assert peer.closed is closes


# --- what CONNACK said holds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sent", "code"),
    [
        ({"max_qos": 1}, Publish(b"t", b"", 2, packet_id=1), ReasonCode.QOS_NOT_SUPPORTED),  # [MQTT-3.2.2-11]
        ({"max_packet_size": 50}, Publish(b"t", b"x" * 60), ReasonCode.PACKET_TOO_LARGE),  # [MQTT-3.2.2-15]
        (
            {"max_topic_alias": 3},
            Publish(b"t", b"", properties=Properties({TOPIC_ALIAS: 4})),
            ReasonCode.TOPIC_ALIAS_INVALID,  # [MQTT-3.2.2-17] [MQTT-3.3.2-9]
        ),
        (
            {"max_topic_alias": 0},
            Publish(b"t", b"", properties=Properties({TOPIC_ALIAS: 1})),
            ReasonCode.TOPIC_ALIAS_INVALID,
        ),
        ({}, Auth(0x18, Properties(texts={AUTHENTICATION_METHOD: b"m"})), ReasonCode.PROTOCOL_ERROR),
    ],
)
def test_what_connack_ruled_out_ends_the_connection(
    settings: dict[str, object], sent: Packet, code: int
) -> None:
    peer = connected5(Engine(), door=door(**settings))
    peer.send(sent)
    assert peer.read() == [Disconnect(code)]
    assert peer.closed


def test_a_lower_maximum_qos_still_takes_any_subscription() -> None:
    peer = connected5(Engine(), door=door(max_qos=1))
    peer.send(Subscribe(1, ((b"a", 0), (b"b", 1), (b"c", 2))))
    assert peer.read() == [Suback(1, (0, 1, 1))]  # [MQTT-3.2.2-10]


def test_aliases_to_a_client_stay_within_what_it_and_the_broker_allow() -> None:
    engine = Engine()
    for wanted, allowed, expected in ((0, 10, 0), (2, 10, 2), (10, 1, 1), (10, 0, 0)):
        peer = connected5(
            engine,
            door=door(max_topic_alias_broker=allowed),
            properties=Properties({TOPIC_ALIAS_MAXIMUM: wanted}),
        )
        peer.send(Subscribe(1, ((b"#", 0),)))
        peer.read()
        connected5(engine, b"w").send(*[Publish(b"topic %d" % (index % 4), b"") for index in range(8)])
        packets = [packet for packet in peer.read() if isinstance(packet, Publish)]
        aliases = {packet.properties.numbers.get(TOPIC_ALIAS, 0) for packet in packets}
        # [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
        assert max(aliases) == expected
        assert sum(not packet.topic for packet in packets) == expected
        peer.drop()


def test_a_session_never_outlives_what_the_broker_allows_and_the_client_is_told() -> None:
    engine = Engine(Policy(persistent_client_expiration_s=60.0))
    peer = Peer5(engine)
    peer.send(Connect(b"c", False, 60, 5, properties=Properties({SESSION_EXPIRY: 0xFFFF_FFFF})))
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    assert connack.properties.numbers[SESSION_EXPIRY] == 60
    peer.drop()
    engine.now = 61.0
    engine.expire()
    assert not engine.sessions  # [MQTT-4.1.0-2]


def test_a_method_is_refused_and_its_answer_awaits_nothing() -> None:
    peer = Peer5(Engine())
    peer.send(Connect(b"c", True, 60, 5, properties=Properties(texts={AUTHENTICATION_METHOD: b"SCRAM"})))
    (connack,) = peer.read()
    assert isinstance(connack, Connack)
    assert AUTHENTICATION_METHOD not in connack.properties.texts  # [MQTT-4.12.0-6]


def test_a_session_of_5_0_taken_on_by_3_1_1_is_kept_as_3_1_1_keeps_it() -> None:
    engine = Engine()
    connected5(engine, properties=Properties({SESSION_EXPIRY: 5})).drop()
    peer = Peer(engine)
    peer.send(Connect(b"client", False, 60))
    peer.read()
    peer.drop()
    engine.now += 1000
    engine.expire()
    assert engine.sessions
