"""Bytes to control packets and back.

Hot: PUBLISH, the acknowledgements and pings by hand, in functions that build no packet object.
The rest is rare.  MQTT 3.1.1 §2, §3.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.framing import REMAINING_LENGTH_MAX

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
PUBREC: Final = 0x50
PUBREL: Final = 0x62  # [MQTT-3.6.1-1]
PUBCOMP: Final = 0x70

DUP: Final = 0x08
QOS: Final = 0x06
QOS_SHIFT: Final = 1
RETAIN: Final = 0x01

_ONE_BYTE: Final = [bytes([value]) for value in range(256)]


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
    """The packet id (1 to 65 535) that is all the body of PUBACK, PUBREC, PUBREL, PUBCOMP and UNSUBACK."""
    if end - body != 2:
        raise MalformedPacket(f"an acknowledgement of {end - body} bytes; it has 2", "MQTT-4.8.0-1")
    packet_id = data[body] * 256 + data[body + 1]
    if packet_id == 0:
        raise MalformedPacket("an acknowledgement of packet id 0", "MQTT-2.3.1-1")
    return packet_id


def encode_ack(kind_first_byte: int, packet_id: int) -> bytes:
    """A whole packet of 4 bytes; `kind_first_byte` is PUBACK, PUBREC, PUBREL or PUBCOMP of this module."""
    return bytes((kind_first_byte, 2, packet_id >> 8, packet_id & 0xFF))


def encode_remaining_length(length: int) -> bytes:
    """1 to 4 bytes, §2.2.3.

    Raises:
        ValueError: more than 268 435 455 bytes, which MQTT cannot say.
    """
    if length < 128:
        return _ONE_BYTE[length]
    if length < 16_384:
        return bytes((length & 127 | 128, length >> 7))
    if length < 2_097_152:
        return bytes((length & 127 | 128, length >> 7 & 127 | 128, length >> 14))
    if length > REMAINING_LENGTH_MAX:
        raise ValueError(f"a packet of {length} bytes; {REMAINING_LENGTH_MAX} are possible")
    return bytes((length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21))


def publish_head(first_byte: int, topic: bytes, rest_length: int) -> bytes:
    """A PUBLISH up to the end of its topic; `rest_length` bytes (packet id, payload) must follow."""
    size = len(topic)
    return b"%b%b%b%b%b" % (
        _ONE_BYTE[first_byte],
        encode_remaining_length(2 + size + rest_length),
        _ONE_BYTE[size >> 8],
        _ONE_BYTE[size & 0xFF],
        topic,
    )
