"""Bytes to control packets of MQTT 5.0 and back; the mirror of `protocol.mqtt.codec`.

Hot: `publish_parts` and `ack_parts` build no packet.  CONNECT and CONNACK are in `connect.py`, SUBSCRIBE and its like
in `subscribing.py`.  MQTT 5.0 §2, §3.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.codec import (
    ACK_HEADS,
    CONNACK,
    CONNECT,
    DISCONNECT,
    DUP,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    QOS,
    QOS_SHIFT,
    RETAIN,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    with_fixed_header,
)
from protocol.mqtt.errors import MalformedPacket, ProtocolError, ProtocolViolation
from protocol.mqtt.framing import ONE_BYTE, encode_variable, packet_id_bytes
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
)
from protocol.mqtt.topics import check_topic_name
from protocol.mqtt.v5.connect import read_connack, read_connect, write_connack, write_connect
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties, bounds, read_properties
from protocol.mqtt.v5.property_table import MAXIMUM_QOS, SERVER_REFERENCE, TOPIC_ALIAS
from protocol.mqtt.v5.reasons import ALLOWED
from protocol.mqtt.v5.subscribing import (
    read_answers,
    read_subscribe,
    read_unsubscribe,
    write_answers,
    write_subscribe,
    write_unsubscribe,
)

AUTH: Final = 0xF0

_FLAGS_TAGS: Final = {
    0x60: "MQTT-3.6.1-1",
    0x80: "MQTT-3.8.1-1",
    0xA0: "MQTT-3.10.1-1",
    0xE0: "MQTT-3.14.1-1",
    0xF0: "MQTT-3.15.1-1",
}
_OF_5_0: Final = {
    "MQTT-1.5.3-1": "MQTT-1.5.4-1",
    "MQTT-1.5.3-2": "MQTT-1.5.4-2",
    "MQTT-1.5.3-3": "MQTT-1.5.4-3",
}
"""What the statements about text, which both versions have, are called in 5.0."""


def decode(first_byte: int, body: bytes) -> Packet:
    """Read one control packet.

    Args:
        first_byte: of the fixed header, 0 to 255.
        body: exactly what the remaining length counts.

    Raises:
        MalformedPacket, ProtocolViolation: with the statement that was broken, where there is one, and the reason
            code that the peer is told.
    """
    try:
        return _decode(first_byte, body)
    except ProtocolError as error:
        raise retagged(error) from None


def retagged(error: ProtocolError) -> ProtocolError:
    """The error with the tag of 5.0."""
    tag = _OF_5_0.get(error.tag)
    if tag is None:
        return error
    return type(error)(error.reason, tag, error.reason_code)


def _decode(first_byte: int, body: bytes) -> Packet:
    if first_byte & 0xF0 == PUBLISH:
        return _read_publish(first_byte, body)
    if first_byte in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        return _read_ack(first_byte, body)
    if first_byte == SUBSCRIBE:
        return read_subscribe(body)
    if first_byte == UNSUBSCRIBE:
        return read_unsubscribe(body)
    if first_byte in (PINGREQ, PINGRESP):
        if body:
            raise MalformedPacket("a PINGREQ or PINGRESP with a body", "")
        return Pingreq() if first_byte == PINGREQ else Pingresp()
    if first_byte in (DISCONNECT, AUTH):
        return _read_farewell(first_byte, body)
    if first_byte == CONNECT:
        return read_connect(body)
    if first_byte == CONNACK:
        return read_connack(body)
    if first_byte == SUBACK:
        return Suback(*read_answers(body, 9))
    if first_byte == UNSUBACK:
        return Unsuback(*read_answers(body, 11))
    raise _first_byte_fault(first_byte)


def encode(packet: Packet) -> bytes:
    """Write one control packet, fixed header included.  The packet must be a valid one."""
    if isinstance(packet, Publish):
        return _write_publish(packet)
    if isinstance(packet, Puback):
        return _write_ack(PUBACK, packet.packet_id, packet.reason_code, packet.properties)
    if isinstance(packet, Pubrec):
        return _write_ack(PUBREC, packet.packet_id, packet.reason_code, packet.properties)
    if isinstance(packet, Pubrel):
        return _write_ack(PUBREL, packet.packet_id, packet.reason_code, packet.properties)
    if isinstance(packet, Pubcomp):
        return _write_ack(PUBCOMP, packet.packet_id, packet.reason_code, packet.properties)
    if isinstance(packet, Pingreq):
        return b"\xc0\x00"
    if isinstance(packet, Pingresp):
        return b"\xd0\x00"
    if isinstance(packet, Disconnect):
        return with_fixed_header(DISCONNECT, _reason(packet.reason_code, packet.properties))
    if isinstance(packet, Auth):
        return with_fixed_header(AUTH, _reason(packet.reason_code, packet.properties))
    if isinstance(packet, Subscribe):
        return with_fixed_header(SUBSCRIBE, write_subscribe(packet))
    if isinstance(packet, Suback):
        return with_fixed_header(SUBACK, write_answers(packet))
    if isinstance(packet, Unsubscribe):
        return with_fixed_header(UNSUBSCRIBE, write_unsubscribe(packet))
    if isinstance(packet, Unsuback):
        return with_fixed_header(UNSUBACK, write_answers(packet))
    if isinstance(packet, Connect):
        return with_fixed_header(CONNECT, write_connect(packet))
    assert isinstance(packet, Connack)
    return with_fixed_header(CONNACK, write_connack(packet))


def publish_parts(first_byte: int, data: bytes, body: int, end: int) -> tuple[bytes, int, int, int]:
    """Take a PUBLISH apart without building a packet; neither topic nor properties are looked at.

    Returns:
        (topic, packet_id, properties_start, payload_start): the properties, without their length, are
        `data[properties_start:payload_start]`; packet_id is 0 at QoS 0.

    Raises:
        MalformedPacket: QoS 3, DUP at QoS 0, or a body that ends too soon.
        ProtocolViolation: packet id 0; the standard has no code for it, and this is mosquitto's.
    """
    topic_start = body + 2
    if topic_start > end:
        raise MalformedPacket("a PUBLISH without a topic name", "MQTT-3.3.2-1")
    topic_end = topic_start + data[body] * 256 + data[body + 1]
    if topic_end > end:
        raise MalformedPacket("a PUBLISH that ends within its topic name", "MQTT-3.3.2-1")
    qos = first_byte & QOS
    packet_id = 0
    position = topic_end
    if qos == 0:
        if first_byte & DUP:
            raise MalformedPacket("a PUBLISH with DUP at QoS 0", "MQTT-3.3.1-2")
    else:
        if qos == QOS:
            raise MalformedPacket("a PUBLISH with QoS 3", "MQTT-3.3.1-4")
        if topic_end + 2 > end:
            raise MalformedPacket("a PUBLISH without a packet id", "MQTT-2.2.1-3")
        packet_id = data[topic_end] * 256 + data[topic_end + 1]
        if packet_id == 0:
            raise ProtocolViolation("a PUBLISH with packet id 0", "MQTT-2.2.1-3")
        position = topic_end + 2
    if position >= end:
        raise MalformedPacket("a PUBLISH without the length of its properties", "MQTT-2.2.2-1")
    length = data[position]
    if length < 128:
        payload_start = position + 1 + length
        if payload_start > end:
            raise MalformedPacket("properties longer than their packet", "MQTT-2.2.2-1")
        return data[topic_start:topic_end], packet_id, position + 1, payload_start
    start, stop = bounds(data, position, end)
    return data[topic_start:topic_end], packet_id, start, stop


def ack_parts(first_byte: int, data: bytes, body: int, end: int) -> tuple[int, int]:
    """The packet id and reason code of PUBACK, PUBREC, PUBREL or PUBCOMP; its properties are checked.

    Raises:
        MalformedPacket: too short or long, id 0, properties or a reason code that it can't have.
    """
    if end - body < 2:
        raise MalformedPacket(f"an acknowledgement of {end - body} bytes; it has 2 at least", "MQTT-2.2.1-5")
    packet_id = data[body] * 256 + data[body + 1]
    if packet_id == 0:
        raise MalformedPacket("an acknowledgement of packet id 0", "MQTT-2.2.1-5")
    if end - body == 2:
        return packet_id, 0
    code = data[body + 2]
    check_code(first_byte >> 4, code)
    if end - body > 3:
        _, stop = read_properties(data, body + 3, end, first_byte >> 4)
        check_end(stop, end)
    return packet_id, code


def check_code(packet_type: int, code: int) -> None:
    """Raises `MalformedPacket` if packets of this type may not have the reason code."""
    if code not in ALLOWED[packet_type]:
        raise MalformedPacket(
            f"packet type {packet_type} with reason code {code:#04x}", _CODE_TAGS[packet_type]
        )


_CODE_TAGS: Final = {
    2: "MQTT-3.2.2-8",
    4: "MQTT-3.4.2-1",
    5: "MQTT-3.5.2-1",
    6: "MQTT-3.6.2-1",
    7: "MQTT-3.7.2-1",
    9: "MQTT-3.9.3-2",
    11: "MQTT-3.11.3-2",
    14: "MQTT-3.14.2-1",
    15: "MQTT-3.15.2-1",
}


def check_end(stop: int, end: int) -> None:
    """Raises `MalformedPacket` unless the packet's last field ends where the packet does."""
    if stop != end:
        raise MalformedPacket("a packet with bytes behind its last field", "")


