"""Bytes to lines, however they come; a line that is too long is counted, and read past.  Pure."""

from __future__ import annotations

from typing import Final

LINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""A book of 50 000 levels a side has about as much."""


class Lines:
    """Of one connection.

    Attributes:
        too_long: lines that were read past.
    """

    def __init__(self, bytes_max: int = LINE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_skipping = False
        self.too_long = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends and without empty ones."""
        *ended, rest = data.split(b"\n")
        found = []
        for piece in ended:
            if self._is_skipping:
                self._is_skipping = False
                continue
            self._keep(piece)
            if not self._is_skipping:
                line = b"".join(self._pieces).strip()
                if line:
                    found.append(line)
            self._is_skipping = False
            self._forget()
        if rest and not self._is_skipping:
            self._keep(rest)
        return found

    def rest(self) -> bytes:
        """What came behind the last line, once nothing follows."""
        return b"".join(self._pieces).strip()

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._bytes_max:
            self.too_long += 1
            self._is_skipping = True
            self._forget()
        else:
            self._pieces.append(piece)

    def _forget(self) -> None:
        self._pieces = []
        self._size = 0
