"""Rows of the replication stream, from the server's bytes to publications in one walk.  Pure; compiled where possible.

While a table's description holds, its rows differ only in their values: what stands between these in the row's JSON
is known, and which of them make up topics and keys.  What takes the careful path (an old row, an unchanged TOAST
value, NULL in a topic) is left to `pgoutput` and `routes`; `wal.tables` makes what stands here.

Invariant: for every change that is taken here the publications are those that `Delivery.change` would make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker.feed.fast.notified import ROW, WHOLE, FastRoute, Outgoing
from broker.feed.fast.shape import LEVEL, TEXT, UNUSED
from broker.feed.routing.once import Key, Once, key_of_texts
from broker.feed.wal.progress import Progress
from protocol.pgoutput import FRAME_HEAD_BYTES, INSERT, UPDATE, XLOG_DATA

if TYPE_CHECKING:
    from mypy_extensions import i64  # to mypyc a machine word, to everybody else an int

LOOK_BYTES: Final = 65_536
"""Frames are taken in one go up to about here, a small part of what a WebSocket client may be owed."""

NUMBER: Final = 0
STRING: Final = 1
BOOLEAN: Final = 2
MOMENT: Final = 3
OTHER: Final = 4
"""What a column is: digits; a text; true or false; a timestamp with time zone; what a function renders."""

_NEW: Final = 0x4E
_NULL: Final = 0x6E
_TEXT: Final = 0x74

_SPACE: Final = 0x20
_QUOTE: Final = 0x22
_HASH: Final = 0x23
_PERCENT: Final = 0x25
_PLUS: Final = 0x2B
_SLASH: Final = 0x2F
_NINE: Final = 0x39
_BACKSLASH: Final = 0x5C
_LOWER_T: Final = 0x74


Read = Callable[[int], tuple[int, Any]]
"""libpq's PQgetCopyData: 1 for not to wait; the size of the next frame, and the frame in a buffer of libpq's."""


class Column:
    """One column: what stands before its value in the row's JSON, and what it is wanted for.

    Args:
        name: with the comma or brace before it and the colon behind it, `,"id":`.
        kind: NUMBER, STRING, BOOLEAN, MOMENT or OTHER.
        render: for OTHER, and for values that are not written in their most frequent form.
        use: UNUSED, or as in `broker.feed.fast.shape`; of MOMENT and OTHER nothing can be wanted.
    """

    def __init__(self, name: bytes, kind: int, render: Callable[[bytes], bytes], use: int) -> None:
        self.kind = kind
        self.render = render
        self.use = use
        self.bare = name
        self.quoted = name + b'"'
        # Behind a value in quotes its closing one comes first.
        self.bare_behind_quote = b'"' + name
        self.quoted_behind_quote = b'"' + name + b'"'


class FastKind:
    """What a table's rows become under one kind of one source.

    Args:
        positions: for each route, whether its bodies end with their place in the feed's order.
        head, tail: what stands before and behind the row in a notification.
    """

    def __init__(self, routes: list[FastRoute], positions: list[bool], head: bytes, tail: bytes) -> None:
        self.routes = routes
        self.positions = positions
        self.head = head
        self.tail = tail


class FastTable:
    """Rows of one table that one operation left behind, as its description says them now."""

    def __init__(self, columns: list[Column], kinds: list[FastKind]) -> None:
        self._columns = columns
        self._kinds = kinds
        self.shows_position = any(any(routed_kind.positions) for routed_kind in kinds)
        self.repeated = 0
        """Rows times routes left out because of `once_per`; whoever counts them sets it to 0."""

    def publications(self, data: bytes, start: int, now: float, position: bytes) -> list[Outgoing] | None:
        """What a row becomes; None, and nothing has been done, if it has to take the careful path.

        Args:
            data: holds the row's columns from `start` on, as pgoutput writes them, up to its end.
            now: monotonic seconds.
            position: the change's place in the feed's order; needed if `shows_position`.
        """
        values: list[bytes] = []
        row = self._row(data, start, values)
        if row is None:
            return None
        outgoing: list[Outgoing] = []
        fresh: list[tuple[Once, Key]] = []
        repeated = 0
        for routed_kind in self._kinds:
            number = 0
            for route in routed_kind.routes:
                ending = b',"position":"' + position + b'"}' if routed_kind.positions[number] else b""
                number += 1
                once = route.once
                if once is not None:
                    key = key_of_texts([values[place] for place in route.once_places])
                    if once.is_repeated(key, now):
                        repeated += 1
                        continue
                    fresh.append((once, key))
                for template in route.templates:
                    address = template.address(values)
                    if address is None:
                        return None
                    body = template.body
                    if body == ROW:
                        payload = row
                    elif body == WHOLE:
                        payload = routed_kind.head + row + routed_kind.tail
                    else:
                        payload = address[1] + row + b"}"
                    if ending:
                        payload = payload[:-1] + ending
                    outgoing.append((address[0], payload, route.qos, route.retain))
        self.repeated += repeated
        for once, key in fresh:
            once.remember(key, now)
        return outgoing

    def _row(self, data: bytes, start: i64, values: list[bytes]) -> bytes | None:
        """The row's JSON; its wanted values are added to `values`."""
        # In one piece: place, value and quote are handed from column to column as plain machine words.
        size: i64 = len(data)
        i: i64 = start + 2
        kind: i64 = 0
        length: i64 = 0
        if i > size or ((data[start] << 8) | data[start + 1]) != len(self._columns):
            return None
        is_quoted = False
        parts: list[bytes] = []
        for column in self._columns:
            if i >= size:
                return None
            if data[i] == _NULL:
                if column.use != UNUSED:
                    return None
                parts.append(column.bare_behind_quote if is_quoted else column.bare)
                parts.append(b"null")
                is_quoted = False
                i += 1
                continue
            if data[i] != _TEXT or size - i < 5:
                return None
            length = (data[i + 1] << 24) | (data[i + 2] << 16) | (data[i + 3] << 8) | data[i + 4]
            i += 5
            if size - i < length:
                return None
            value = data[i : i + length]
            i += length
            kind = column.kind
            if kind == NUMBER:
                if length == 0 or value[length - 1] > _NINE or not _is_fit(value, length, column.use):
                    return None  # NaN, Infinity
                parts.append(column.bare_behind_quote if is_quoted else column.bare)
                is_quoted = False
            elif kind == STRING and _is_plain(value, length):
                if not _is_fit(value, length, column.use):
                    return None
                parts.append(column.quoted_behind_quote if is_quoted else column.quoted)
                is_quoted = True
            elif kind == BOOLEAN:
                value = b"true" if length == 1 and value[0] == _LOWER_T else b"false"
                parts.append(column.bare_behind_quote if is_quoted else column.bare)
                is_quoted = False
            elif kind == MOMENT and _is_moment(value, length):
                parts.append(column.quoted_behind_quote if is_quoted else column.quoted)
                parts.append(value[:10])
                parts.append(b"T")
                parts.append(value[11:])
                value = b":00"
                is_quoted = True
            else:
                if column.use != UNUSED:
                    return None
                parts.append(column.bare_behind_quote if is_quoted else column.bare)
                value = column.render(value)
                is_quoted = False
            parts.append(value)
            if column.use != UNUSED:
                values.append(value)
        if i != size:
            return None
        parts.append(b'"}' if is_quoted else b"}")
        return b"".join(parts)


