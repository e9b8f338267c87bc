"""A subscriber inside this process: a bounded queue of publications."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from broker.core.counters import Counters
from broker.core.limits import LOCAL_QUEUE_MESSAGES_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver


class LocalSubscriber(Receiver):
    """Collects publications for `Broker.subscribe`.

    Args:
        counters: the broker's; counts what is dropped because the reader is slow.
        on_ready: called when the queue stops being empty.
    """

    def __init__(self, counters: Counters, on_ready: Callable[[], None]) -> None:
        super().__init__(plain=False)
        self.dropped = 0
        self._counters = counters
        self._on_ready = on_ready
        self._queue: deque[Publication] = deque()

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if len(self._queue) >= LOCAL_QUEUE_MESSAGES_MAX:
            self._queue.popleft()
            self.dropped += 1
            self._counters.dropped_queue_full += 1
        self._queue.append(publication)
        if len(self._queue) == 1:
            self._on_ready()

    def take(self) -> Publication | None:
        """The oldest waiting publication, if there is one."""
        return self._queue.popleft() if self._queue else None
