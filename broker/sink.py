"""Where a feed's publications go: the one engine that MQTT and WebSocket share."""

from __future__ import annotations

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.links.server import Server


class EngineSink:
    """A feed's way into the engine; see `broker.feed.status.FeedSink`."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool) -> None:
        self._engine.publish(Publication(topic, payload, qos, retain))

    def flush(self) -> None:
        """One send to everybody the batch was for."""
        self._server.settle()

    async def durable(self) -> None:
        """At once: `publish` has handed it to every session's queue, which is all the safety there is."""
