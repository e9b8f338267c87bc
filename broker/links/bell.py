"""A descriptor that rings in the pump's turn: for threads of our own, whose work others of that turn wait for.

Hot: compiled.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round, nothing
from broker.links.pump import Connection, Pump
from broker.links.readiness import READABLE


class Bell(Connection):
    """Watched by a pump from `hang` on, until that serves nothing any more.

    Args:
        fd: readable while there is something to be done; whoever made it closes it.
        rung: does it, inside the pump's turn.
        taken_down: told that nobody watches any more.
    """

    def __init__(self, pump: Pump, fd: int, rung: Callable[[], None], taken_down: Callable[[], None]) -> None:
        self.pump = pump
        self.fd = fd
        self._rung = rung
        self._taken_down = taken_down
        # Never owed anything.
        self.outbox = Outbox(Round(Counters()), 0, None, nothing, nothing)

    def hang(self) -> None:
        """From now on it rings."""
        self.pump.watch(self)

    def events(self) -> int:
        return READABLE

    def readable(self) -> None:
        self._rung()

    def stop(self) -> None:
        self.pump.unwatch(self)
        self._taken_down()
