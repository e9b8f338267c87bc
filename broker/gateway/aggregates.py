"""Channels at an interval: what a channel brings is collected and published once per interval, for everybody.

Invariant: an aggregate exists, and is subscribed to its channel, exactly as long as it has readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from protocol.dialects.conflation import Backlog, Conflation

AGGREGATE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Payloads that one aggregate holds within its interval."""


class Aggregate(Receiver):
    """One channel at one interval.

    Args:
        topic: where the result is published.
        source: the topic that is collected.
        every_s: the interval.
        publish: the engine's.
        counters: what can't be collected is counted there, and nobody else misses the message.
    """

    def __init__(
        self,
        topic: bytes,
        source: bytes,
        every_s: float,
        conflation: Conflation,
        publish: Callable[[Publication], object],
        counters: Counters,
    ) -> None:
        super().__init__(plain=False)
        self.source = source
        self._publish = publish
        self.topic = topic
        self.every_s = every_s
        self.readers = 0
        self.due_at = 0.0
        self._conflation = conflation
        self._counters = counters
        self._begin()

    def _begin(self) -> None:
        self._backlog = Backlog(self._conflation, AGGREGATE_BYTES_MAX, merges_early=True)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if publication.part is None:
            with barrier(self._counters, f"the channel {self.source!r}", self._begin):
                self._collect(publication.payload)
            return
        # Each reader is given what it misses of that, when its interval is over: `broker.core.parts`.
        news = Publication(self.topic, publication.payload)
        news.part = publication.part
        self._publish(news)

    def _collect(self, payload: bytes) -> None:
        """Let it wait for the interval's end, or end the interval early where there is no room: nothing is left out."""
        if not self._backlog.has_room("", payload):
            self._publish_collected(self._publish)
        if self._backlog.has_room("", payload):
            self._backlog.offer("", payload)
        else:
            self._publish(Publication(self.topic, payload))

    def _publish_collected(self, publish: Callable[[Publication], object]) -> None:
        while (entry := self._backlog.take()) is not None:
            payload = entry[1]
            if payload is not None:
                publish(Publication(self.topic, payload))

    def publish_due(self, now: float, publish: Callable[[Publication], object]) -> None:
        """Publish what was collected, if the interval is over; an interval without messages stays silent."""
        if now < self.due_at:
            return
        if not self._backlog:
            return
        # The first message after a pause goes out at once, and the interval begins with it.
        self.due_at = now + self.every_s
        with barrier(self._counters, f"the channel {self.source!r}", self._begin):
            self._publish_collected(publish)
