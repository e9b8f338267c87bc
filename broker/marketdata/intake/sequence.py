"""Messages that are numbered, each symbol's on its own where the source does so: which came twice, and where some are
missing.  Pure."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from broker.config.market import SequencePaths

REMEMBERED_MAX: Final = 1024
"""Sequence numbers that are known again."""

COUNTS_MAX: Final = 20_000
"""Symbols and the like that are numbered on their own."""

DIGITS_MAX: Final = 19


class Unnumbered(ValueError):
    """The message has no number where one should be, or too many symbols have."""


class Numbered(NamedTuple):
    """A message, as its number has it: `missing` before it are -1 where the count began anew.

    `known` is the highest number before it, -1 if there was none; `of` is whose count it is, "" if there is but one.
    `is_whole` if it says all up to its number; `is_founded` if nothing is missing since the last one that did, or if
    none does.
    """

    is_new: bool
    missing: int
    number: int
    known: int
    of: str
    is_whole: bool = False
    is_founded: bool = True


class Sequence:
    """One count: messages that stand for one number each, or for all from a first to a last one."""

    def __init__(self) -> None:
        self._last = -1
        self._lowest = -1
        self._seen: set[int] = set()
        self._order: deque[int] = deque()
        self._older_left = 0
        self.is_founded = False
        """A message has said all, and since then none is missing."""

    @property
    def last(self) -> int:
        """The highest number so far; -1 before any."""
        return self._last

    def take(self, number: int) -> tuple[bool, int]:
        """Whether the message is new, and how many are missing before it; -1 if the count began anew."""
        if number in self._seen:
            return False, 0
        last = self._last
        missing = 0
        if last >= 0 and number > last + 1:
            missing = number - last - 1
        elif number < last - REMEMBERED_MAX or (number < last and not self._is_late(number)):
            missing = -1
            self._begin(number)
        self._note(number)
        return True, missing

    def take_range(self, first: int, number: int) -> tuple[bool, int]:
        """The same, of a message that stands for all from `first` to `number`, some of which may be known."""
        last = self._last
        if number > last:
            self._note(number)
            return True, max(first - last - 1, 0) if last >= 0 else 0
        return self._older(number)

    def take_after(self, previous: int, number: int) -> tuple[bool, int]:
        """The same, of a message that names the one before it; numbers needn't be neighbours, only rise."""
        last = self._last
        if previous == last and number < last:  # they begin anew, and say so
            self._begin(number)
            return True, 0
        if number > last or number == previous == last:  # or nothing has happened
            self._note(number)
            return True, max(previous - last, 0) if last >= 0 else 0
        return self._older(number)

    def take_whole(self, number: int) -> tuple[bool, int]:
        """The same, of a message that says all up to a number, so that nothing can be missing before it.

        What is known to be complete is not set back by one that was made earlier and came later.
        """
        lowest = self._lowest
        if self.is_founded and lowest <= number < self._last:
            return False, 0
        self._begin(number)
        self._lowest = min(lowest, number) if lowest >= 0 else number
        self._older_left = REMEMBERED_MAX
        self.is_founded = True
        return True, 0

    def _older(self, number: int) -> tuple[bool, int]:
        """A message that isn't the newest: known, or the first of a new count."""
        if number in self._seen or self._is_late(number):
            return False, 0
        if self._older_left:  # what was sent before the message that said all
            self._older_left -= 1
            return False, 0
        self._begin(number)
        return True, -1

    def _note(self, number: int) -> None:
        if self._lowest < 0:
            self._lowest = number
        self._last = max(self._last, number)
        if number not in self._seen:
            self._seen.add(number)
            self._order.append(number)
        if len(self._order) > REMEMBERED_MAX:
            self._seen.discard(self._order.popleft())

    def _begin(self, number: int) -> None:
        self._lowest = number
        self._seen = {number}
        self._order = deque((number,))
        self._last = number
        self._older_left = 0

    def _is_late(self, number: int) -> bool:
        """Whether it can have been overtaken, rather than be counted anew from the beginning."""
        return bool(self._order) and number > self._order[0]


class Sequences:
    """All counts of one source."""

    def __init__(self, paths: SequencePaths) -> None:
        self._paths = paths
        self._counts: dict[str, Sequence] = {}

    def take(self, row: dict[str, Any]) -> Numbered:
        """A row's message.  Raises: Unnumbered."""
        paths = self._paths
        number = self._number(row, paths.last)
        before = self._number(row, paths.previous or paths.first)
        if number is None or (paths.first and before is not None and before > number):
            raise Unnumbered("no_sequence")
        of = at(row, paths.by) if paths.by else ""
        if not isinstance(of, str):
            raise Unnumbered("no_sequence")
        count = self._counts.get(of)
        if count is None:
            if len(self._counts) >= COUNTS_MAX:
                raise Unnumbered("too_many_sequences")
            count = self._counts[of] = Sequence()
        known = count.last
        is_one_of_many = not paths.first and not paths.previous
        if is_one_of_many:
            is_new, missing = count.take(number)
        elif before is None:
            is_new, missing = count.take_whole(number)
        elif paths.previous:
            is_new, missing = count.take_after(before, number)
        else:
            is_new, missing = count.take_range(before, number)
        if missing:
            count.is_founded = False
        return Numbered(
            is_new,
            missing,
            number,
            known,
            of,
            is_whole=before is None and not is_one_of_many,
            is_founded=count.is_founded or is_one_of_many,
        )

    def _number(self, row: dict[str, Any], path: tuple[str, ...]) -> int | None:
        """None if it isn't there.  Raises: Unnumbered, if it is no number."""
        value = at(row, path) if path else None
        if value is None:
            return None
        if value == "-1" and path == self._paths.previous:
            return None  # so do some say that there is none before it
        if (
            not isinstance(value, str)
            or not value.isascii()
            or not value.isdecimal()
            or len(value) > DIGITS_MAX
        ):
            raise Unnumbered("no_sequence")
        return int(value)


def at(value: Any, path: tuple[str, ...]) -> Any:
    """What is at a path of keys, and of places in arrays such as `[0]`; None where there is nothing."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.startswith("["):
            place = int(step[1:-1])
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value
