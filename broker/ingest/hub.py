"""Every sink of this process: what they are told, which of them run, and what a reload makes of them."""

from __future__ import annotations

import trio
from attrs import evolve

from broker.config.ingest import IngestConfig, SinkConfig
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.ingest.message_ids import MessageIds
from broker.ingest.sink import Sink
from broker.ingest.writer import Writer


class Hub:
    """The sinks of one engine.

    Args:
        engine: whose messages they take.
        nursery: where a task for each of them runs.

    Attributes:
        sinks: by name, those that take messages now.
    """

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self.sinks: dict[str, Sink] = {}
        self._engine = engine
        self._nursery = nursery
        self._ids = MessageIds()
        self._writers: dict[str, Writer] = {}
        self._database: object = None

    def adopt(self, config: IngestConfig | None) -> None:
        """Run these sinks from now on; one that is gone or other than before writes what it has and ends."""
        wanted: dict[str, SinkConfig] = {} if config is None else {one.name: one for one in config.sinks}
        database = None if config is None else evolve(config.database, sources=(), routes=())
        is_same_database = database == self._database
        self._database = database
        ended: dict[str, Writer] = {}
        for name, sink in list(self.sinks.items()):
            if not is_same_database or wanted.get(name) != sink.config:
                ended[name] = self._end(name)
        for name, one in wanted.items():
            if name not in self.sinks:
                assert config is not None
                self._begin(config, one, ended.get(name))
        for name, writer in ended.items():
            if name not in self.sinks:
                writer.remove()
        self._engine.ingest = self.offer if self.sinks else None

    def offer(self, publication: Publication) -> None:
        """A message for tables only: QoS 2, before its PUBREC."""
        topic = publication.topic
        if topic.startswith(b"$"):
            return
        for sink in self.sinks.values():
            sink.take(publication)

    async def drained(self) -> None:
        """Wait until everything that was taken is written."""
        writers = [self._writers[name] for name in self.sinks]
        for writer in writers:
            writer.end()
        for writer in writers:
            await writer.finished.wait()

    def _begin(self, config: IngestConfig, one: SinkConfig, former: Writer | None) -> None:
        sink = self.sinks[one.name] = Sink(one, self._engine, self._ids)
        writer = self._writers[one.name] = Writer(config.database, sink, self._engine)
        for pattern in one.topics:
            self._engine.subscribe(sink, pattern.topic_filter, 2)
        if former is None:
            self._nursery.start_soon(writer.run)
        else:
            self._nursery.start_soon(writer.succeed, former)

    def _end(self, name: str) -> Writer:
        sink = self.sinks.pop(name)
        for pattern in sink.config.topics:
            self._engine.unsubscribe(sink, pattern.topic_filter)
        writer = self._writers.pop(name)
        writer.end()
        return writer
