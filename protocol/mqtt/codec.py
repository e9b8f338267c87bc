"""Bytes to control packets and back.

`decode` and `encode` know all fourteen.  Under them, hot, are the functions that build no packet object:
PUBLISH and its acknowledgements are most of what a broker reads and writes.  SUBSCRIBE and its like are in
`subscribing.py`, CONNECT and CONNACK in `connect.py`.  MQTT 3.1.1 §2, §3.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.connect import read_connack, read_connect, write_connack, write_connect
from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.framing import ONE_BYTE, encode_variable, packet_id_bytes
from protocol.mqtt.packets import (
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
from protocol.mqtt.subscribing import (
    answered_packet_id,
    read_suback,
    read_subscribe,
    read_unsubscribe,
    write_suback,
    write_subscribe,
    write_unsubscribe,
)
from protocol.mqtt.topics import check_topic_name

# The first byte of each packet: the packet type, then the only flags that it may have.
CONNECT: Final = 0x10
CONNACK: Final = 0x20
PUBLISH: Final = 0x30  # or DUP, QOS and RETAIN with it
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62
PUBCOMP: Final = 0x70
SUBSCRIBE: Final = 0x82
SUBACK: Final = 0x90
UNSUBSCRIBE: Final = 0xA2
UNSUBACK: Final = 0xB0
PINGREQ: Final = 0xC0
PINGRESP: Final = 0xD0
DISCONNECT: Final = 0xE0

# The packet type alone: the upper half of the first byte.
PUBLISH_TYPE: Final = 3
PUBACK_TYPE: Final = 4
PUBREC_TYPE: Final = 5
PUBREL_TYPE: Final = 6
PUBCOMP_TYPE: Final = 7
PINGREQ_TYPE: Final = 12

PINGRESP_PACKET: Final = b"\xd0\x00"

DUP: Final = 0x08
QOS: Final = 0x06
QOS_SHIFT: Final = 1
RETAIN: Final = 0x01

# Packets whose flags have a statement of their own; the others' is MQTT-2.2.2-2.
_FLAGS_TAGS: Final = {
    0x60: "MQTT-3.6.1-1",
    0x80: "MQTT-3.8.1-1",
    0xA0: "MQTT-3.10.1-1",
    0xE0: "MQTT-3.14.1-1",
}
ACK_HEADS: Final[list[bytes]] = [bytes([value, 2]) for value in range(256)]
"""By first byte, the fixed headers of packets that have no more than a packet id."""


def decode(first_byte: int, body: bytes) -> Packet:
    """Read one control packet.

    Args:
        first_byte: of the fixed header, 0 to 255.
        body: exactly what the remaining length counts.

    Raises:
        MalformedPacket: with the statement that was broken, where there is one; close without an answer.
        ConnectRefused: see `connect.read_connect`.
    """
    if first_byte & 0xF0 == PUBLISH:
        return _read_publish(first_byte, body)
    if first_byte == PUBACK:
        return Puback(packet_id_of(body, 0, len(body)))
    if first_byte == PUBREC:
        return Pubrec(packet_id_of(body, 0, len(body)))
    if first_byte == PUBREL:
        return Pubrel(packet_id_of(body, 0, len(body)))
    if first_byte == PUBCOMP:
        return Pubcomp(packet_id_of(body, 0, len(body)))
    if first_byte in (PINGREQ, PINGRESP, DISCONNECT):
        return _read_empty(first_byte, body)
    if first_byte == SUBSCRIBE:
        return read_subscribe(body)
    if first_byte == UNSUBSCRIBE:
        return read_unsubscribe(body)
    if first_byte == CONNECT:
        return read_connect(body)
    if first_byte == CONNACK:
        return read_connack(body)
    if first_byte == SUBACK:
        return read_suback(body)
    if first_byte == UNSUBACK:
        return Unsuback(answered_packet_id(body))
    raise _first_byte_fault(first_byte)


def encode(packet: Packet) -> bytes:
    """Write one control packet, fixed header included.  The packet must be a valid one."""
    if isinstance(packet, Publish):
        return _write_publish(packet)
    if isinstance(packet, Puback):
        return encode_ack(PUBACK, packet.packet_id)
    if isinstance(packet, Pubrec):
        return encode_ack(PUBREC, packet.packet_id)
    if isinstance(packet, Pubrel):
        return encode_ack(PUBREL, packet.packet_id)
    if isinstance(packet, Pubcomp):
        return encode_ack(PUBCOMP, packet.packet_id)
    if isinstance(packet, Unsuback):
        return encode_ack(UNSUBACK, packet.packet_id)
    if isinstance(packet, Pingreq):
        return b"\xc0\x00"
    if isinstance(packet, Pingresp):
        return b"\xd0\x00"
    if isinstance(packet, Disconnect):
        return b"\xe0\x00"
    if isinstance(packet, Subscribe):
        return with_fixed_header(SUBSCRIBE, write_subscribe(packet))
    if isinstance(packet, Suback):
        return with_fixed_header(SUBACK, write_suback(packet))
    if isinstance(packet, Unsubscribe):
        return with_fixed_header(UNSUBSCRIBE, write_unsubscribe(packet))
    if isinstance(packet, Connect):
        return with_fixed_header(CONNECT, write_connect(packet))
    assert isinstance(packet, Connack), "AUTH is 5.0's alone"
    return with_fixed_header(CONNACK, write_connack(packet))


def publish_parts(first_byte: int, data: bytes, body: int, end: int) -> tuple[bytes, int, int]:
    """Take a PUBLISH apart without building a packet.

    The topic's characters are not looked at: that is `topics.check_topic_name`, once per new topic.

    Args:
        first_byte: 0x30 to 0x3f.
        data, body, end: the packet's body is `data[body:end]`, as `frame_at` found it.

    Returns:
        (topic, packet_id, payload_start); packet_id is 0 at QoS 0; the payload is `data[payload_start:end]`.

    Raises:
        MalformedPacket: QoS 3, DUP at QoS 0, packet id 0, or a body that ends too soon.
    """
    topic_start = body + 2
    if topic_start > end:
        raise MalformedPacket("a PUBLISH without a topic name", "MQTT-3.3.2-1")
    topic_end = topic_start + data[body] * 256 + data[body + 1]
    if topic_end > end:
        raise MalformedPacket("a PUBLISH that ends within its topic name", "MQTT-3.3.2-1")
    qos = first_byte & QOS
    if qos == 0:
        if first_byte & DUP:
            raise MalformedPacket("a PUBLISH with DUP at QoS 0", "MQTT-3.3.1-2")
        return data[topic_start:topic_end], 0, topic_end
    if qos == QOS:
        raise MalformedPacket("a PUBLISH with QoS 3", "MQTT-3.3.1-4")
    if topic_end + 2 > end:
        raise MalformedPacket("a PUBLISH without a packet id", "MQTT-2.3.1-1")
    packet_id = data[topic_end] * 256 + data[topic_end + 1]
    if packet_id == 0:
        raise MalformedPacket("a PUBLISH with packet id 0", "MQTT-2.3.1-1")
    return data[topic_start:topic_end], packet_id, topic_end + 2


def packet_id_of(data: bytes, body: int, end: int) -> int:
    """The packet id (1 to 65 535) that is all the body of PUBACK, PUBREC, PUBREL and PUBCOMP.

    Raises:
        MalformedPacket: another length, or id 0.
    """
    if end - body != 2:
        raise MalformedPacket(f"an acknowledgement of {end - body} bytes; it has 2", "MQTT-4.8.0-1")
    packet_id = data[body] * 256 + data[body + 1]
    if packet_id == 0:
        raise MalformedPacket("an acknowledgement of packet id 0", "MQTT-2.3.1-6")
    return packet_id


def encode_connack(code: int, session_present: bool = False) -> bytes:
    """CONNACK of MQTT 3.1 and 3.1.1."""
    return bytes((CONNACK, 2, session_present, code))


def encode_suback(packet_id: int, codes: bytes) -> bytes:
    """SUBACK with one code per filter; its remaining length is one or more bytes long."""
    return b"\x90" + encode_variable(2 + len(codes)) + packet_id.to_bytes(2, "big") + codes


def encode_ack(kind_first_byte: int, packet_id: int) -> bytes:
    """A whole packet of 4 bytes; `kind_first_byte` is PUBACK, PUBREC, PUBREL or PUBCOMP of this module."""
    return ACK_HEADS[kind_first_byte] + packet_id_bytes(packet_id)


def publish_head(first_byte: int, topic: bytes, rest_length: int) -> bytes:
    """A PUBLISH up to the end of its topic; `rest_length` bytes (packet id, payload) must follow."""
    size = len(topic)
    return ONE_BYTE[first_byte] + encode_variable(2 + size + rest_length) + packet_id_bytes(size) + topic


def publish_packet(first_byte: int, topic: bytes, properties: bytes, payload: bytes) -> bytes:
    """A whole PUBLISH at QoS 0; `properties` with their length, of 5.0 alone.  One piece of memory, written once."""
    size = len(topic)
    return b"%b%b%b%b%b%b" % (
        ONE_BYTE[first_byte],
        encode_variable(2 + size + len(properties) + len(payload)),
        packet_id_bytes(size),
        topic,
        properties,
        payload,
    )


def _read_publish(first_byte: int, body: bytes) -> Publish:
    topic, packet_id, payload_start = publish_parts(first_byte, body, 0, len(body))
    check_topic_name(topic)
    return Publish(
        topic,
        body[payload_start:],
        (first_byte & QOS) >> QOS_SHIFT,
        first_byte & RETAIN != 0,
        first_byte & DUP != 0,
        packet_id,
    )


def _write_publish(packet: Publish) -> bytes:
    first_byte = PUBLISH | packet.qos << QOS_SHIFT
    if packet.retain:
        first_byte |= RETAIN
    if packet.dup:
        first_byte |= DUP
    if packet.qos == 0:
        return publish_head(first_byte, packet.topic, len(packet.payload)) + packet.payload
    assert packet.packet_id != 0, "PUBLISH at QoS 1 and 2 has a packet id"
    head = publish_head(first_byte, packet.topic, 2 + len(packet.payload))
    return head + packet.packet_id.to_bytes(2, "big") + packet.payload


def _read_empty(first_byte: int, body: bytes) -> Packet:
    if body:
        raise MalformedPacket("a PINGREQ, PINGRESP or DISCONNECT with a body", "MQTT-4.8.0-1")
    if first_byte == PINGREQ:
        return Pingreq()
    if first_byte == PINGRESP:
        return Pingresp()
    return Disconnect()


def with_fixed_header(first_byte: int, body: bytes) -> bytes:
    """The whole packet: first byte, remaining length, body."""
    return ONE_BYTE[first_byte] + encode_variable(len(body)) + body


def _first_byte_fault(first_byte: int) -> MalformedPacket:
    packet_type = first_byte & 0xF0
    if packet_type in (0x00, 0xF0):
        return MalformedPacket(f"packet type {packet_type >> 4}, which is forbidden", "MQTT-4.8.0-1")
    return MalformedPacket(
        f"packet type {packet_type >> 4} with flags {first_byte & 0x0F:04b}",
        _FLAGS_TAGS.get(packet_type, "MQTT-2.2.2-2"),
    )
