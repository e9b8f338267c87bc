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

FROM_CLIENT: Final = frozenset((1, 3, 4, 5, 6, 7, 8, 10, 12, 14))
"""Packet types that a client sends; the rest a server sends, or nobody does."""


def check_first(first_byte: int) -> None:
    """The first byte of a connection: nothing is buffered for a packet that is not CONNECT.

    Raises:
        ProtocolViolation: not CONNECT; MalformedPacket: CONNECT with flags.
    """
    if first_byte == CONNECT_FIRST_BYTE:
        return
    if first_byte >> 4 == 1:
        raise MalformedPacket("CONNECT with flags in its first byte", "MQTT-2.2.2-2")
    raise ProtocolViolation("the first packet is not CONNECT", "MQTT-3.1.0-1")


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
