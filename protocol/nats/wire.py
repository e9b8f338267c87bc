"""The client protocol as bytes: what we send, and a reader of what a server sends.

Invariant of `Reader`: what it returns depends on the bytes only, never on how they were cut.
Source: docs.nats.io, "NATS Protocol".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from protocol.nats import headers as header_block
from protocol.nats.errors import NatsProtocolError

LINE_BYTES_MAX: Final = 1024 * 1024
"""INFO names every server of the cluster; no other line is longer than a few kilobytes."""

PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
"""The server's own highest `max_payload`."""

NUMBERS_MAX: Final = 256
"""So many are remembered."""

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"
_SPACES: Final = b" \t"


class Info:
    """INFO: who the server is.

    Attributes:
        fields: the JSON object.
    """

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def text(self, name: str) -> str:
        """A field that is a text; "" if it is none."""
        value = self.fields.get(name, "")
        return value if isinstance(value, str) else ""

    def number(self, name: str, default: int = 0) -> int:
        """A field that is a whole number; `default` if it is none."""
        value = self.fields.get(name, default)
        return value if isinstance(value, int) else default

    def flag(self, name: str) -> bool:
        """Whether a field is true."""
        return self.fields.get(name) is True

    @property
    def version(self) -> tuple[int, int]:
        """(2, 12) of `2.12.3-RC.1`; (0, 0) if it says none."""
        parts = self.text("version").split(".")
        if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
            return (0, 0)
        return int(parts[0]), int(parts[1])


class Message:
    """MSG or HMSG.

    Attributes:
        subject, reply: as sent; `reply` is b"" where no answer is expected.
        sid: our number of the subscription.
        block: the headers as bytes, b"" for none; `headers` reads them.
        payload: without headers.
    """

    __slots__ = ("block", "payload", "reply", "sid", "subject")

    def __init__(self, subject: bytes, sid: int, reply: bytes, block: bytes, payload: bytes) -> None:
        self.subject = subject
        self.sid = sid
        self.reply = reply
        self.block = block
        self.payload = payload

    @property
    def headers(self) -> header_block.Headers:
        """Raises: NatsProtocolError."""
        return header_block.decode(self.block)

    @property
    def status(self) -> int:
        """0, or the code of a message that is about the conversation: 100, 404, 408, 409, 503."""
        block = self.block
        if not block or block[8:9] != b" ":
            return 0
        code = block[9:12]
        return int(code) if code.isdigit() else 0


class Ping:
    """The server wants a PONG."""


class Pong:
    """The server has handled everything up to our PING."""


