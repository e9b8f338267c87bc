"""The numbers of one process: what the order of its publications is told by; see `broker.core.history`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core.publication import Publication

EPOCHS_MAX: Final = 16
"""Earlier processes whose positions are still understood; of an older one a reader is told that it is unknown."""

NUMBER_DIGITS_MAX: Final = 18


class Positions:
    """Hands out the numbers of one process.

    Args:
        epoch: names this process; no `/` in it, and never the same for two.
        number: the last one that an earlier process gave.
        older: epochs of earlier processes, with the last number of each.
    """

    def __init__(self, epoch: str, number: int = 0, older: dict[str, int] | None = None) -> None:
        self.epoch = epoch
        self.number = number
        self.older = {} if older is None else dict(list(older.items())[-EPOCHS_MAX:])
        self._prefix = epoch.encode() + b"/"
        self.is_shared = False
        """Numbers are given elsewhere; a publication without one has the place of the one before, and is not kept."""
        self.when_current: Callable[[Callable[[], None]], None] | None = None
        """Calls back inside a turn, once everything is here that was numbered elsewhere by now.  Only if shared."""
        self.place = b""
        """Where the row is that is just being published: its feed's name, a NUL, and more; see `Traces`."""

    def stamp(self, publication: Publication) -> bytes:
        """The publication's position, given to it now if it had none."""
        if publication.sequence <= 0:
            if self.is_shared:
                return self.here().encode()
            self.number += 1
            publication.sequence = self.number
        return self._prefix + str(publication.sequence).encode()

    def begin(self, epoch: str, number: int) -> None:
        """Positions are of another order from now on, and go on behind this one."""
        self.epoch = epoch
        self.number = number
        self.older = {}
        self.is_shared = True
        self._prefix = epoch.encode() + b"/"

    def here(self) -> str:
        """The position of the last publication that has one."""
        return self.at(self.number)

    def at(self, number: int) -> str:
        """The position with this number."""
        return f"{self.epoch}/{number}"

    def is_ahead(self, position: str) -> bool:
        """Whether another process may have handed it out already, and what it names is still to come here."""
        epoch, separator, digits = position.partition("/")
        return (
            self.when_current is not None
            and bool(separator)
            and epoch == self.epoch
            and digits.isascii()
            and digits.isdigit()
            and len(digits) <= NUMBER_DIGITS_MAX
            and int(digits) > self.number
        )

    def number_of(self, position: str) -> int | None:
        """The number in a position that was handed out by this process or one that it carries on; else None."""
        epoch, separator, digits = position.partition("/")
        if not separator or not digits.isascii() or not digits.isdigit() or len(digits) > NUMBER_DIGITS_MAX:
            return None
        number = int(digits)
        last = self.number if epoch == self.epoch else self.older.get(epoch)
        return number if last is not None and number <= last else None
