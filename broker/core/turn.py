"""One stretch of synchronous work on the broker: the clock before it, and everything that is owed after it.

Every shell (the pump, a task around a stream, a feed, a timer) works on the engine inside `with engine.turn:`.  The end
of the outermost turn is where a batch ends: a transaction, a round of the pump, a request.

Invariant: outside of a turn no outbox owes anything that was not yet offered to the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.core.engine import Engine


NEVER: Final = inf
"""A time that does not come."""


class Turn:
    """The engine's turns; one object for all of them, since they never overlap.

    Args:
        engine: whose clock is set, and whose outboxes are flushed.

    Attributes:
        clock: monotonic seconds; a shell that has a clock gives its own.  Without one, time stands still.
        due: when a turn is wanted though nothing comes; the pump sees to it.
    """

    def __init__(self, engine: Engine) -> None:
        self.clock: Callable[[], float] | None = None
        self.due = NEVER
        self._engine = engine
        self._depth = 0
        self._batch_ended: list[Callable[[], None]] = []
        self._settled: list[Callable[[], None]] = []

    def on_batch_end(self, listener: Callable[[], None]) -> None:
        """Call `listener` at the end of every turn, before anything is sent: it may still publish."""
        self._batch_ended.append(listener)

    def on_settled(self, listener: Callable[[], None]) -> None:
        """Call `listener` at the end of every turn, after what was owed has been offered to the kernel."""
        self._settled.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call this one no more."""
        for listeners in (self._batch_ended, self._settled):
            if listener in listeners:
                listeners.remove(listener)

    @property
    def is_under_way(self) -> bool:
        """Whether there will be an end that listeners are told of."""
        return self._depth > 0

    def tick(self) -> None:
        """Set the clock, for who publishes outside of a turn and ends the batch with one."""
        if self._depth == 0 and self.clock is not None:
            self._engine.now = self.clock()

    def send(self) -> None:
        """Offer what is owed to the kernel: within a turn, which goes on and ends its batch later, or by a turn."""
        if self._depth > 0:
            self._engine.flush()
        else:
            with self:
                pass

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1 and self.clock is not None:
            now = self._engine.now = self.clock()
            if self.due <= now:
                self.due = NEVER  # this is the one

    def __exit__(self, *_: object) -> None:
        # Also after an exception: what was decided before it is owed all the same.
        if self._depth == 1:
            try:
                for listener in self._batch_ended:
                    listener()
                self._engine.flush()
                for listener in self._settled:
                    listener()
            finally:
                self._depth = 0
        else:
            self._depth -= 1
