"""What waits for the log: a node's messages in their order, counted, from which one batch after the other is taken.

Hot: compiled.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.cluster.batch import Waiting

WAITING_MESSAGES_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of messages that the log has not taken: above either no more is read from those who publish."""

BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 512 * 1024

MANY: Final = 8
"""Messages of two batches that follow each other."""


class Unsent:
    """Of one node.

    Attributes:
        size: bytes that all of it counts for.
        come_fast: the last two batches together were many.
    """

    def __init__(self) -> None:
        self.size = 0
        self.come_fast = False
        self._last = 0
        """Messages of the last batch."""
        self._messages: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def all(self) -> list[Waiting]:
        """Messages, the first to go first."""
        return list(self._messages)

    def append(self, one: Waiting) -> None:
        """One more, behind the others."""
        self._messages.append(one)
        self.size += one.size()

    def is_full(self) -> bool:
        """Whether as much waits as may."""
        return len(self._messages) >= WAITING_MESSAGES_MAX or self.size >= WAITING_BYTES_MAX

    def is_half_empty(self) -> bool:
        """Whether those who publish may be read from again."""
        return len(self._messages) * 2 < WAITING_MESSAGES_MAX and self.size * 2 < WAITING_BYTES_MAX

    def next_batch(self) -> list[Waiting]:
        """What goes to the log together; it does not wait any more."""
        messages = self._messages
        batch: list[Waiting] = []
        size = 0
        while messages and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            one = messages.popleft()
            batch.append(one)
            size += one.size()
        self.size -= size
        self.come_fast = self._last + len(batch) >= MANY
        self._last = len(batch)
        return batch

    def restrict(self, kept: list[Waiting]) -> None:
        """Only these wait, in their order."""
        self._messages = deque(kept)
        self.size = sum([one.size() for one in kept])

    def take_excess(self) -> list[Waiting]:
        """The oldest of what is more than may wait; it does not wait any more."""
        excess: list[Waiting] = []
        while len(self._messages) > WAITING_MESSAGES_MAX:
            one = self._messages.popleft()
            self.size -= one.size()
            excess.append(one)
        return excess
