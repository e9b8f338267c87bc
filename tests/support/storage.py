"""Engines that have something to save, and what a persistence file holds."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.database import open_database
from protocol.mqtt.outbound import Window


def engine_with(messages: int) -> Engine:
    """A durable session that is away and is owed so many messages of 60 bytes each."""
    engine = Engine(window=Window(queued_messages=0))
    session, _ = engine.open_session(b"away", False)
    engine.subscribe_session(session, b"t", 1)
    for number in range(messages):
        engine.publish(Publication(b"t", b"%06d" % number * 10, 1))
    return engine


def saved_messages(path: Path) -> int:
    """How many messages the durable session of `engine_with` is owed by the file."""
    connection, saved = open_database(path)
    with closing(connection):
        return sum(len(record.queued) for record in saved.sessions)
