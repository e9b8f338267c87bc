"""Headers of NATS messages: a status line, then `Name: value` lines, as HTTP has them.

Source: docs.nats.io, "NATS Protocol", HPUB and HMSG; ADR-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.nats.errors import NatsProtocolError

VERSION: Final = b"NATS/1.0"


class Headers:
    """Of one message.

    Attributes:
        status: 0, or a code such as 503 (nobody serves the subject), 404, 408, 409, 100 (heartbeat, flow control).
        description: what stands behind the status.
        values: the last value of each name, as bytes; names are as written, JetStream's never vary.
    """

    def __init__(self, status: int, description: bytes, values: Mapping[bytes, bytes]) -> None:
        self.status = status
        self.description = description
        self.values = values

    def get(self, name: bytes) -> bytes | None:
        """The header's value, or None."""
        return self.values.get(name)

    def number(self, name: bytes) -> int | None:
        """A header that is a whole number.  Raises: NatsProtocolError, if it is something else."""
        value = self.values.get(name)
        if value is None:
            return None
        if not value.isdigit() or len(value) > 20:
            raise NatsProtocolError(
                f"{name.decode(errors='replace')}: a number is wanted, not {value[:40]!r}"
            )
        return int(value)


def _ends_line(text: bytes) -> bool:
    return b"\r" in text or b"\n" in text


def encode(headers: Mapping[bytes, bytes]) -> bytes:
    """The block with its empty line at the end.

    Raises:
        ValueError: a name or value that would end its line.
    """
    lines = [VERSION]
    for name, value in headers.items():
        if _ends_line(name) or _ends_line(value) or not name or b":" in name:
            raise ValueError(f"a header must fit on one line: {name!r}")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def decode(block: bytes) -> Headers:
    """Raises: NatsProtocolError, if it is no such block."""
    if not block:
        return Headers(0, b"", {})
    lines = block.split(b"\r\n")
    first = lines[0]
    if not first.startswith(VERSION) or lines[-1] or len(lines) < 3:
        raise NatsProtocolError(f"no block of headers: {block[:60]!r}")
    status, _, description = first[len(VERSION) :].strip().partition(b" ")
    if status and not (status.isdigit() and len(status) == 3):
        raise NatsProtocolError(f"a status is three digits, not {status[:20]!r}")
    values: dict[bytes, bytes] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise NatsProtocolError(f"a header without colon: {line[:60]!r}")
        values[name] = value.strip()
    return Headers(int(status) if status else 0, description.strip(), values)