def _is_plain(value: bytes, length: i64) -> bool:
    """Whether it is its own JSON, between quotes."""
    i: i64 = 0
    c: i64 = 0
    while i < length:
        c = value[i]
        if c < _SPACE or c in (_QUOTE, _BACKSLASH):
            return False
        i += 1
    return True


def _is_fit(value: bytes, length: i64, use: int) -> bool:
    """Whether it can be in a topic's level, or in a key or a channel's name, as it is."""
    if use == UNUSED:
        return True
    i: i64 = 0
    c: i64 = 0
    while i < length:
        c = value[i]
        if c < _SPACE or c >= 0x7F:
            return False
        if use >= LEVEL and (c in (_SLASH, _PLUS) or _HASH <= c <= _PERCENT):
            return (
                False  # also `$`, which can't be first in a topic, and `%`, which may be the escape character
            )
        i += 1
    return use == TEXT or length > 0


def _is_moment(value: bytes, length: i64) -> bool:
    """`2024-02-13 15:53:50.5+00`, without any `BC`, with a year of four digits and whole hours of offset."""
    return length >= 22 and value[10] == _SPACE and value[length - 3] == _PLUS


class FastChanges:
    """The stream of one connection, as far as the fast path knows its changes.

    Args:
        progress: where the stream stands.
        snapshot_lsn: what committed before it may be in a snapshot, and takes the careful path.
        publish: as `FeedOutlet.publish`.

    Attributes:
        wal_end: of the last frame taken.
    """

    def __init__(
        self, progress: Progress, snapshot_lsn: int, publish: Callable[[bytes, bytes, int, bool], None]
    ) -> None:
        self._progress = progress
        self._snapshot_lsn = snapshot_lsn
        self._publish = publish
        self._inserts: dict[int, FastTable] = {}
        self._updates: dict[int, FastTable] = {}
        self._received = 0
        self._published = 0
        self.wal_end = 0

    def learn(self, oid: int, inserts: FastTable | None, updates: FastTable | None) -> None:
        """From now on the table's rows look like this; None: all take the careful path."""
        for tables, table in ((self._inserts, inserts), (self._updates, updates)):
            if table is not None:
                tables[oid] = table
            elif oid in tables:
                del tables[oid]

    def settle(self) -> tuple[int, int, int]:
        """Changes taken since the last call, publications they became, and those left out because of `once_per`."""
        repeated = 0
        for tables in (self._inserts, self._updates):
            for table in tables.values():
                repeated += table.repeated
                table.repeated = 0
        counts = (self._received, self._published, repeated)
        self._received = 0
        self._published = 0
        return counts

    def take_frames(self, read: Read, frames_max: int, now: float) -> tuple[int, int, bytes]:
        """Take frames as long as the fast path knows them, at most so many, and little more than `LOOK_BYTES`.

        Returns:
            How many were taken; what `read` said last: the size of the next frame, and that frame, which it does
            not know; or 0 or less, for all that has come, or ever will.  After `frames_max` frames no frame, but a size
            above 0.
        """
        last = b""
        taken = 0
        taken_bytes = 0
        size = 1
        frame = b""
        while taken < frames_max and taken_bytes < LOOK_BYTES:
            size, view = read(1)
            if size <= 0:
                break
            frame = bytes(view)
            if frame[0] != XLOG_DATA or not self.take(frame, FRAME_HEAD_BYTES, False, now):
                break
            last = frame
            taken_bytes += len(frame)
            frame = b""
            taken += 1
        if last:
            self.wal_end = int.from_bytes(last[9:17], "big")
        return taken, size, frame

    def take(self, data: bytes, start: int, in_stream: bool, now: float) -> bool:
        """Publish the change whose message starts there, if the fast path knows its form.

        Args:
            in_stream: the message is of a streamed transaction, and names its subtransaction.
        """
        i: i64 = start
        size: i64 = len(data)
        if size - i < 12:
            return False
        operation: i64 = data[i]
        if operation != INSERT and operation != UPDATE:
            return False
        i += 5 if in_stream else 1
        if data[i + 4] != _NEW:
            return False
        oid: i64 = (data[i] << 24) | (data[i + 1] << 16) | (data[i + 2] << 8) | data[i + 3]
        table = (self._inserts if operation == INSERT else self._updates).get(oid)
        progress = self._progress
        if table is None or progress.is_skipping or progress.open_lsn < self._snapshot_lsn:
            return False
        position = progress.next_here if table.shows_position else b""
        try:
            outgoing = table.publications(data, i + 5, now, position)
        except Exception:
            return False  # the careful path has a barrier for each row
        if outgoing is None:
            return False
        progress.is_new()
        for topic, body, qos, retain in outgoing:
            self._publish(topic, body, qos, retain)
        self._received += 1
        self._published += len(outgoing)
        return True
