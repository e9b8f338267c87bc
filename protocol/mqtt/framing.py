"""Where one control packet ends and the next begins, and how a length is written.  MQTT 3.1.1 §2.2.

Hot: called once per packet received.  Looks at the fixed header only, so that a packet that is too
large is refused before any of its body is stored.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, PacketTooLarge

REMAINING_LENGTH_MAX: Final = 268_435_455
"""Four bytes of seven bits each, §2.2.3."""

ONE_BYTE: Final = [bytes([value]) for value in range(256)]
"""By number: to look it up is quicker than to make it."""

_TWO_BYTES: Final[list[bytes]] = [n.to_bytes(2, "big") for n in range(4096)]


def frame_at(data: bytes, position: int, size_max: int) -> tuple[int, int]:
    """Find the packet whose first byte is `data[position]`.

    A remaining length in more bytes than it needs (`80 00`) is taken, as mosquitto does: only 5.0 forbids it.

    Args:
        data: what was received; may hold many packets, or a part of one.
        position: 0 to len(data).
        size_max: the largest remaining length taken, in bytes; 0 means the protocol's own limit.

    Returns:
        (body_start, end): the body is `data[body_start:end]` and the next packet starts at `end`;
        (0, 0) when more bytes are needed.

    Raises:
        MalformedPacket: the remaining length goes on after its fourth byte.
        PacketTooLarge: the remaining length exceeds `size_max`; known before the body has come.
    """
    received = len(data)
    if position + 2 > received:
        return 0, 0
    length = data[position + 1]
    if length < 128:
        body = position + 2
    elif position + 3 > received:
        return 0, 0
    elif data[position + 2] < 128:
        length = length - 128 + data[position + 2] * 128
        body = position + 3
    else:
        body, length = _long_remaining_length(data, position + 2, length - 128)
        if body == 0:
            return 0, 0
    if size_max != 0 and length > size_max:
        raise PacketTooLarge(f"a packet of {length} bytes; {size_max} are allowed")
    end = body + length
    if end > received:
        return 0, 0
    return body, end


def packet_id_bytes(packet_id: int) -> bytes:
    """Two bytes, big-endian; the ids that windows really use come from a table."""
    if packet_id < 4096:
        return _TWO_BYTES[packet_id]
    return packet_id.to_bytes(2, "big")


def encode_variable(number: int) -> bytes:
    """A variable byte integer, 5.0 §1.5.5, of which 3.1.1 has only one, the remaining length, §2.2.3: 1 to 4 bytes,
    as few as it takes [MQTT-1.5.5-1].

    Raises:
        ValueError: more than 268 435 455, which MQTT cannot say.
    """
    if number < 128:
        return ONE_BYTE[number]
    if number < 16_384:
        return bytes((number & 127 | 128, number >> 7))
    if number < 2_097_152:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    if number > REMAINING_LENGTH_MAX:
        raise ValueError(f"a length of {number}; MQTT can say {REMAINING_LENGTH_MAX}")
    return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14 & 127 | 128, number >> 21))


def variable_size(number: int) -> int:
    """How many bytes `encode_variable` makes of it; 4 also for what MQTT cannot say."""
    if number < 128:
        return 1
    if number < 16_384:
        return 2
    return 3 if number < 2_097_152 else 4


def bytes_missing(data: bytes, position: int) -> int:
    """How many more bytes the packet at `position` needs; 1 while its own length is unknown.

    For a reader that collects a large packet piece by piece: nothing has to be joined before so many
    bytes have come.  Only meaningful after `frame_at` said (0, 0).
    """
    length = 0
    for index in range(1, 5):
        if position + index >= len(data):
            return 1
        byte = data[position + index]
        length += (byte & 127) << 7 * (index - 1)
        if byte < 128:
            return position + 1 + index + length - len(data)
    return 1


def _long_remaining_length(data: bytes, position: int, length: int) -> tuple[int, int]:
    """Read on at the second length byte, which says that there is a third; (0, 0) if bytes are missing."""
    received = len(data)
    length += (data[position] - 128) << 7
    if position + 1 >= received:
        return 0, 0
    third = data[position + 1]
    if third < 128:
        return position + 2, length + (third << 14)
    if position + 2 >= received:
        return 0, 0
    fourth = data[position + 2]
    if fourth >= 128:
        raise MalformedPacket("the remaining length has more than 4 bytes", "MQTT-4.8.0-1")
    return position + 3, length + (third - 128 << 14) + (fourth << 21)
