"""What the log still has of a history, read by a node that begins: its readers may come from any other.

A node without this would begin with empty rings, and whoever came to it with an older position would not be given what
was missed.

Invariant: a ring has everything that its filter matches in the log behind `lost_through`, or is as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from broker.cluster.setup import info, places
from broker.cluster.stretch import read_all
from broker.gateway.gaps import GAP_FILTER
from protocol.mqtt.topics import matches
from protocol.nats import subjects, wire
from protocol.nats.delivery import Delivered
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.link import NatsLink
    from broker.cluster.names import Names
    from broker.core.history import History, Ring
    from broker.core.publication import Publication

logger = logging.getLogger("broker.cluster")

MESSAGES_MAX: Final = 200_000
"""Read at most: some seconds of a processor."""

TRIES: Final = 3
"""The log forgets its oldest messages while they are read."""

BEFORE: Final = "it is older than what the cluster's log had when this node began"


async def refill(
    history: History,
    link: NatsLink,
    names: Names,
    read: Callable[[wire.Message, int], Publication | None],
    found: dict[str, Any],
    last: int,
    unix_now: float,
) -> None:
    """Give the rings what the log has up to `last`; they are empty, and complete behind it.

    Args:
        read: the publication of a message with a place in the log.
        found: the log's `info`.
        unix_now: by the clock of the log.

    Raises:
        Unavailable: the log can't be read now.
    """
    first, _ = places(found)
    start = max(first, last + 1 - _most(history.rings, found.get("state", {})))
    if not history.rings or start > last:
        return
    try:
        for _ in range(TRIES):
            copies = await _copies(history, link, names, read, start, last, unix_now)
            first, _ = places(await info(link, names.messages) or {})
            if first <= start:
                break
            start = 2 * first - start  # some more of them will be gone soon
        else:
            logger.warning("The history begins here: the log forgets faster than it can be read.")
            return
    except ApiError as error:
        logger.warning("The history begins here: the log can't be read: %s.", error)
        return
    for ring, copy in zip(history.rings, copies, strict=True):
        ring.adopt(copy)
    logger.info("%d messages of the log are in the history.", sum(copy.count for copy in copies))


def _most(rings: list[Ring], state: dict[str, Any]) -> int:
    """How many messages at the log's end may be of use: a ring takes no more than so many, or so many bytes."""
    messages, size = int(state.get("messages", 0)), int(state.get("bytes", 0))
    each = max(1, size // max(1, messages))
    return min(MESSAGES_MAX, max((min(ring.count_max, ring.bytes_max // each) for ring in rings), default=0))


async def _copies(
    history: History,
    link: NatsLink,
    names: Names,
    read: Callable[[wire.Message, int], Publication | None],
    start: int,
    last: int,
    unix_now: float,
) -> list[Ring]:
    """Of each ring another one, with what the log has from `start` to `last`.  Raises: Unavailable, ApiError."""
    copies = [ring.empty_copy(start - 1, BEFORE) for ring in history.rings]
    now = trio.current_time()

    def keep(message: wire.Message) -> None:
        about = Delivered(message.reply)
        sequence = about.stream_sequence
        publication = read(message, sequence)
        if publication is None:
            return
        topic = publication.topic
        if matches(GAP_FILTER, topic):
            for copy in copies:
                copy.forget(sequence, "rows may be missing")
            return
        at = now - max(0.0, unix_now - about.stored_at)
        for copy in copies:
            if matches(copy.topic_filter, topic):
                copy.add(publication, at)

    filters = _filters(names, [ring.topic_filter for ring in history.rings])
    await read_all(link, names.messages, start, last, filters, keep)
    return copies


def _filters(names: Names, topic_filters: list[bytes]) -> tuple[bytes, ...]:
    """Subjects that take what the rings keep, and gaps; () for all, as a consumer's filters must not overlap."""
    if len(topic_filters) > 1:
        return ()
    wanted = (*subjects.subjects_of_filter(topic_filters[0]), *subjects.subjects_of_filter(GAP_FILTER))
    if topic_filters[0].split(b"/")[0] in (b"#", b"+", b"$SYS"):
        return ()
    return tuple(sorted({names.messages_prefix + b"*.*." + subject for subject in wanted}))
