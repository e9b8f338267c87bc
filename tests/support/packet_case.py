"""What one entry of the table in `packet_cases.py` is, and how its bytes are put together."""

from __future__ import annotations

from attrs import field, frozen

from protocol.mqtt.errors import MalformedPacket, ProtocolError
from protocol.mqtt.packets import Packet


def framed(first_byte: int, body: bytes) -> bytes:
    """A control packet with the remaining length filled in, in as few bytes as it takes."""
    rest, length = len(body), b""
    while rest > 127:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return bytes([first_byte]) + length + bytes([rest]) + body


def string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


@frozen
class Case:
    name: str
    raw: bytes
    from_client: bool = field(default=True, kw_only=True)

    @property
    def first_byte(self) -> int:
        return self.raw[0]

    @property
    def body(self) -> bytes:
        start = 1
        while self.raw[start] > 127:
            start += 1
        return self.raw[start + 1 :]


@frozen
class ValidCase(Case):
    """`canonical` is False where encoding the packet gives other bytes than these."""

    packet: Packet
    canonical: bool = field(default=True, kw_only=True)


@frozen
class InvalidCase(Case):
    tag: str
    error: type[ProtocolError] = field(default=MalformedPacket, kw_only=True)
