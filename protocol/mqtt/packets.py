"""The control packets of MQTT as values, and the small numbers they are made of.

What only 5.0 has (properties, most reason codes, AUTH) is left at its default for 3.1 and 3.1.1.

A packet may be logged: its `repr` leaves out payloads and passwords.

Text stays `bytes` (validated UTF-8) wherever it is only compared and forwarded: topic names, topic
filters, client ids.  MQTT 3.1.1 and 5.0 §2.2, §3.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

from attrs import field, frozen

from protocol.mqtt.arrival import Connect as Connect
from protocol.mqtt.arrival import Subscribe as Subscribe
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties


class PacketType(IntEnum):
    """The upper four bits of a packet's first byte (2.2.1)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ConnectReturnCode(IntEnum):
    """Of CONNACK in MQTT 3.1 and 3.1.1 (3.2.2.3)."""

    ACCEPTED = 0
    UNACCEPTABLE_PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2
    SERVER_UNAVAILABLE = 3
    BAD_USER_NAME_OR_PASSWORD = 4
    NOT_AUTHORIZED = 5


UNSUPPORTED_PROTOCOL_VERSION_5_0: Final = 0x84
"""As Mosquitto 2.1: a client of no version that we have is told in the words of MQTT 5.0, §3.2.2.2."""

SUBSCRIBE_FAILURE: Final = 0x80
"""The SUBACK return code for a filter that was not granted [MQTT-3.9.3-2]."""


@frozen
class Will:
    """What is published for a client that goes without DISCONNECT (3.1.2.5)."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int
    retain: bool
    properties: Properties = NO_PROPERTIES


@frozen
class Connack:
    """Whether the client may come in (3.2)."""

    session_present: bool
    return_code: int
    properties: Properties = NO_PROPERTIES


@frozen
class Publish:
    """PUBLISH.  `packet_id` is 0 at QoS 0, which carries none."""

    topic: bytes
    payload: bytes = field(repr=False)
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Puback:
    """The answer to PUBLISH of QoS 1 (3.4)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubrec:
    """The first answer to PUBLISH of QoS 2 (3.5)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubrel:
    """The publisher's answer to PUBREC (3.6)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Pubcomp:
    """The end of QoS 2's exchange (3.7)."""

    packet_id: int
    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Suback:
    """A code for each filter of SUBSCRIBE, in their order (3.9)."""

    packet_id: int
    return_codes: tuple[int, ...]
    properties: Properties = NO_PROPERTIES


@frozen
class Unsubscribe:
    """Filters that the client wants no more (3.10)."""

    packet_id: int
    filters: tuple[bytes, ...]
    properties: Properties = NO_PROPERTIES


@frozen
class Unsuback:
    """The answer to UNSUBSCRIBE; it has codes in 5.0 alone (3.11)."""

    packet_id: int
    return_codes: tuple[int, ...] = ()
    properties: Properties = NO_PROPERTIES


@frozen
class Pingreq:
    """The client is still there (3.12)."""


@frozen
class Pingresp:
    """So is the server (3.13)."""


@frozen
class Disconnect:
    """The client goes, and in 5.0 the server may send it, too (3.14)."""

    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


@frozen
class Auth:
    """AUTH, which only 5.0 has."""

    reason_code: int = 0
    properties: Properties = NO_PROPERTIES


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
