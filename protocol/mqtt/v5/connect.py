"""CONNECT and CONNACK of MQTT 5.0.  §3.1, §3.2."""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolViolation
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.packets import Connack, Connect, Will
from protocol.mqtt.topics import check_text, check_topic_name
from protocol.mqtt.v5.properties import (
    NO_PROPERTIES,
    Properties,
    encode_number,
    encode_text,
    handed_on_of_will,
    read_properties,
)
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    TOPIC_ALIAS_MAXIMUM,
    WILL,
)
from protocol.mqtt.v5.reasons import ALLOWED

LEVEL: Final = 5
STARTS: Final = (b"\x00\x04MQTT\x05", b"\x00\x04MQTT\x85")
"""How the body of a CONNECT of 5.0 begins; with bit 7 of the level, the client is a bridge, as to mosquitto."""

CONNACK_ORDER: Final = (
    SERVER_KEEP_ALIVE,
    TOPIC_ALIAS_MAXIMUM,
    ASSIGNED_CLIENT_ID,
    RETAIN_AVAILABLE,
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    MAXIMUM_QOS,
)
"""How these follow each other: any order is right, this one is mosquitto's, and some tests compare bytes."""

_FIXED_BYTES: Final = 10
"""Protocol name, level, flags, keep alive."""


def read_connect(body: bytes) -> Connect:
    """Read what follows the fixed header of a CONNECT, which begins with one of `STARTS`.

    Raises:
        MalformedPacket, ProtocolViolation: with the statement that was broken and the code for the CONNACK.
    """
    if not body.startswith(STARTS):
        raise MalformedPacket("a CONNECT with another protocol name or level", "MQTT-3.1.2-1")
    if len(body) < _FIXED_BYTES:
        raise MalformedPacket("a CONNECT that ends before its properties", "MQTT-3.1.4-1")
    flags = body[7]
    will_qos = flags >> 3 & 3
    _check_flags(flags, will_qos)
    properties, position = read_properties(body, _FIXED_BYTES, len(body), 1)
    if AUTHENTICATION_DATA in properties.texts and AUTHENTICATION_METHOD not in properties.texts:
        raise ProtocolViolation("authentication data without a method", "MQTT-3.1.2-30")
    client_id, position = _text_at(body, position, "client id", "MQTT-3.1.3-3")
    check_text(client_id, "client id")
    will = None
    if flags & 4:
        properties_at = position
        will_properties, position = read_properties(body, properties_at, len(body), WILL)
        will_properties.handed_on = handed_on_of_will(body, properties_at, len(body))  # [MQTT-3.1.3-10]
        topic, position = _text_at(body, position, "will topic", "MQTT-3.1.2-9")
        check_topic_name(topic)
        payload, position = _text_at(body, position, "will payload", "MQTT-3.1.2-9")
        will = Will(topic, payload, will_qos, flags & 0x20 != 0, _or_none(will_properties))
    user_name = password = None
    if flags & 0x80:
        user_name, position = _text_at(body, position, "user name", "MQTT-3.1.2-17")
        check_text(user_name, "user name")
    if flags & 0x40:
        password, position = _text_at(body, position, "password", "MQTT-3.1.2-19")
    if position != len(body):
        raise MalformedPacket("a CONNECT with bytes behind its last field", "MQTT-3.1.4-1")
    return Connect(
        client_id,
        flags & 2 != 0,
        body[8] * 256 + body[9],
        LEVEL,
        will,
        user_name,
        password,
        body[6] & 0x80 != 0,
        _or_none(properties),
    )


def _check_flags(flags: int, will_qos: int) -> None:
    if flags & 1:
        raise MalformedPacket("a CONNECT whose reserved flag is set", "MQTT-3.1.2-3")
    if will_qos == 3:
        raise MalformedPacket("a CONNECT with will QoS 3", "MQTT-3.1.2-12")
    if flags & 4:
        return
    if will_qos != 0:
        raise MalformedPacket("a CONNECT with a will QoS but no will", "MQTT-3.1.2-11")
    if flags & 0x20:
        raise MalformedPacket("a CONNECT with will retain but no will", "MQTT-3.1.2-13")


def _text_at(body: bytes, position: int, what: str, tag: str) -> tuple[bytes, int]:
    start = position + 2
    if start > len(body):
        raise MalformedPacket(f"a CONNECT that ends before its {what}", tag)
    after = start + body[position] * 256 + body[position + 1]
    if after > len(body):
        raise MalformedPacket(f"a CONNECT that ends within its {what}", tag)
    return body[start:after], after


def _or_none(properties: Properties) -> Properties:
    return NO_PROPERTIES if properties.is_empty() else properties


def write_connect(packet: Connect) -> bytes:
    """The body of a CONNECT, for a client."""
    will = packet.will
    flags = 2 if packet.clean_session else 0
    pieces = [packet.properties.encode(), _string(packet.client_id)]
    if will is not None:
        flags |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
        pieces += [will.properties.encode(), _string(will.topic), _string(will.payload)]
    if packet.user_name is not None:
        flags |= 0x80
        pieces.append(_string(packet.user_name))
    if packet.password is not None:
        flags |= 0x40
        pieces.append(_string(packet.password))
    head = STARTS[1 if packet.bridge else 0] + bytes((flags,)) + packet.keep_alive_s.to_bytes(2, "big")
    return head + b"".join(pieces)


def read_connack(body: bytes) -> Connack:
    """Read what follows the fixed header of a CONNACK, as a client."""
    if len(body) < 3:
        raise MalformedPacket("a CONNACK that ends before its properties", "")
    if body[0] > 1:
        raise MalformedPacket("a CONNACK with reserved flags", "MQTT-3.2.2-1")
    if body[1] not in ALLOWED[2]:
        raise MalformedPacket(f"a CONNACK with reason code {body[1]:#04x}", "MQTT-3.2.2-8")
    if body[0] == 1 and body[1] != 0:
        raise MalformedPacket("a refusing CONNACK with session present", "MQTT-3.2.2-6")
    properties, stop = read_properties(body, 2, len(body), 2)
    if stop != len(body):
        raise MalformedPacket("a CONNACK with bytes behind its properties", "")
    return Connack(body[0] == 1, body[1], _or_none(properties))


def write_connack(packet: Connack) -> bytes:
    """The body of a CONNACK."""
    inner = _in_order(packet.properties)
    return bytes((packet.session_present, packet.return_code)) + encode_variable(len(inner)) + inner


def _in_order(properties: Properties) -> bytes:
    """The properties of a CONNACK without their length: those of `CONNACK_ORDER`, then the others."""
    numbers = dict(properties.numbers)
    texts = dict(properties.texts)
    pieces: list[bytes] = []
    for name in CONNACK_ORDER:
        number = numbers.pop(name, None)
        if number is not None:
            pieces.append(encode_number(name, number))
        text = texts.pop(name, None)
        if text is not None:
            pieces.append(encode_text(name, text))
    pieces.append(Properties(numbers, texts, properties.user, properties.subscription_ids).inner())
    return b"".join(pieces)


def _string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text
