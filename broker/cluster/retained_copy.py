"""A node's copy of the retained messages, made when it begins to read the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import certain_end
from broker.cluster.names import Names
from broker.cluster.setup import ask, info, message_at, places
from broker.cluster.stretch import read_all
from broker.core.publication import Publication
from protocol.nats import headers, jetstream, wire

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

    NATS copies them from the log a little later, so what it has not copied yet is read from the log; and all of it
    where NATS had copied what the log has lost since, or has only been told to copy it again.

    Args:
        read: what a message says.

    Raises: Unavailable, ApiError, NatsProtocolError.
    """
    kept: dict[bytes, Publication] = {}
    found = await info(link, names.retained)
    if found is None:
        raise Unavailable(f"the stream {names.retained} is not there")
    copied = 0
    now = _source(names, found)

    def keep(message: wire.Message) -> None:
        nonlocal copied
        publication = read(message)
        if publication is None:
            status.unreadable += 1
            return
        place, is_of_now = _came_by(message.headers, now)
        if place:
            copied = place if is_of_now else 0  # in the log's order, but for what is copied again
            publication.sequence = place
        kept[publication.topic] = publication

    _, end = places(found)
    if end:
        await read_all(link, names.retained, 1, end, (), keep)
    if await see_to_copying(link, names, found, last):
        copied = 0
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


async def see_to_copying(link: NatsLink, names: Names, found: dict[str, Any], last: int) -> bool:
    """Let NATS copy the log again if it had copied what the log has lost; whether it had.

    It would go on behind the last place that it had copied, and leave out what is written up to there.

    Args:
        found: `info` of the stream of retained messages; `last`: of the log, as this node knows it.

    Raises: Unavailable, ApiError, NatsProtocolError.
    """
    copied = await _copied(link, names, found)
    if copied <= last or copied < (await certain_end(link, names))[1]:
        return False
    config = found["config"]
    others = [one for one in config.get("sources") or () if one.get("name") != names.messages]
    # NATS begins with a source anew that it does not know; the second part of it stands for nothing.
    never = {**names.copying(), "src": f"{names.end.decode()}.{uuid4().hex}.>"}
    source = {
        "name": names.messages,
        "opt_start_seq": 1,
        "subject_transforms": [names.copying(), never],
    }
    await ask(link, jetstream.stream_update({**config, "sources": [*others, source]}))
    logger.error("The log has lost what was copied from it: its retained messages are copied again.")
    return True


async def _copied(link: NatsLink, names: Names, found: dict[str, Any]) -> int:
    """Up to where NATS has copied the log, since it was told to last; 0 for nothing yet.

    Raises: Unavailable, ApiError, NatsProtocolError.
    """
    said = [int(one["seq"]) for one in _of_log(names, found) if "seq" in one]
    if said:
        return max(said)
    # It does not say it, as for nothing, or as 2.12: the last that it has copied tells.
    _, end = places(found)
    there = await message_at(link, names.retained, end) if end else None
    if there is None:
        return 0
    place, is_of_now = _came_by(headers.decode(there.block), _source(names, found))
    return place if is_of_now else 0


def _source(names: Names, found: dict[str, Any]) -> tuple[bytes, bytes]:
    """The source by which NATS copies the log now, as messages name it: the stream, and what is taken of it."""
    filters = ""
    for one in _of_log(names, found.get("config") or {}):
        filters = "\f".join([str(part.get("src")) for part in one.get("subject_transforms") or ()])
    return names.messages.encode(), filters.encode()


def _came_by(said: headers.Headers, source: tuple[bytes, bytes]) -> tuple[int, bool]:
    """The place in the log that a message was copied from, 0 if it was not, and whether by this source."""
    stream, filters = source
    words = (said.get(jetstream.STREAM_SOURCE) or b"").split(b" ")
    if len(words) < 2 or words[0] != stream or not words[1].isdigit():
        return 0, False
    return int(words[1]), len(words) < 3 or words[2] == filters


def _of_log(names: Names, said: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources that are the log: somebody may have given the stream others."""
    return [one for one in said.get("sources") or () if one.get("name") == names.messages]


async def _retain(engine: Engine, publications: list[Publication]) -> None:
    """Some in each turn."""
    for start in range(0, len(publications), RETAINED_A_TURN):
        with engine.turn:
            for publication in publications[start : start + RETAINED_A_TURN]:
                if not publication.has_expired(engine.now):
                    engine.retained.put(publication)
        await trio.lowlevel.checkpoint()
