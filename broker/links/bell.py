"""A descriptor that rings in the pump's turn: for threads of our own, whose work others of that turn
wait for, and for what a feed reads.

Hot: compiled.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from broker.links.connection import Connection
from broker.links.pump import Pump
from broker.links.readiness import READABLE


class Bell(Connection):
    """Watched by a pump from `hang` on, until that serves nothing any more.

    Args:
        fd: readable while there is something to be done; whoever made it closes it.
        rung: does it, inside the pump's turn.
        taken_down: told that nobody watches any more.
        is_awaited: somebody answers what is done at once, so the pump may look out for it.
    """

    def __init__(
        self,
        pump: Pump,
        fd: int,
        rung: Callable[[], None],
        taken_down: Callable[[], None],
        is_awaited: bool = True,
    ) -> None:
        self._is_awaited = is_awaited
        self.pump = pump
        self.fd = fd
        self._rung = rung
        self._taken_down = taken_down
        # Never owed anything.
        self.outbox = Outbox(Round(Counters()), 0, None)

    def hang(self) -> None:
        """From now on it rings."""
        self.pump.watch(self)

    def events(self) -> int:
        return READABLE

    def readable(self) -> None:
        if not self._is_awaited:
            self.pump.may_look_out = False
        self._rung()

    def failed(self, error: Exception) -> None:
        """Nobody knows what was not done."""
        raise error

    def begin(self) -> None:
        """As `broker.feed.outlet.Watch`."""
        self.hang()

    def end(self) -> None:
        """Nobody watches it, until it is hung again."""
        self.pump.unwatch(self)

    def stop(self) -> None:
        self.pump.unwatch(self)
        self._taken_down()
