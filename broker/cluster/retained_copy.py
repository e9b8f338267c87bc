"""A node's copy of the retained messages, made when it begins to read the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import Names
from broker.cluster.setup import info, places
from broker.cluster.stretch import read_all
from broker.core.publication import Publication
from protocol.nats import jetstream, wire

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

logger = logging.getLogger("broker.cluster")

RETAINED_A_TURN: Final = 256
"""Messages that are retained before others have their turn."""


async def copy_retained(
    engine: Engine,
    link: NatsLink,
    names: Names,
    read: Callable[[wire.Message], Publication | None],
    last: int,
    status: ClusterStatus,
) -> None:
    """Make the store what the log's retained messages are, up to `last`.

    NATS copies them from the log a little later, so what it has not copied yet is read from the log.

    Args:
        read: what a message says.

    Raises: Unavailable, ApiError, NatsProtocolError.
    """
    kept: dict[bytes, Publication] = {}
    found = await info(link, names.retained)
    if found is None:
        raise Unavailable(f"the stream {names.retained} is not there")
    copied = 0

    def keep(message: wire.Message) -> None:
        nonlocal copied
        publication = read(message)
        if publication is None:
            status.unreadable += 1
            return
        source = message.headers.get(jetstream.STREAM_SOURCE)
        if source is not None:
            words = source.split(b" ")
            if len(words) > 1 and words[1].isdigit():
                copied = max(copied, int(words[1]))
                publication.sequence = int(words[1])
        kept[publication.topic] = publication

    _, end = places(found)
    if end:
        await read_all(link, names.retained, 1, end, (), keep)
    if copied < last:
        await read_all(link, names.messages, copied + 1, last, (names.all_retained(),), keep)
    store = engine.retained
    gone = [
        Publication(one.topic, b"", 0, True)
        for one in store.all()
        if not one.topic.startswith(b"$SYS") and one.topic not in kept
    ]
    await _retain(engine, [*gone, *kept.values()])
    logger.info("%d retained messages are here.", len(kept))


async def _retain(engine: Engine, publications: list[Publication]) -> None:
    """Some in each turn."""
    for start in range(0, len(publications), RETAINED_A_TURN):
        with engine.turn:
            for publication in publications[start : start + RETAINED_A_TURN]:
                if not publication.has_expired(engine.now):
                    engine.retained.put(publication)
        await trio.lowlevel.checkpoint()
