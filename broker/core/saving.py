"""Acknowledgements that say "on disk": what waits for the next save, and for which one.

The storage is a party of `Promise` like a table is.  `mark` before a packet is handled, `promise` when it is to be
acknowledged: where handling it changed something that a snapshot holds, the acknowledgement leaves after a save that
covers the change.  All that wait share the next save.

What is sent at QoS 2 waits in the same way; see `saved_writer`.

Invariant: no acknowledgement leaves before `saved` has reached the changes that it promises.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from broker.core.outbox import nothing
from broker.core.promise import Promise
from broker.core.slicing import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.core.engine import Engine
    from broker.core.session import Session

_ALL: Final = 1 << 60
"""More changes than there will be."""

SWEEP_AT: Final = 10_000
"""So many may wait before those that nobody waits for any more are looked for."""


class Saving:
    """The storage's promises of one engine.  Whoever saves sets `on_wanted`, and calls `reached` inside a turn.

    Attributes:
        saved: `Engine.kept_changes` that the last save covered.
        on_wanted: called when something begins to wait and nothing waited before.
        forgetting: how many CONNECTs of a client id wait until its former session is gone from the disk.
        forgetting_count: how many do of all.
    """

    def __init__(self, engine: Engine, saved: int) -> None:
        self.saved = saved
        self.on_wanted: Callable[[], None] = nothing
        self.forgetting: dict[bytes, int] = {}
        self.forgetting_count = 0
        self._engine = engine
        self._marked = self.saved
        self._waiting: deque[tuple[int, Promise]] = deque()
        self._sweep_at = SWEEP_AT

    def waiting(self) -> int:
        """Acknowledgements that wait for a save; each client may have as many as it may have in flight."""
        return len(self._waiting)

    def mark(self) -> None:
        """A packet is about to be handled."""
        self._marked = self._engine.kept_changes()

    def promise(self, session: Session, always: bool, promise: Promise | None) -> Promise | None:
        """What the acknowledgement of the packet that was marked waits for.

        Args:
            session: whose packet it was.
            always: it also stands for what an earlier packet changed, as a PUBLISH that is sent again at QoS 2 does;
                that concerns sessions that outlive their connections.
            promise: what it waits for already, if anything.
        """
        changes = self._engine.kept_changes()
        if changes <= self.saved or (changes == self._marked and (session.clean or not always)):
            return promise
        return self._waits(changes, Promise() if promise is None else promise)

    def promise_saved(self) -> Promise | None:
        """For what may leave only when everything that has changed until now is on disk; None if it is."""
        changes = self._engine.kept_changes()
        return None if changes <= self.saved else self._waits(changes, Promise())

    def _waits(self, changes: int, promise: Promise) -> Promise:
        promise.join()
        if len(self._waiting) >= self._sweep_at:
            # Clients that went away and came again, for as long as the disk takes nothing.
            self._waiting = deque(one for one in self._waiting if one[1].on_kept is not nothing)
            self._sweep_at = max(SWEEP_AT, 2 * len(self._waiting))
        self._waiting.append((changes, promise))
        if len(self._waiting) == 1:
            self.on_wanted()
        return promise

    def reached(self, saved: int) -> None:
        """A save is on disk that covers so many changes: what waited for them leaves."""
        self.saved = max(self.saved, saved)
        while self._waiting and self._waiting[0][0] <= self.saved:
            self._waiting.popleft()[1].keep()

    def give_up(self) -> None:
        """Nobody promises any longer: what waits leaves now, and what is sent by this from now on does not wait."""
        self.saved = _ALL
        while self._waiting:
            self._waiting.popleft()[1].keep()


class Redirecting(Work):
    """What is sent at QoS 2 has to be on disk before, or no longer: each connection is told."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._saving = engine.saving
        self._sessions = list(engine.sessions.values())

    def go_on(self, steps: int) -> int:
        saving = self._saving
        if self._engine.saving is not saving:
            self.is_over = True
            return 0
        sessions = self._sessions
        used = 0
        while sessions and used < steps:
            sessions.pop().send_by(saving)
            used += 1
        self.is_over = not sessions
        return used
