"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK by hand: a client may send thousands of filters at once.

Each function takes or gives a body: what follows the fixed header.  MQTT 3.1.1 §3.8 to §3.11.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolViolation
from protocol.mqtt.packets import SUBSCRIBE_FAILURE, Suback, Subscribe, Unsubscribe
from protocol.mqtt.topics import check_topic_filter, is_valid_topic_filter

FILTERS_MAX: Final = 5_000
"""In one packet, which is handled in one go; two million bytes could hold half a million."""


def read_subscribe(body: bytes) -> Subscribe:
    """Read a SUBSCRIBE; its filters are valid and at least one.

    Raises:
        MalformedPacket: with the statement that was broken.
    """
    packet_id = _request_packet_id(body)
    filters: list[tuple[bytes, int]] = []
    position = 2
    while position < len(body):
        topic_filter = _filter_at(body, position, "MQTT-3.8.3-1")
        position += 2 + len(topic_filter)
        if position == len(body):
            raise MalformedPacket("a SUBSCRIBE that ends before a filter's QoS", "MQTT-4.8.0-1")
        qos = body[position]
        if qos > 2:
            raise MalformedPacket("a SUBSCRIBE with QoS 3 or reserved QoS bits", "MQTT-3.8.3-4")
        position += 1
        filters.append((topic_filter, qos))
        if len(filters) > FILTERS_MAX:
            raise ProtocolViolation(f"a SUBSCRIBE with more than {FILTERS_MAX} filters")
    if not filters:
        raise MalformedPacket("a SUBSCRIBE without a filter", "MQTT-3.8.3-3")
    return Subscribe(packet_id, tuple(filters))


def write_subscribe(packet: Subscribe) -> bytes:
    """The body of SUBSCRIBE (3.8)."""
    pieces = [packet.packet_id.to_bytes(2, "big")]
    for topic_filter, qos in packet.filters:
        pieces.append(len(topic_filter).to_bytes(2, "big"))
        pieces.append(topic_filter)
        pieces.append(bytes([qos]))
    return b"".join(pieces)


def read_unsubscribe(body: bytes) -> Unsubscribe:
    """Read an UNSUBSCRIBE; its filters are valid and at least one.

    Raises:
        MalformedPacket: with the statement that was broken.
    """
    packet_id = _request_packet_id(body)
    filters: list[bytes] = []
    position = 2
    while position < len(body):
        topic_filter = _filter_at(body, position, "MQTT-3.10.3-1")
        position += 2 + len(topic_filter)
        filters.append(topic_filter)
        if len(filters) > FILTERS_MAX:
            raise ProtocolViolation(f"an UNSUBSCRIBE with more than {FILTERS_MAX} filters")
    if not filters:
        raise MalformedPacket("an UNSUBSCRIBE without a filter", "MQTT-3.10.3-2")
    return Unsubscribe(packet_id, tuple(filters))


def write_unsubscribe(packet: Unsubscribe) -> bytes:
    """The body of UNSUBSCRIBE (3.10)."""
    pieces = [packet.packet_id.to_bytes(2, "big")]
    for topic_filter in packet.filters:
        pieces.append(len(topic_filter).to_bytes(2, "big"))
        pieces.append(topic_filter)
    return b"".join(pieces)


def read_suback(body: bytes) -> Suback:
    """Read a SUBACK, as a client.

    Raises:
        MalformedPacket: no packet id, no return code, or a reserved one.
    """
    packet_id = answered_packet_id(body[:2])
    if len(body) == 2:
        raise MalformedPacket("a SUBACK without a return code", "MQTT-3.8.4-5")
    for return_code in body[2:]:
        if return_code > 2 and return_code != SUBSCRIBE_FAILURE:
            raise MalformedPacket(f"a SUBACK with return code {return_code}", "MQTT-3.9.3-2")
    return Suback(packet_id, tuple(body[2:]))


def write_suback(packet: Suback) -> bytes:
    """The body of SUBACK (3.9)."""
    return packet.packet_id.to_bytes(2, "big") + bytes(packet.return_codes)


def answered_packet_id(body: bytes) -> int:
    """The packet id that a SUBACK starts with and that is all of an UNSUBACK.

    Raises:
        MalformedPacket: it is 0, or `body` is not 2 bytes long.
    """
    if len(body) != 2:
        raise MalformedPacket(f"a packet id of {len(body)} bytes; it has 2", "MQTT-4.8.0-1")
    packet_id = body[0] * 256 + body[1]
    if packet_id == 0:
        raise MalformedPacket("an answer to packet id 0", "MQTT-2.3.1-7")
    return packet_id


def _request_packet_id(body: bytes) -> int:
    if len(body) < 2:
        raise MalformedPacket("a SUBSCRIBE or UNSUBSCRIBE without a packet id", "MQTT-2.3.1-1")
    packet_id = body[0] * 256 + body[1]
    if packet_id == 0:
        raise MalformedPacket("a SUBSCRIBE or UNSUBSCRIBE with packet id 0", "MQTT-2.3.1-1")
    return packet_id


def _filter_at(body: bytes, position: int, tag: str) -> bytes:
    """The filter whose two length bytes are at `position`; `tag` is broken if the body ends within it."""
    start = position + 2
    if start > len(body):
        raise MalformedPacket("a topic filter without its length", tag)
    end = start + body[position] * 256 + body[position + 1]
    if end > len(body):
        raise MalformedPacket("a packet that ends within a topic filter", tag)
    topic_filter = body[start:end]
    if not is_valid_topic_filter(topic_filter):
        check_topic_filter(topic_filter)  # which says what is wrong
    return topic_filter
