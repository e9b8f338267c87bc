"""CONNECT, once per connection, and CONNACK.

A flawless CONNECT of MQTT 3.1.1 is read by hand, since thousands may come at once after a network outage.  Whatever
is unusual about one is its layout's to accept or to refuse, and writing is for clients: so `connect_layout`, and
construct with it, is loaded when it is first needed.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.packets import Connack, Connect, Will
from protocol.mqtt.topics import is_valid_text, is_valid_topic_name
from protocol.mqtt.v5 import connect as v5

FLAWLESS_START: Final = b"\x00\x04MQTT\x04"
"""Protocol name and level of MQTT 3.1.1, of a client that is no bridge."""


def read_connect(body: bytes) -> Connect:
    """Read what follows the fixed header of a CONNECT.

    Raises:
        ProtocolError: as `v5.connect.read_connect`, or as `connect_layout.read_connect`.
    """
    packet = read_flawless(body)
    if packet is not None:
        return packet
    if body.startswith(v5.STARTS):
        return v5.read_connect(body)
    from protocol.mqtt import connect_layout

    return connect_layout.read_connect(body)


def write_connect(packet: Connect) -> bytes:
    """The body of a CONNECT, for a client."""
    from protocol.mqtt import connect_layout

    return connect_layout.write_connect(packet)


def read_connack(body: bytes) -> Connack:
    """Read what follows the fixed header of a CONNACK, as a client; raises MalformedPacket."""
    from protocol.mqtt import connect_layout

    return connect_layout.read_connack(body)


def write_connack(packet: Connack) -> bytes:
    """The body of a CONNACK."""
    from protocol.mqtt import connect_layout

    return connect_layout.write_connack(packet)


def read_flawless(body: bytes) -> Connect | None:
    """An ordinary CONNECT of MQTT 3.1.1; None for any other, and for one that is not right."""
    if len(body) < 12 or not body.startswith(FLAWLESS_START):
        return None
    flags = body[7]
    has_will = flags & 0x04 != 0
    if flags & 0x01 or flags & 0xC0 == 0x40 or flags & 0x18 == 0x18 or (flags & 0x38 and not has_will):
        return None
    client_id, position = _string_at(body, 10)
    will_topic, position = _string_at(body, position) if has_will else (b"", position)
    will_payload, position = _string_at(body, position) if has_will else (b"", position)
    user_name, position = _string_at(body, position) if flags & 0x80 else (b"", position)
    password, position = _string_at(body, position) if flags & 0x40 else (b"", position)
    if position != len(body) or not is_valid_text(client_id) or (user_name and not is_valid_text(user_name)):
        return None
    if has_will and not is_valid_topic_name(will_topic):
        return None
    return Connect(
        client_id,
        flags & 0x02 != 0,
        body[8] << 8 | body[9],
        4,
        Will(will_topic, will_payload, flags >> 3 & 3, flags & 0x20 != 0) if has_will else None,
        user_name if flags & 0x80 else None,
        password if flags & 0x40 else None,
    )


def _string_at(body: bytes, position: int) -> tuple[bytes, int]:
    """The string at `position` and where it ends: beyond the body, if it is cut off."""
    start = position + 2
    end = start + int.from_bytes(body[position:start], "big")
    return body[start:end], max(end, start)