class ServerError:
    """-ERR.

    Attributes:
        is_fatal: the server closes the connection after it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        lowered = text.lower()
        self.is_fatal = not lowered.startswith(("permissions violation", "invalid subject"))


Event = Info | Message | Ping | Pong | ServerError


def connect(options: Mapping[str, Any]) -> bytes:
    """CONNECT.  `options`: user, pass, auth_token, jwt, nkey, sig, name and so on, beside what we always say."""
    fields = {
        "verbose": False,
        "pedantic": False,
        "headers": True,
        "no_responders": True,
        "lang": "python-trio",
        "protocol": 1,
        "echo": True,
        **options,
    }
    return b"CONNECT " + json.dumps(fields, separators=(",", ":")).encode() + b"\r\n"


def publish(
    subject: bytes, payload: bytes, reply: bytes = b"", block: bytes = b"", rest: bytes = b""
) -> bytes:
    """PUB, or HPUB where there are headers.

    Args:
        block: as `headers.encode` makes it.
        rest: of the block, where that is in two parts.
    """
    size = len(payload)
    headers = len(block) + len(rest)
    if not headers:
        return b"PUB %b %b%d\r\n%b\r\n" % (subject, reply + b" " if reply else b"", size, payload)
    size += headers
    if reply:
        return b"HPUB %b %b %d %d\r\n%b%b%b\r\n" % (subject, reply, headers, size, block, rest, payload)
    return b"HPUB %b %d %d\r\n%b%b%b\r\n" % (subject, headers, size, block, rest, payload)


def subscribe(subject: bytes, sid: int, queue: bytes = b"") -> bytes:
    """SUB, with a number of our choice, and a queue group if wanted."""
    return b"SUB %b %b%d\r\n" % (subject, queue + b" " if queue else b"", sid)


def unsubscribe(sid: int) -> bytes:
    """UNSUB."""
    return b"UNSUB %d\r\n" % sid


class Reader:
    """Bytes in, events out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0
        """So many bytes must be there before it is worth to look."""
        self._end = 0
        self._numbers: dict[bytes, int] = {}
        """Those that were read lately: messages often have the same sizes."""

    def receive(self, data: bytes) -> list[Event]:
        """Everything that is complete by now.

        Raises:
            NatsProtocolError: the server does not speak the protocol; what came before it in `data` is lost with it.
        """
        buffer = self._buffer
        events: list[Event] = []
        if buffer:
            buffer += data
            if len(buffer) < self._needed:
                return events
            data = bytes(buffer)
            buffer.clear()
        position = 0
        size = len(data)
        while position < size:
            event = self._next(data, position)
            if self._end < 0:
                buffer += data[position:]
                break
            position = self._end
            if event is not None:
                events.append(event)
        return events

    def _next(self, data: bytes, start: int) -> Event | None:
        """The next event; `_end` is where it ends, -1 if it is not complete."""
        end = data.find(b"\r\n", start)
        if end < 0:
            if len(data) - start > LINE_BYTES_MAX:
                raise NatsProtocolError(f"a line of more than {LINE_BYTES_MAX} bytes")
            self._needed = 0
            self._end = -1
            return None
        if end - start > LINE_BYTES_MAX:
            raise NatsProtocolError(f"a line of more than {LINE_BYTES_MAX} bytes")
        line = data[start:end]
        after = end + 2
        if line.startswith(b"HMSG "):  # most are
            return self._message(line, 2, data, start, after)
        verb = line[:5].upper()
        if verb == b"HMSG ":
            return self._message(line, 2, data, start, after)
        if verb.startswith(b"MSG "):
            return self._message(line, 1, data, start, after)
        self._end = after
        if verb == b"INFO ":
            return Info(_json_object(line[5:]))
        if verb.rstrip(_SPACES) == b"PING":
            return Ping()
        if verb.rstrip(_SPACES) == b"PONG":
            return Pong()
        if verb.startswith(b"+OK"):
            return None
        if verb.startswith(b"-ERR"):
            return ServerError(line[4:].strip(b" '\t").decode(errors="replace"))
        raise NatsProtocolError(f"no word of the protocol: {line[:40]!r}")

    def _message(self, line: bytes, sizes: int, data: bytes, start: int, after: int) -> Event | None:
        """MSG has one size, HMSG two."""
        words = line.split()
        count = len(words)
        if not 3 + sizes <= count <= 4 + sizes:
            raise NatsProtocolError(f"a message of {count} words: {line[:80]!r}")
        sid = self._number(words[2])
        total = self._number(words[count - 1])
        header_bytes = self._number(words[count - 2]) if sizes == 2 else 0
        if total > PAYLOAD_BYTES_MAX or header_bytes > total:
            raise NatsProtocolError(f"impossible sizes: {line[-40:]!r}")
        end = after + total
        if len(data) < end + 2:
            self._needed = end + 2 - start
            self._end = -1
            return None
        self._needed = 0
        self._end = end + 2
        if not data.startswith(b"\r\n", end):
            raise NatsProtocolError("a message that does not end where it said")
        reply = words[3] if count == 4 + sizes else b""
        block = data[after : after + header_bytes]
        return Message(words[1], sid, reply, block, data[after + header_bytes : end])

    def _number(self, word: bytes) -> int:
        numbers = self._numbers
        number = numbers.get(word)
        if number is None:
            if len(word) > 12 or not word.isdigit():
                raise NatsProtocolError(f"a number is wanted, not {word[:20]!r}")
            if len(numbers) >= NUMBERS_MAX:
                numbers.clear()
            number = numbers[word] = int(word)
        return number


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise NatsProtocolError(f"INFO is no JSON: {text[:60]!r}") from None
    if not isinstance(value, dict):
        raise NatsProtocolError("INFO is no JSON object")
    return value
