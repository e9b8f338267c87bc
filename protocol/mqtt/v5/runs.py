"""Runs of PUBLISH packets at QoS 0, rewritten for clients that get them otherwise: once for all of them.

Hot: called once for each run that has receivers of both versions, and for each set of subscription identifiers.
"""

from __future__ import annotations

from protocol.mqtt.framing import REMAINING_LENGTH_MAX, encode_variable, frame_at
from protocol.mqtt.v5.properties import bounds


def as_5(packets: bytes) -> bytes:
    """The same packets of 3.1.1 as 5.0 writes them: with no properties.

    One that is as long as a packet can be does not become longer: it is left out.
    """
    pieces: list[bytes] = []
    position = 0
    while position < len(packets):
        body, end = frame_at(packets, position, 0)
        properties = body + 2 + packets[body] * 256 + packets[body + 1]
        length = end - body + 1
        if length <= REMAINING_LENGTH_MAX:
            pieces.append(packets[position : position + 1])
            pieces.append(encode_variable(length))
            pieces.append(packets[body:properties])
            pieces.append(b"\x00")
            pieces.append(packets[properties:end])
        position = end
    return b"".join(pieces)


def as_3(packets: bytes) -> bytes:
    """The same packets of 5.0 as 3.1.1 writes them: without their properties.  Each has its topic name."""
    pieces: list[bytes] = []
    position = 0
    while position < len(packets):
        body, end = frame_at(packets, position, 0)
        topic_end = body + 2 + packets[body] * 256 + packets[body + 1]
        payload = topic_end + 1 + packets[topic_end]
        if packets[topic_end] > 127:
            _, payload = bounds(packets, topic_end, end)
        pieces.append(packets[position : position + 1])
        pieces.append(encode_variable(topic_end - body + end - payload))
        pieces.append(packets[body:topic_end])
        pieces.append(packets[payload:end])
        position = end
    return b"".join(pieces)


def with_ids(packets: bytes, ids: bytes) -> bytes:
    """The same packets of 5.0 with subscription identifiers, as properties, behind those that they have.

    One that would become longer than a packet can be is left out.
    """
    pieces: list[bytes] = []
    position = 0
    while position < len(packets):
        body, end = frame_at(packets, position, 0)
        topic_end = body + 2 + packets[body] * 256 + packets[body + 1]
        start, payload = bounds(packets, topic_end, end)
        size = encode_variable(payload - start + len(ids))
        length = topic_end - body + len(size) + end - start + len(ids)
        if length <= REMAINING_LENGTH_MAX:
            pieces.append(packets[position : position + 1])
            pieces.append(encode_variable(length))
            pieces.append(packets[body:topic_end])
            pieces.append(size)
            pieces.append(packets[start:payload])
            pieces.append(ids)
            pieces.append(packets[payload:end])
        position = end
    return b"".join(pieces)
