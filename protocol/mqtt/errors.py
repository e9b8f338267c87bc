"""What a peer can do wrong.  Raised only while reading peer input, caught in one place: the link.

Each error carries the tag of the normative statement that the peer broke, so that a log line says which.
"""

from __future__ import annotations


class ProtocolError(Exception):
    """A peer broke MQTT 3.1.1; its connection is closed.

    Args:
        reason: what was wrong, in words for a log line; never a payload, token or password.
        tag: the normative statement that was broken, as `MQTT-3.1.0-1`, or "" where the text has none.
    """

    def __init__(self, reason: str, tag: str = "") -> None:
        super().__init__(f"{reason} [{tag}]" if tag else reason)
        self.reason = reason
        self.tag = tag


class MalformedPacket(ProtocolError):
    """The bytes are no MQTT control packet."""


class ProtocolViolation(ProtocolError):
    """A well-formed packet that may not come now, or not with this content."""


class PacketTooLarge(ProtocolError):
    """A packet announces more bytes than `max_packet_size`."""


class ConnectRefused(ProtocolError):
    """A CONNECT that is answered with a CONNACK return code before the close.

    Args:
        code: a `ConnectReturnCode`, 1 to 5.
    """

    def __init__(self, code: int, reason: str, tag: str = "") -> None:
        super().__init__(reason, tag)
        self.code = code
