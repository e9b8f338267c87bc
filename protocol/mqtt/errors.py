"""What a peer can do wrong.  Raised only while reading peer input, caught in one place: the link.

Each error carries the tag of the normative statement that the peer broke, so that a log line says which.
"""

from __future__ import annotations

from typing import ClassVar

from protocol.mqtt.v5.reasons import ReasonCode


class ProtocolError(Exception):
    """A peer broke MQTT; its connection is closed.

    Args:
        reason: what was wrong, in words for a log line; never a payload, token or password.
        tag: the normative statement that was broken, as `MQTT-3.1.0-1`, or "" where the text has none.
        reason_code: what a client of MQTT 5.0 is told; left out, what this kind of error says.
    """

    REASON_CODE: ClassVar[int] = ReasonCode.PROTOCOL_ERROR

    def __init__(self, reason: str, tag: str = "", reason_code: int = 0) -> None:
        super().__init__(f"{reason} [{tag}]" if tag else reason)
        self.reason = reason
        self.tag = tag
        self.reason_code = reason_code if reason_code else self.REASON_CODE


class MalformedPacket(ProtocolError):
    """The bytes are no MQTT control packet."""

    REASON_CODE: ClassVar[int] = ReasonCode.MALFORMED_PACKET


class ProtocolViolation(ProtocolError):
    """A well-formed packet that may not come now, or not with this content."""


class PacketTooLarge(ProtocolError):
    """A packet announces more bytes than `max_packet_size`."""

    REASON_CODE: ClassVar[int] = ReasonCode.PACKET_TOO_LARGE


class ConnectRefused(ProtocolError):
    """A CONNECT that is answered with a CONNACK return code before the close.

    Args:
        code: a `ConnectReturnCode`, 1 to 5, or a `ReasonCode` for a client of 5.0.
    """

    def __init__(self, code: int, reason: str, tag: str = "") -> None:
        super().__init__(reason, tag)
        self.code = code
