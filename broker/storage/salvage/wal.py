"""The write-ahead log: which of its frames count, and which of its bits is not as it was written.

SQLite takes a frame whose checksum is wrong for the end of the log and ignores it with all that follow, without a
word, though they were committed.  The checksum is linear, so the one bit that makes it right can be computed; a frame
that was torn by a power cut is not made right by one bit, and remains the end.  Of the high bits of a word, several
would do: the rows of the page say which it was, by their own checksums, or else the page counts as it is, bit and all.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from broker.storage.salvage.cells import right_rows

HEADER_BYTES: Final = 32
FRAME_BYTES: Final = 24
"""Of a frame's header; the page follows."""
_BIG: Final = 0x377F0683
_LITTLE: Final = 0x377F0682
_MASK: Final = 0xFFFFFFFF

Sums = tuple[int, int]


class Wal:
    """A log as far as it counts.

    Args:
        log: its bytes, which are put right in place.

    Attributes:
        put_right: positions of the bytes that were put right, with the bit.
        offsets: where in the log the newest committed image of each page stands.
        page_count: pages of the file after the last commit; 0 if there was none.
        damaged: pages, each as newest in the log, of which some bit is wrong, and it is not known which.
        unreadable: pages of which it is not known whether they are the one that stands there.
        is_broken: there was such a frame, though it may be overwritten by a later one: SQLite takes it for the end.
        trouble: why frames that look committed don't count; "" if there are none.
    """

    def __init__(self, log: bytearray) -> None:
        self.put_right: list[tuple[int, int]] = []
        self.offsets: dict[int, int] = {}
        self.damaged: set[int] = set()
        self.unreadable: set[int] = set()
        self.is_broken = False
        self._wrong: set[int] = set()
        self._sizes: list[int] = []
        self.page_count = 0
        self.page_bytes = 0
        self.trouble = ""
        self._log = log
        if len(log) >= HEADER_BYTES and (self._is_header() or self._find_header_bit()):
            self._read()
        elif len(log) > HEADER_BYTES and any(log):
            self.trouble = "the header of the log is not what was written"

    def _is_header(self) -> bool:
        magic, version, page_bytes = struct.unpack_from(">III", self._log)
        if magic not in (_BIG, _LITTLE) or version != 3_007_000:
            return False
        self._order = ">" if magic == _BIG else "<"
        self.page_bytes = page_bytes
        return self._sums(0, 24, (0, 0)) == struct.unpack_from(">II", self._log, 24)

    def _find_header_bit(self) -> bool:
        """Several may make the checksum right; then the first frame tells, which goes on from the header."""
        found: list[tuple[int, int]] = []
        for position in range(HEADER_BYTES):
            for bit in range(8):
                self._log[position] ^= 1 << bit
                if self._is_header():
                    found.insert(0 if self._has_first_frame() else len(found), (position, bit))
                self._log[position] ^= 1 << bit
        if found:
            self._turn(*found[0])
            return self._is_header()
        return False

    def _has_first_frame(self) -> bool:
        at = HEADER_BYTES
        if (
            len(self._log) < at + FRAME_BYTES + self.page_bytes
            or self._log[at + 8 : at + 16] != self._log[16:24]
        ):
            return False
        sums = self._frame_sums(at, struct.unpack_from(">II", self._log, 24))
        return sums == struct.unpack_from(">II", self._log, at + 16)

    def _read(self) -> None:
        log = self._log
        salts = bytes(log[16:24])
        sums: Sums = struct.unpack_from(">II", log, 24)
        step = FRAME_BYTES + self.page_bytes
        pending: dict[int, int] = {}
        for at in range(HEADER_BYTES, len(log) - step + 1, step):
            found = log[at + 8 : at + 16]
            if found != salts and not self._put_right_salts(at, salts, sums):
                return
            stored: Sums = struct.unpack_from(">II", log, at + 16)
            computed = self._frame_sums(at, sums)
            if computed != stored and not self._put_right_frame(at, computed, stored):
                self._look_on(at, step, salts)
                return
            sums = struct.unpack_from(">II", log, at + 16)
            page, page_count = struct.unpack_from(">II", log, at)
            pending[page] = at + FRAME_BYTES
            self.damaged.discard(page)  # what was wrong of it is overwritten
            self.unreadable.discard(page)
            if self._wrong:
                (self.damaged if len(self._wrong) == 1 else self.unreadable).update(self._wrong)
            page_count = max(page_count, *self._sizes, 0)
            self._wrong, self._sizes = set(), []
            if page_count:
                self.offsets.update(pending)
                pending.clear()
                self.page_count = page_count

    def _put_right_salts(self, at: int, salts: bytes, sums: Sums) -> bool:
        """Whether one bit of a frame's salts was wrong; a frame of an earlier round has others."""
        found = bytes(self._log[at + 8 : at + 16])
        changed = int.from_bytes(found, "big") ^ int.from_bytes(salts, "big")
        if changed.bit_count() != 1 or self._frame_sums(at, sums) != struct.unpack_from(
            ">II", self._log, at + 16
        ):
            return False
        position = 7 - (changed.bit_length() - 1) // 8
        self._turn(at + 8 + position, (changed.bit_length() - 1) % 8)
        return True

    def _put_right_frame(self, at: int, computed: Sums, stored: Sums) -> bool:
        both = (computed[0] << 32 | computed[1]) ^ (stored[0] << 32 | stored[1])
        candidates = list(self._candidates(at, computed, stored))
        if both.bit_count() == 1:
            place = both.bit_length() - 1
            is_checksum = not candidates or self._goes_on(at, computed)
            # No frame follows on the last: then it was the page's only if its rows say so.
            if is_checksum or (self._is_last(at) and self._best(at, candidates) is None):
                self._turn(at + 16 + 7 - place // 8, place % 8)
                return True
        if not candidates:
            return False
        chosen = candidates[0] if len(candidates) == 1 else self._best(at, candidates)
        if chosen is None:
            self._set_aside(at, [place for place in candidates if place[0] < at + FRAME_BYTES])
        else:
            self._turn(*chosen)
        return True

    def _is_last(self, at: int) -> bool:
        return at + 2 * (FRAME_BYTES + self.page_bytes) > len(self._log)

    def _goes_on(self, at: int, sums: Sums) -> bool:
        """Whether the frame after this one was written on these sums."""
        following = at + FRAME_BYTES + self.page_bytes
        if self._is_last(at):
            return False
        return self._frame_sums(following, sums) == struct.unpack_from(">II", self._log, following + 16)

    def _best(self, at: int, candidates: list[tuple[int, int]]) -> tuple[int, int] | None:
        """The one bit with which most rows of the page are right, and more than without it."""
        first = at + FRAME_BYTES
        page = self._log[first : first + self.page_bytes]
        found: list[tuple[int, int]] = []
        most = right_rows(bytes(page))
        for position, bit in candidates:
            if position < first:
                continue
            page[position - first] ^= 1 << bit
            right = right_rows(bytes(page))
            page[position - first] ^= 1 << bit
            if right > most:
                most, found = right, [(position, bit)]
            elif right == most and found:
                found.append((position, bit))
        return found[0] if len(found) == 1 else None

    def _set_aside(self, at: int, places: list[tuple[int, int]]) -> None:
        """A bit of this frame is wrong; perhaps it is one of these, of which page it is and how many there are."""
        page = int.from_bytes(self._log[at : at + 4], "big")
        self._wrong = {page}
        self.is_broken = True
        for position, bit in places:
            change = 1 << 8 * (3 - (position - at) % 4) + bit
            if position < at + 4:
                self._wrong.add(page ^ change)
            else:
                self._sizes.append(int.from_bytes(self._log[at + 4 : at + 8], "big") ^ change)

    def _candidates(self, at: int, computed: Sums, stored: Sums) -> Iterator[tuple[int, int]]:
        """Bits of the frame which make its checksum the stored one."""
        wanted = ((stored[0] - computed[0]) & _MASK, (stored[1] - computed[1]) & _MASK)
        page = range(at + FRAME_BYTES + self.page_bytes - 8, at + FRAME_BYTES - 8, -8)
        # What one more in the first and in the second word of a pair adds to the two sums in the end.
        first, second = (1, 1), (0, 1)
        for pair in (*page, at):
            for word, effect in ((pair, first), (pair + 4, second)):
                for position, bit, change in _changes(self._log, word, self._order):
                    if (change * effect[0] & _MASK, change * effect[1] & _MASK) == wanted:
                        yield position, bit
            first = ((first[0] + first[1]) & _MASK, (first[0] + 2 * first[1]) & _MASK)
            second = ((second[0] + second[1]) & _MASK, (second[0] + 2 * second[1]) & _MASK)

    def _look_on(self, at: int, step: int, salts: bytes) -> None:
        """See whether a commit follows on a frame that is wrong in more than one bit."""
        sums: Sums = struct.unpack_from(">II", self._log, at + 16)
        for later in range(at + step, len(self._log) - step + 1, step):
            if self._log[later + 8 : later + 16] != salts:
                return
            computed = self._frame_sums(later, sums)
            sums = struct.unpack_from(">II", self._log, later + 16)
            if computed == sums and self._log[later + 4 : later + 8] != bytes(4):
                number = (at - HEADER_BYTES) // step + 1
                self.trouble = (
                    f"frame {number} of the log is not what was written, and what follows it does not count:"
                    " the power was cut in the midst of a save, or its disk changed it"
                )
                return

    def _frame_sums(self, at: int, sums: Sums) -> Sums:
        sums = self._sums(at, 8, sums)
        return self._sums(at + FRAME_BYTES, self.page_bytes, sums)

    def _sums(self, at: int, length: int, sums: Sums) -> Sums:
        one, two = sums
        words = struct.unpack_from(f"{self._order}{length // 4}I", self._log, at)
        for index in range(0, len(words), 2):
            one = (one + words[index] + two) & _MASK
            two = (two + words[index + 1] + one) & _MASK
        return one, two

    def _turn(self, position: int, bit: int) -> None:
        self._log[position] ^= 1 << bit
        self.put_right.append((position, bit))


def _changes(log: bytearray, at: int, order: str) -> Iterator[tuple[int, int, int]]:
    """Each bit of a word: its byte, its place there, and how the word's value changes when it is turned."""
    for byte in range(4):
        weight = byte if order == "<" else 3 - byte
        for bit in range(8):
            change = 1 << (8 * weight + bit)
            yield at + byte, bit, -change if log[at + byte] >> bit & 1 else change