def encode_ack(first_byte: int, packet_id: int, code: int) -> bytes:
    """An acknowledgement without properties; as mosquitto, a code of 0 is left out."""
    if code == 0:
        return ACK_HEADS[first_byte] + packet_id_bytes(packet_id)
    return ONE_BYTE[first_byte] + b"\x03" + packet_id_bytes(packet_id) + ONE_BYTE[code]


def encode_refusal(code: int, max_qos: int = 2) -> bytes:
    """CONNACK that keeps a client out; `code` is a reason code.  A QoS that is not taken is told [MQTT-3.2.2-9]."""
    if max_qos < 2:
        return bytes((CONNACK, 5, 0, code, 2, MAXIMUM_QOS, max_qos))
    return bytes((CONNACK, 3, 0, code, 0))


def encode_suback(first_byte: int, packet_id: int, codes: bytes) -> bytes:
    """SUBACK or UNSUBACK, with one code for each filter and no properties."""
    body = packet_id.to_bytes(2, "big") + b"\x00" + codes
    return bytes((first_byte,)) + encode_variable(len(body)) + body


def encode_disconnect(code: int, server_reference: bytes = b"") -> bytes:
    """A server's DISCONNECT, as mosquitto writes it; with another server to use, at most 100 bytes, if there is one."""
    if not server_reference:
        return bytes((DISCONNECT, 1, code))
    size = len(server_reference)
    head = bytes((DISCONNECT, 5 + size, code, 3 + size, SERVER_REFERENCE, 0, size))
    return head + server_reference


