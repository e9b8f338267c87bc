"""The messages that wait for one client: first in, first out.  Sans-IO.

Hot: each message that the window has no room for goes through here.  A deque would do, but compiled code can only call
it as any object, which costs more than all the rest of queueing a message.

Invariant: `_items` is None before `_first`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.mqtt.window import Queued

TAKEN_MIN: Final = 64
"""So many empty places are left at the front before the others move up; they are half of all then, or more."""


class WaitingLine:
    """Messages in the order in which they will be sent."""

    def __init__(self, messages: Iterable[Queued] = ()) -> None:
        self._items: list[Queued | None] = list(messages)
        self._first = 0

    def count(self) -> int:
        """How many wait."""
        return len(self._items) - self._first

    def append(self, message: Queued) -> None:
        """One more, behind all others."""
        self._items.append(message)

    def take(self) -> Queued:
        """The first one, which waits no more; there must be one."""
        items = self._items
        first = self._first
        message = items[first]
        assert message is not None
        items[first] = None
        first += 1
        if first >= TAKEN_MIN and 2 * first >= len(items):
            del items[:first]
            first = 0
        self._first = first
        return message

    def oldest(self) -> Queued | None:
        """The first one, which goes on waiting; None if nobody waits."""
        items = self._items
        return items[self._first] if self._first < len(items) else None

    def all(self) -> list[Queued]:
        """All that wait, in order; the list is the caller's own."""
        return [message for message in self._items if message is not None]

    def behind(self, position: int) -> list[Queued]:
        """Those whose `position` is behind this one."""
        items = self._items
        start = len(items)
        while start > self._first:
            message = items[start - 1]
            if message is None or message.position <= position:
                break
            start -= 1
        return [message for message in items[start:] if message is not None]
