"""What a client writes to a WebSocket: its bytes in any pieces, whole messages and control frames out.  Sans-IO.

Invariant: what `next_event` gives depends on the bytes alone, never on how they were cut.  Nothing is held but an
unfinished frame and an unfinished message, both within the limit; an idle peer costs no buffer.
"""

from __future__ import annotations

from typing import Final

from protocol.websocket import BINARY, CLOSE, FINAL, NO_CODE, PING, PONG, TEXT, CloseCode

CONTROL_BYTES_MAX: Final = 125

FRAGMENTS_FACTOR: Final = 8
FRAGMENTS_BYTES: Final = 64 * 1024
"""A message may take so many bytes on the wire: 8 for each that a message may have (a fragment of one byte takes
seven), and 64 KiB.  So empty fragments end, too."""

_TABLE_BYTES_MIN: Final = 2048
"""From this size on unmasking by tables is faster than by one large number."""

_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTINUATION: Final = 0x0

_XOR: Final = [bytes([byte ^ mask for byte in range(256)]) for mask in range(256)]
"""For each byte of a mask, what becomes of every byte under it."""


class WebSocketError(Exception):
    """The peer broke the protocol; it is to be told this code and reason, and nothing more is read."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Event:
    """What came."""


class Text(Event):
    """A whole text message."""

    def __init__(self, text: str) -> None:
        self.text = text


class Binary(Event):
    """A whole binary message, or the next piece of one."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Ping(Event):
    """To be answered with a pong of the same payload."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Pong(Event):
    """An answer to a ping, or a heartbeat nobody asked for."""


class PeerClose(Event):
    """The peer's close frame; `code` is NO_CODE where it holds none."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason


class FrameReader:
    """The reading half of one connection.

    Args:
        message_bytes_max: the longest message, its fragments together.
        in_pieces: only binary messages are taken, and handed on piece by piece as their bytes come, whatever
            their length.
    """

    def __init__(self, message_bytes_max: int, in_pieces: bool = False) -> None:
        self._message_bytes_max = message_bytes_max
        self._in_pieces = in_pieces
        self._data = b""
        self._position = 0
        self._held: bytearray | None = None
        """The beginning of a frame of which `_missing` bytes at least are still to come."""
        self._missing = 0
        self._opcode = 0
        """Of the message under way; 0 between messages."""
        self._message: bytearray | None = None
        """The payload of its fragments so far."""
        self._wire_bytes = 0
        """What it has taken on the wire so far."""
        self._left = 0
        """Payload that is still to come of the frame under way, where it is handed on in pieces."""
        self._mask = b""

    def feed(self, data: bytes) -> None:
        """More bytes came; ask for events until there are none."""
        held = self._held
        if held is not None:
            held += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            self._held = None
            data = bytes(held)
        elif self._position < len(self._data):
            data = self._data[self._position :] + data
        self._data = data
        self._position = 0

    def has_more(self) -> bool:
        """Whether something came that `next_event` was not asked for, or did not give."""
        return self._held is not None or self._position < len(self._data)

    def next_event(self) -> Event | None:
        """The next thing that came, or None if more bytes are needed.

        Raises:
            WebSocketError: the peer broke the protocol; not to be asked again.
        """
        while self._held is None:
            if self._left:
                return self._piece()
            data = self._data
            position = self._position
            here = len(data) - position
            if here < 2:
                self._hold(2 - here)
                break
            first = data[position]
            size = data[position + 1] & 0x7F
            self._check_head(first, data[position + 1])
            head = 6 if size < 126 else 8 if size == 126 else 14
            if here < head:
                self._hold(head - here)
                break
            if size > CONTROL_BYTES_MAX:
                size = _long_size(data[position + 2 : position + head - 4])
            in_pieces = self._in_pieces and first & 0x0F < CLOSE
            if not in_pieces:
                self._check_size(first, head, size)
                if here < head + size:
                    self._hold(head + size - here)
                    break
            self._position = position + head
            self._mask = data[position + head - 4 : position + head]
            if in_pieces:
                self._opcode = 0 if first & FINAL else BINARY
                self._left = size
                continue
            event = self._frame(first, head, self._take(size))
            if event is not None:
                return event
        return None

    def _check_head(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED:
            raise _broken("a reserved bit is set, and no extension was agreed on")
        if not second & _MASKED:
            raise _broken("a client's frames must be masked")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise _broken("unknown opcode")
        if opcode >= CLOSE:
            if not first & FINAL or second & 0x7F > CONTROL_BYTES_MAX:
                raise _broken("a control frame holds 125 bytes at most, and has no fragments")
        elif opcode == _CONTINUATION:
            if not self._opcode:
                raise _broken("a continuation of no message")
        elif self._opcode:
            raise _broken("a new message within a message")
        elif opcode == TEXT and self._in_pieces:
            raise WebSocketError(CloseCode.UNSUPPORTED_DATA, "messages must be binary")

    def _check_size(self, first: int, head: int, size: int) -> None:
        if first & 0x0F >= CLOSE:
            return
        limit = self._message_bytes_max
        message = self._message
        if size + (0 if message is None else len(message)) > limit:
            raise WebSocketError(CloseCode.MESSAGE_TOO_BIG, f"a message may have {limit} bytes")
        if self._wire_bytes + head + size > FRAGMENTS_FACTOR * limit + FRAGMENTS_BYTES:
            raise WebSocketError(CloseCode.MESSAGE_TOO_BIG, "a message of too many fragments")

    def _hold(self, missing: int) -> None:
        """Keep the beginning of a frame until so many more bytes have come."""
        if self._position < len(self._data):
            self._held = bytearray(self._data[self._position :])
            self._missing = missing
        self._data = b""
        self._position = 0

    def _take(self, size: int) -> bytes:
        """The next `size` bytes, which are here, unmasked."""
        start = self._position
        end = self._position = start + size
        return unmask(self._data[start:end], self._mask)

    def _frame(self, first: int, head: int, payload: bytes) -> Event | None:
        """A whole frame; None if it is a fragment, and not the last."""
        opcode = first & 0x0F
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong()
        if opcode == CLOSE:
            return _close(payload)
        if opcode:
            self._opcode = opcode
        message = self._message
        if not first & FINAL:
            if message is None:
                message = self._message = bytearray()
            message += payload
            self._wire_bytes += head + len(payload)
            return None
        if message is not None:
            message += payload
            payload = bytes(message)
            self._message = None
            self._wire_bytes = 0
        opcode = self._opcode
        self._opcode = 0
        return Binary(payload) if opcode == BINARY else Text(_text(payload))

    def _piece(self) -> Event | None:
        """As much as is here of the payload under way."""
        size = min(self._left, len(self._data) - self._position)
        if not size:
            self._hold(0)
            return None
        piece = self._take(size)
        self._left -= size
        turn = size % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return Binary(piece)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """The payload under a mask of four bytes (RFC 6455 §5.3)."""
    size = len(payload)
    if size < _TABLE_BYTES_MIN:
        stretched = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(stretched, "little")).to_bytes(
            size, "little"
        )
    plain = bytearray(size)
    for lane in range(4):
        plain[lane::4] = payload[lane::4].translate(_XOR[mask[lane]])
    return bytes(plain)


def _broken(reason: str) -> WebSocketError:
    return WebSocketError(CloseCode.PROTOCOL_ERROR, reason)


def _long_size(encoded: bytes) -> int:
    """A length in two or eight bytes (RFC 6455 §5.2)."""
    size = int.from_bytes(encoded, "big")
    if size <= CONTROL_BYTES_MAX or (len(encoded) == 8 and not 0xFFFF < size < 2**63):
        raise _broken("a length must take the fewest bytes, and have no highest bit")
    return size


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise WebSocketError(CloseCode.INVALID_DATA, "text must be UTF-8") from None


def _close(payload: bytes) -> Event:
    if not payload:
        return PeerClose(NO_CODE, "")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise _broken("a close code that no peer may send")
    return PeerClose(code, _text(payload[2:]))