def _read_publish(first_byte: int, body: bytes) -> Publish:
    topic, packet_id, start, payload_start = publish_parts(first_byte, body, 0, len(body))
    # The length again: `read_properties` wants to see it.
    length_start = start - len(encode_variable(payload_start - start))
    properties, _ = read_properties(body, length_start, payload_start, 3)
    if topic or TOPIC_ALIAS not in properties.numbers:
        check_topic_name(topic)
    return Publish(
        topic,
        body[payload_start:],
        (first_byte & QOS) >> QOS_SHIFT,
        first_byte & RETAIN != 0,
        first_byte & DUP != 0,
        packet_id,
        NO_PROPERTIES if properties.is_empty() else properties,
    )


def _write_publish(packet: Publish) -> bytes:
    first_byte = PUBLISH | packet.qos << QOS_SHIFT
    if packet.retain:
        first_byte |= RETAIN
    if packet.dup:
        first_byte |= DUP
    pieces = [len(packet.topic).to_bytes(2, "big"), packet.topic]
    if packet.qos > 0:
        assert packet.packet_id != 0, "PUBLISH at QoS 1 and 2 has a packet id"
        pieces.append(packet.packet_id.to_bytes(2, "big"))
    pieces.append(packet.properties.encode())
    pieces.append(packet.payload)
    return with_fixed_header(first_byte, b"".join(pieces))


def _read_ack(first_byte: int, body: bytes) -> Packet:
    packet_id, code = ack_parts(first_byte, body, 0, len(body))
    properties = NO_PROPERTIES
    if len(body) > 3:
        properties, _ = read_properties(body, 3, len(body), first_byte >> 4)
    if first_byte == PUBACK:
        return Puback(packet_id, code, properties)
    if first_byte == PUBREC:
        return Pubrec(packet_id, code, properties)
    if first_byte == PUBREL:
        return Pubrel(packet_id, code, properties)
    return Pubcomp(packet_id, code, properties)


def _write_ack(first_byte: int, packet_id: int, code: int, properties: Properties) -> bytes:
    return with_fixed_header(first_byte, packet_id.to_bytes(2, "big") + _reason(code, properties))


def _reason(code: int, properties: Properties) -> bytes:
    """A reason code and properties, as short as they can be: either is left out where it says nothing."""
    if properties.is_empty():
        return b"" if code == 0 else bytes((code,))
    return bytes((code,)) + properties.encode()


def _read_farewell(first_byte: int, body: bytes) -> Packet:
    """DISCONNECT and AUTH."""
    code = body[0] if body else 0
    check_code(first_byte >> 4, code)
    properties = NO_PROPERTIES
    if len(body) > 1:
        properties, stop = read_properties(body, 1, len(body), first_byte >> 4)
        check_end(stop, len(body))
    if first_byte == AUTH:
        return Auth(code, properties)
    return Disconnect(code, properties)


def _first_byte_fault(first_byte: int) -> ProtocolError:
    packet_type = first_byte & 0xF0
    if packet_type == 0:
        return ProtocolViolation("packet type 0, which is reserved")
    return MalformedPacket(
        f"packet type {packet_type >> 4} with flags {first_byte & 0x0F:04b}",
        _FLAGS_TAGS.get(packet_type, "MQTT-2.1.3-1"),
    )
