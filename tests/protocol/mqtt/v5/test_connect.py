"""CONNECT and CONNACK of 5.0: which statement a broken one breaks, and the order in which a CONNACK is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packet_case import string

from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.packets import Connack, Connect, Will
from protocol.mqtt.v5.codec import decode
from protocol.mqtt.v5.connect import CONNACK_ORDER, read_connack, read_connect, write_connack, write_connect
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    MESSAGE_EXPIRY,
    PAYLOAD_FORMAT,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    TOPIC_ALIAS_MAXIMUM,
    WILL_DELAY,
)

CONNECT = b"\x00\x04MQTT\x05\x02\x00\x3c"
CLIENT = b"\x00\x01c"
FORBIDDEN = [
    ("remaining property length missing", CONNECT, 0x81, "MQTT-1.5.5-1"),
    ("property length in two bytes", CONNECT + b"\x80\x00" + CLIENT, 0x81, "MQTT-1.5.5-1"),
    ("property length in five bytes", CONNECT + b"\x80\x80\x80\x80\x01" + CLIENT, 0x81, "MQTT-1.5.5-1"),
    ("properties longer than the packet", CONNECT + b"\x09" + CLIENT, 0x81, "MQTT-2.2.2-1"),
    ("receive maximum 0", CONNECT + b"\x03\x21\x00\x00" + CLIENT, 0x82, ""),
    ("maximum packet size 0", CONNECT + b"\x05\x27\x00\x00\x00\x00" + CLIENT, 0x82, ""),
    ("request problem information 2", CONNECT + b"\x02\x17\x02" + CLIENT, 0x82, ""),
    (
        "session expiry twice",
        CONNECT + b"\x0a" + b"\x11\x00\x00\x00\x01" * 2 + CLIENT,
        0x82,
        "",
    ),
    ("a property of PUBLISH", CONNECT + b"\x02\x01\x01" + CLIENT, 0x81, "MQTT-2.2.2-2"),
    ("a property that there is not", CONNECT + b"\x02\x7f\x01" + CLIENT, 0x81, "MQTT-2.2.2-2"),
    ("data without a method", CONNECT + b"\x04\x16\x00\x01a" + CLIENT, 0x82, "MQTT-3.1.2-30"),
    ("reserved flag", b"\x00\x04MQTT\x05\x03\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-3"),
    ("will QoS 3", b"\x00\x04MQTT\x05\x1e\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-12"),
    ("will QoS and no will", b"\x00\x04MQTT\x05\x0a\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-11"),
    ("will retain and no will", b"\x00\x04MQTT\x05\x22\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-13"),
    ("NUL in a client id", CONNECT + b"\x00" + string(b"\x00"), 0x81, "MQTT-1.5.4-2"),
    (
        "surrogate in a user property",
        CONNECT + b"\x08\x26\x00\x03\xed\xa0\x80\x00\x00" + CLIENT,
        0x81,
        "MQTT-1.5.4-1",
    ),
    ("nothing behind the flags", b"\x00\x04MQTT\x05\x02\x00", 0x81, "MQTT-3.1.4-1"),
    ("no client id", CONNECT + b"\x00\x00", 0x81, "MQTT-3.1.3-3"),
    ("a client id cut short", CONNECT + b"\x00\x00\x02c", 0x81, "MQTT-3.1.3-3"),
    ("no will topic", b"\x00\x04MQTT\x05\x06\x00\x3c\x00" + CLIENT + b"\x00", 0x81, "MQTT-3.1.2-9"),
    (
        "no will payload",
        b"\x00\x04MQTT\x05\x06\x00\x3c\x00" + CLIENT + b"\x00\x00\x01t",
        0x81,
        "MQTT-3.1.2-9",
    ),
    ("no user name", b"\x00\x04MQTT\x05\x82\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-17"),
    ("no password", b"\x00\x04MQTT\x05\x42\x00\x3c\x00" + CLIENT, 0x81, "MQTT-3.1.2-19"),
    ("bytes behind the last field", CONNECT + b"\x00" + CLIENT + b"\x00", 0x81, "MQTT-3.1.4-1"),
    (
        "a will property in CONNECT",
        CONNECT + b"\x05\x18\x00\x00\x00\x01" + CLIENT,
        0x81,
        "MQTT-2.2.2-2",
    ),
]


@pytest.mark.parametrize(("name", "body", "code", "tag"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_a_broken_connect_is_refused_with_its_code(name: str, body: bytes, code: int, tag: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(0x10, body)
    assert (refused.value.reason_code, refused.value.tag) == (code, tag)


def test_another_level_is_none_of_5_0() -> None:
    with pytest.raises(MalformedPacket, match="another protocol name or level"):
        read_connect(b"\x00\x04MQTT\x06\x02\x00\x3c\x00" + CLIENT)


def test_a_password_needs_no_user_name() -> None:
    packet = Connect(b"c", False, 0, 5, password=b"p")
    assert read_connect(write_connect(packet)) == packet


def test_the_receivers_of_a_will_get_what_is_theirs_of_its_properties() -> None:
    user = [(b"k", b"1"), (b"k", b"2")]
    properties = Properties({WILL_DELAY: 5, PAYLOAD_FORMAT: 1, MESSAGE_EXPIRY: 9}, user=user)
    packet = Connect(b"c", True, 60, 5, Will(b"t", b"gone", 2, True, properties))
    will = read_connect(write_connect(packet)).will
    assert will is not None
    assert will == packet.will
    assert will.properties.handed_on == b"\x01\x01" + b"\x26\x00\x01k\x00\x011" + b"\x26\x00\x01k\x00\x012"


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("clean", [False, True])
def test_flags_say_what_the_packet_has(qos: int, retain: bool, clean: bool) -> None:
    packet = Connect(b"c", clean, 0x1234, 5, Will(b"t", b"gone", qos, retain), b"u")
    body = write_connect(packet)
    assert body[7] == 0x84 | qos << 3 | retain << 5 | clean << 1
    assert body[8:] == b"\x12\x34\x00\x00\x01c\x00\x00\x01t\x00\x04gone\x00\x01u"
    assert read_connect(body) == packet


def test_a_bridge_says_so_in_the_highest_bit_of_the_level() -> None:
    body = write_connect(Connect(b"c", True, 60, 5, bridge=True))
    assert body[6] == 0x85
    assert read_connect(body).bridge


@pytest.mark.parametrize(
    ("body", "tag"),
    [
        (b"", ""),
        (b"\x00\x00", ""),
        (b"\x02\x00\x00", "MQTT-3.2.2-1"),
        (b"\x00\x01\x00", "MQTT-3.2.2-8"),
        (b"\x01\x87\x00", "MQTT-3.2.2-6"),
        (b"\x00\x00\x00\x00", ""),
        (b"\x00\x00\x03\x22\x00", "MQTT-2.2.2-1"),
    ],
)
def test_a_broken_connack_is_refused(body: bytes, tag: str) -> None:
    with pytest.raises(MalformedPacket) as refused:
        read_connack(body)
    assert refused.value.tag == tag


@given(st.permutations(CONNACK_ORDER))
def test_properties_of_a_connack_stand_in_one_order_whatever_they_were_set_in(order: list[int]) -> None:
    properties = Properties()
    values = {
        SERVER_KEEP_ALIVE: 1,
        TOPIC_ALIAS_MAXIMUM: 2,
        RETAIN_AVAILABLE: 0,
        MAXIMUM_PACKET_SIZE: 3,
        RECEIVE_MAXIMUM: 4,
        MAXIMUM_QOS: 1,
    }
    properties.texts[REASON_STRING] = b"r"
    for name in order:
        if name == ASSIGNED_CLIENT_ID:
            properties.texts[name] = b"c"
        else:
            properties.numbers[name] = values[name]
    body = write_connack(Connack(True, 0, properties))
    assert body[3:] == (
        b"\x13\x00\x01\x22\x00\x02\x12\x00\x01c\x25\x00\x27\x00\x00\x00\x03\x21\x00\x04\x24\x01\x1f\x00\x01r"
    )
    assert body[:3] == bytes((1, 0, len(body) - 3))
    assert read_connack(body) == Connack(True, 0, properties)
