"""The cells of one page of a table: rows and pointers, read so that nothing in them is believed.

A page keeps the remains of rows that were deleted.  They are told from rows by what the page's header says of its free
space, and where the header itself is wrong, rows that may be remains are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from broker.storage.schema import Value, row_checksum

INTERIOR_INDEX: Final = 2
INTERIOR_TABLE: Final = 5
LEAF_INDEX: Final = 10
LEAF_TABLE: Final = 13
KINDS: Final = (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE)

Fields = list[Value | str]
Load = Callable[[int], bytes]


class Cell(NamedTuple):
    """A row, or what an interior page of rows by number has instead of one: the child alone."""

    start: int
    end: int
    child: int
    """0 on a leaf."""
    key: int
    """The row's number; 0 where rows have none."""
    fields: Fields | None


class Unreadable(Exception):
    """SQLite did not write these bytes."""


class Node:
    """One page of a tree.

    Args:
        page: its bytes.
        is_first: the file's header stands before it.
        load: gives the page of a number, for what does not fit on this one.
        kind: what it is, if its own byte for that is not to be believed.
    """

    def __init__(self, page: bytes, is_first: bool, load: Load, kind: int = 0) -> None:
        self.cells: list[Cell] = []
        self.right = 0
        self.expected = 0
        self._page = page
        self._load = load
        start = 100 if is_first else 0
        if not page:
            return
        self.kind = kind or page[start]
        if self.kind not in KINDS:
            raise Unreadable
        self.is_leaf = self.kind in (LEAF_INDEX, LEAF_TABLE)
        pointers = start + (8 if self.is_leaf else 12)
        if not self.is_leaf:
            self.right = int.from_bytes(page[start + 8 : start + 12], "big")
        free, self.expected, content = struct.unpack_from(">HHH", page, start + 1)
        count = min(self.expected, (len(page) - pointers) // 2)
        holes = self._holes(free)
        for at in struct.unpack_from(f">{count}H", page, pointers):
            if not max(content, pointers + 2 * count) <= at < len(page):
                continue
            if any(first < at + 4 and at < last for first, last in holes):
                continue
            try:
                self.cells.append(self._cell(at))
            except (Unreadable, IndexError, struct.error):
                continue

    def _holes(self, at: int) -> list[tuple[int, int]]:
        holes: list[tuple[int, int]] = []
        while 0 < at <= len(self._page) - 4 and len(holes) < len(self._page) // 4:
            following, size = struct.unpack_from(">HH", self._page, at)
            holes.append((at, at + max(4, size)))
            if following <= at:
                break
            at = following
        return holes

    def _cell(self, at: int) -> Cell:
        start = at
        child = key = 0
        if not self.is_leaf:
            child = int.from_bytes(self._page[at : at + 4], "big")
            at += 4
        if self.kind == INTERIOR_TABLE:
            key, at = _varint(self._page, at)
            return Cell(start, at, child, key, None)
        length, at = _varint(self._page, at)
        if self.kind == LEAF_TABLE:
            key, at = _varint(self._page, at)
            key = key - (1 << 64) if key >> 63 else key
        payload, end = self._payload(at, length)
        return Cell(start, end, child, key, _record(payload))

    def _payload(self, at: int, length: int) -> tuple[bytes, int]:
        size = len(self._page)
        most = size - 35 if self.kind == LEAF_TABLE else (size - 12) * 64 // 255 - 23
        if length <= most:
            if at + length > size:
                raise Unreadable
            return self._page[at : at + length], at + length
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        local = local if local <= most else least
        if at + local + 4 > size:
            raise Unreadable
        parts = [self._page[at : at + local]]
        (more,) = struct.unpack_from(">I", self._page, at + local)
        missing = length - local
        seen: set[int] = set()
        while missing > 0:
            page = self._load(more)
            if not page or more in seen:
                raise Unreadable
            seen.add(more)
            part = page[4 : 4 + missing]
            missing -= len(part)
            parts.append(part)
            (more,) = struct.unpack_from(">I", page)
        return b"".join(parts), at + local + 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for position in range(at, at + 8):
        byte = data[position]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position + 1
    return value << 8 | data[at + 8], at + 9


_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)


def _record(payload: bytes) -> Fields:
    head, at = _varint(payload, 0)
    body = head
    fields: Fields = []
    while at < head:
        serial, at = _varint(payload, at)
        if serial >= 12:
            length = (serial - 12) // 2
        elif serial == 7:
            length = 8
        elif serial <= 6:
            length = _INTEGER_BYTES[serial]
        elif serial <= 9:
            length = 0
        else:
            raise Unreadable
        fields.append(_value(serial, payload[body : body + length], length))
        body += length
    if body != len(payload):
        raise Unreadable
    return fields


def _value(serial: int, data: bytes, length: int) -> Value | str:
    if len(data) != length:
        raise Unreadable
    if serial == 0:
        return None
    if serial <= 6:
        return int.from_bytes(data, "big", signed=True)
    if serial == 7:
        (number,) = struct.unpack(">d", data)
        assert isinstance(number, float)
        return number
    if serial <= 9:
        return serial - 8
    if serial % 2 == 0:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable from None


def values_of(node: Node) -> Iterator[list[Value]]:
    """The rows of a page, each with its number where that is its key."""
    for cell in node.cells:
        fields = cell.fields
        if fields is None or any(isinstance(field, str) for field in fields):
            continue
        values: list[Value] = [field for field in fields if not isinstance(field, str)]
        if node.kind == LEAF_TABLE and values and values[0] is None:
            values[0] = cell.key
        yield values


def is_right(values: list[Value]) -> bool:
    """Whether a row is what its checksum says."""
    try:
        return len(values) > 1 and row_checksum(*values[:-1]) == values[-1]
    except (TypeError, struct.error, IndexError, OverflowError):
        return False


def right_rows(page: bytes) -> int:
    """How many rows of a page are right that stand on it as a whole."""
    try:
        return sum(map(is_right, values_of(Node(page, False, lambda _: b""))))
    except (Unreadable, IndexError, struct.error):
        return 0
