"""The pages of the file as they are after the last commit of its log, and what its pointer map says of each."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Final

from broker.storage.salvage.wal import Wal

PAGE_BYTES: Final = 4096
"""What SQLite gives a new file."""

LOST: Final = 0
ROOT: Final = 1
FREE: Final = 2
OVERFLOW: Final = (3, 4)
NODE: Final = 5
"""Kinds of pages in the pointer map: every file of ours has one, since it is vacuumed in steps.

`LOST` is none: where the map says it, the map itself is not what was written.
"""


class Pages:
    """A file and its log.

    Args:
        file: the file's bytes.
        log: the log's bytes, put right, and what was found of it; None if there is none.
    """

    def __init__(self, file: bytes | mmap, log: bytearray | None, wal: Wal | None) -> None:
        self._file = file
        self._log = log
        self._wal = wal
        self.size = _page_bytes(bytes(file[:100]), len(file)) if wal is None else wal.page_bytes or PAGE_BYTES
        in_file = len(file) // self.size
        self.count = in_file if wal is None or wal.page_count == 0 else wal.page_count
        self._per_map = self.size // 5

    def page(self, number: int) -> bytes:
        """One page, counted from 1; b"" for one that is not there."""
        if not 1 <= number <= self.count or (self._wal is not None and number in self._wal.unreadable):
            return b""
        if self._wal is not None and self._log is not None and number in self._wal.offsets:
            at = self._wal.offsets[number]
            return bytes(self._log[at : at + self.size])
        found = bytes(self._file[(number - 1) * self.size : number * self.size])
        return found if len(found) == self.size else b""

    def is_map(self, number: int) -> bool:
        """Whether it holds a part of the pointer map."""
        return number >= 2 and (number - 2) % (self._per_map + 1) == 0

    def mapped(self, number: int) -> tuple[int, int]:
        """What the pointer map says: the kind, and the page that points to this one."""
        if number < 3 or self.is_map(number):
            return LOST, 0
        map_page = (number - 2) // (self._per_map + 1) * (self._per_map + 1) + 2
        page = self.page(map_page)
        at = 5 * (number - map_page - 1)
        if len(page) < at + 5:
            return LOST, 0
        kind, parent = struct.unpack_from(">BI", page, at)
        return kind, parent


def _page_bytes(header: bytes, length: int) -> int:
    size = int.from_bytes(header[16:18], "big")
    size = 65_536 if size == 1 else size
    is_power = size >= 512 and size & (size - 1) == 0
    return size if is_power and length % size == 0 else PAGE_BYTES
