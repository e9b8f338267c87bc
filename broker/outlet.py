"""Where a feed's publications go: the one engine that MQTT and WebSocket share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.core import barrier
from broker.core.added import Added
from broker.core.engine import Engine
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.core.rows_as_bytes import forward

if TYPE_CHECKING:
    from broker.feed.outlet import Watch
    from broker.storage.keeper import Keeper


def put_on(publication: Publication, added: Added, engine: Engine) -> None:
    """Give a message what its route adds; its expiry counts from now."""
    publication.properties = added.properties
    if added.expiry_s is not None or added.expires_unix_s is not None:
        engine.turn.tick()
        if added.expiry_s is not None:
            publication.expires_at = engine.now + added.expiry_s
        elif added.expires_unix_s is not None:
            publication.expires_at = engine.now + added.expires_unix_s - time.time()


class EngineOutlet:
    """A feed's way into the engine; see `broker.feed.outlet.FeedOutlet`.

    Args:
        watch: as `broker.feed.outlet.Watching`, of the loop that serves the engine's peers.
    """

    def __init__(
        self,
        engine: Engine,
        keeper: Keeper | None,
        positions: Positions | None = None,
        watch: Callable[[int, Callable[[], None]], Watch | None] | None = None,
    ) -> None:
        self._engine = engine
        self._watch = watch
        self._keeper = keeper
        self._positions = positions
        self.place = b""
        """Where the row is that is published next, if histories want to read it again; see `Traces`."""

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        """Whatever goes wrong with this one is counted, and the next one is published."""
        try:
            publication = Publication(topic, payload, qos, retain)
            if added is not None:
                put_on(publication, added, self._engine)
            if self.place and self._positions is not None:
                self._positions.place = self.place
                self._engine.publish(publication)
                self._positions.place = b""
            else:
                self._engine.publish(publication)
        except Exception as error:
            if self._positions is not None:
                self._positions.place = b""
            barrier.report(self._engine.counters, "a feed", error)
            if barrier.RERAISE:
                raise

    def publish_run(self, topic: bytes, payloads: list[bytes], qos: int) -> None:
        """As `broker.feed.outlet.TakesRuns`."""
        is_done = False
        if not self.place:
            try:
                is_done = forward(self._engine, topic, payloads, qos)
            except Exception as error:
                is_done = True
                barrier.report(self._engine.counters, "a feed", error)
                if barrier.RERAISE:
                    raise
        if not is_done:
            for payload in payloads:
                self.publish(topic, payload, qos, False)

    def watch(self, fd: int, rung: Callable[[], None]) -> Watch | None:
        """As `broker.feed.outlet.Watching`."""
        return None if self._watch is None else self._watch(fd, rung)

    def flush(self) -> None:
        """The batch is complete: one send to everybody it was for; also within a turn that goes on."""
        self._engine.turn.send()

    @property
    def is_strained(self) -> bool:
        """As `broker.feed.outlet.Breathing`."""
        return self._engine.round.is_strained

    def awaits_readers(self, now: float) -> bool:
        """Whether readers who do read still have so much before them that a feed should wait a moment."""
        return self._engine.round.awaits_readers(now)

    async def durable(self) -> None:
        """When the sessions that outlive connections are saved with it; at once where nothing is saved.

        Then `publish` has handed it to every session's queue, which is all the safety there is.
        """
        if self._keeper is not None:
            await self._keeper.settle()
