"""What Postgres sends to a session that only listens: notifications, and the answers to queries without rows.

Sans-IO; compiled where possible.  libpq makes two allocations and psycopg an object of each notification; a walk
over the bytes of a read makes them at a third of that cost.

Invariant: a message is given out once it is whole, in whatever pieces its bytes come.

Source: PostgreSQL documentation, "Message Formats", protocol 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.json_scan import is_word

if TYPE_CHECKING:
    from mypy_extensions import i64  # to mypyc a machine word, to everybody else an int

Notification = tuple[bytes, bytes]
"""Channel and text.  Which backend it was nobody asks."""

MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""A notification has some 8 kB, and an error's text is not a megabyte: what is longer is none of these."""

_HEAD_BYTES: Final = 5
"""A message's type, and its length, in which the type is not counted."""

_PID_BYTES: Final = 4
"""Of the notifying backend."""

_NOTIFICATION: Final = 0x41
_ERROR: Final = 0x45
_READY: Final = 0x5A
_OTHERS: Final = b"CDINST1"
"""CommandComplete, DataRow, EmptyQueryResponse, NoticeResponse, ParameterStatus, RowDescription, ParseComplete."""


class MalformedAnswer(ValueError):
    """The bytes are no messages of protocol 3, or such as a listening session does not get."""


class Answers:
    """Takes a connection's bytes, from the first that belong to a message.

    Attributes:
        ready: how many queries have been answered.
        error: the last ErrorResponse as SQLSTATE and text; None if there was none.
    """

    def __init__(self) -> None:
        self.ready = 0
        self.error: tuple[str, str] | None = None
        self._rest = b""
        self._channel = (
            b""  # of the last notification: most are on the same, whose name need not be made anew
        )

    def take(self, data: bytes) -> list[Notification]:
        """What came next.  The notifications that are whole by now, in order.

        Raises:
            MalformedAnswer: the connection is of no use any more.
        """
        if self._rest:
            data = self._rest + data
        found: list[Notification] = []
        i: i64 = 0
        end: i64 = len(data)
        while end - i >= _HEAD_BYTES:
            length: i64 = _length_at(data, i + 1)
            if length < 4 or length > MESSAGE_BYTES_MAX:
                raise MalformedAnswer(f"a message of {length} bytes")
            after: i64 = i + 1 + length
            if after > end:
                break
            if data[i] == _NOTIFICATION:
                found.append(self._notification(data, i + _HEAD_BYTES, after))
            else:
                self._note(data[i], data[i + _HEAD_BYTES : after])
            i = after
        self._rest = data[i:]
        return found

    def _notification(self, data: bytes, i: i64, after: i64) -> Notification:
        if after - i < _PID_BYTES + 2 or data[after - 1] != 0:
            raise MalformedAnswer("a notification without end")
        start: i64 = i + _PID_BYTES
        j: i64 = start
        while data[j] != 0:
            j += 1
        if j + 1 >= after:
            raise MalformedAnswer("a notification without text")
        if not is_word(data, start, j, self._channel):
            self._channel = data[start:j]
        return self._channel, data[j + 1 : after - 1]

    def _note(self, kind: int, body: bytes) -> None:
        if kind == _READY:
            self.ready += 1
        elif kind == _ERROR:
            self.error = _error(body)
        elif kind not in _OTHERS:
            raise MalformedAnswer(f"a message of type {kind}")


def query(text: bytes) -> bytes:
    """The message that runs SQL, several statements in one transaction."""
    return b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\0"


def _length_at(data: bytes, i: i64) -> i64:
    first: i64 = data[i]
    second: i64 = data[i + 1]
    third: i64 = data[i + 2]
    fourth: i64 = data[i + 3]
    return (first << 24) | (second << 16) | (third << 8) | fourth


def _error(body: bytes) -> tuple[str, str]:
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    return fields.get(b"C", ""), fields.get(b"M", "an error without words")
