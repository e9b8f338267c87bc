"""The server side of one connection as a table: what may come when, and how long silence may last.  Sans-IO.

AWAITING_CONNECT   CONNECT -> AUTHENTICATING; anything else closes [MQTT-3.1.0-1]
AUTHENTICATING     nothing is read; accepted -> CONNECTED, refused -> CLOSED with a CONNACK
CONNECTED          the client's packets; a second CONNECT closes [MQTT-3.1.0-2]
CLOSED             nothing is read or sent any more [MQTT-3.14.4-1]
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import MalformedPacket, ProtocolViolation

AWAITING_CONNECT: Final = 0
AUTHENTICATING: Final = 1
CONNECTED: Final = 2
CLOSED: Final = 3

CONNECT_FIRST_BYTE: Final = 0x10
STARTS_3_1: Final = b"\x00\x06MQIsdp"
WITH_QOS_1: Final = (0x60, 0x80, 0xA0)
"""PUBREL, SUBSCRIBE, UNSUBSCRIBE."""

FROM_CLIENT: Final = frozenset((1, 3, 4, 5, 6, 7, 8, 10, 12, 14))
"""Packet types that a client sends; the rest a server sends, or nobody does."""


def check_first(first_byte: int) -> None:
    """The first byte of a connection: nothing is buffered for a packet that is not CONNECT.

    Raises:
        ProtocolViolation: it is another packet's.
    """
    if first_byte >> 4 != 1:
        raise ProtocolViolation("the first packet is not CONNECT", "MQTT-3.1.0-1")


def check_connect_flags(first_byte: int, is_3_1: bool) -> None:
    """A CONNECT's first byte: MQTT 3.1 gives its flags no meaning, and forbids none (§3.1).

    Raises:
        MalformedPacket: flags, and another version.
    """
    if first_byte != CONNECT_FIRST_BYTE and not is_3_1:
        raise MalformedPacket("CONNECT with flags in its first byte", "MQTT-2.2.2-2")


def without_flags(first_byte: int) -> int:
    """The first byte as MQTT 3.1.1 wants it, of a packet of 3.1 that is no PUBLISH.

    3.1 leaves the flags of most packets unused, and lets PUBREL, SUBSCRIBE and UNSUBSCRIBE come with DUP; as
    mosquitto, which looks at none of them.
    """
    packet_type = first_byte & 0xF0
    return packet_type | 2 if packet_type in WITH_QOS_1 else packet_type


def check_connected(first_byte: int) -> None:
    """A packet's first byte once connected.

    Raises:
        ProtocolViolation: a second CONNECT, or a packet that only servers send; MalformedPacket: no packet type.
    """
    packet_type = first_byte >> 4
    if packet_type == 1:
        raise ProtocolViolation("a second CONNECT", "MQTT-3.1.0-2")
    if packet_type in FROM_CLIENT:
        return
    if packet_type in (0, 15):
        raise MalformedPacket("a packet of a reserved type", "MQTT-2.2.2-2")
    raise ProtocolViolation("a packet that only servers send")


def silence_max_s(keep_alive_s: int) -> float:
    """How long a client may be silent before it counts as gone; 0.0 for ever [MQTT-3.1.2-24]."""
    return keep_alive_s * 1.5
