"""Rows that MQTT clients publish.  What they publish within a turn is handled at its end."""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.links.barrier import barrier
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.market import Market

WAITING_MAX: Final = 100_000
"""Messages of one turn."""


class Published(Receiver):
    """A subscriber inside.  `+1`, `+2`… are the columns for what stands at the filter's first, second… `+`."""

    def __init__(self, rows: IntakeRows, market: Market) -> None:
        super().__init__(plain=False)
        self._rows = rows
        self._filters = rows.intake.filters
        self._market = market
        self._waiting: deque[Publication] = deque()
        self._wildcards: dict[bytes, dict[str, str]] = {}

    def open(self) -> None:
        """Subscribe."""
        engine = self._market.engine
        for topic_filter in self._filters:
            engine.subscribe(self, topic_filter.encode(), 2)
        engine.turn.on_batch_end(self.work)
        self._rows.status.enter("live")

    def close(self) -> None:
        """Take no more messages."""
        engine = self._market.engine
        for topic_filter in self._filters:
            engine.unsubscribe(self, topic_filter.encode())
        engine.turn.forget(self.work)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self._rows.status.drop("queue_full", self._rows.intake.feed.name, self._market.engine.now)
        else:
            self._waiting.append(publication)

    def work(self) -> None:
        """Handle what has come so far."""
        for _ in range(len(self._waiting)):
            publication = self._waiting.popleft()
            with barrier(self._market.engine.counters, f"source {self._rows.intake.feed.name}"):
                self._rows.message(publication.payload.strip(), self._levels(publication.topic))

    def _levels(self, topic: bytes) -> dict[str, str]:
        found = self._wildcards.get(topic)
        if found is None:
            if len(self._wildcards) >= 10_000:
                self._wildcards.clear()
            found = self._wildcards[topic] = levels_of(self._filters, topic.decode())
        return found


def levels_of(filters: tuple[str, ...], topic: str) -> dict[str, str]:
    """What stands in a topic at the `+` of the first filter that matches it; the rest, for `#`, is `#`."""
    levels = topic.split("/")
    for topic_filter in filters:
        found: dict[str, str] = {}
        pattern = topic_filter.split("/")
        # `a/#` matches `a`, too [MQTT-4.7.1-2].
        if len(pattern) != len(levels) and (pattern[-1] != "#" or len(pattern) > len(levels) + 1):
            continue
        for i, level in enumerate(pattern):
            if level == "#":
                found["#"] = "/".join(levels[i:])
                return found
            if level == "+":
                found[f"+{len(found) + 1}"] = levels[i]
            elif level != levels[i]:
                break
        else:
            return found
    return {}
