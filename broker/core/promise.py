"""What has to be done with a message before its publisher is told that it has arrived.

Hot: compiled with those who look at it.

Invariant: `on_kept` is called once, when every party that joined has kept its part.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core.outbox import nothing


class Promise:
    """Held back for a message: its PUBACK or PUBREC.

    Whoever takes it on calls `join` while the message is handed on, and `keep` when it is done, inside a turn.

    Attributes:
        code: what a client of 5.0 is told, a reason code; the highest that any party gave.
    """

    def __init__(self) -> None:
        self.code = 0
        self.on_kept: Callable[[], None] = nothing
        self._parties = 0

    def join(self) -> None:
        """One more has to keep it."""
        self._parties += 1

    def keep(self, code: int = 0) -> None:
        """One of them has; the worst `code` of all is what the publisher is told."""
        self._parties -= 1
        self.code = max(self.code, code)
        if self._parties == 0:
            on_kept = self.on_kept
            self.on_kept = nothing
            on_kept()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody is to be called."""
        return self.on_kept is not nothing

    @property
    def is_kept(self) -> bool:
        """Whether all have."""
        return self._parties == 0
