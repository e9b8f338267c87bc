"""Keeping a feed connected: one attempt after another, with longer and longer pauses while Postgres is away.

Only a database or a network that fails is tried again.  Anything else is our bug and ends the process.
"""

from __future__ import annotations

import logging
import random
from typing import Protocol

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed.status import FeedSink, FeedStatus

_LOG = logging.getLogger("broker.feed")

PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 30.0


class Feed(Protocol):
    """One kind of feed.  What must survive a lost connection is kept in its attributes.

    Constructed as `Kind(config, sink, status)`.
    """

    async def attempt(self) -> None:
        """Connect and feed until the connection fails; `status.enter("live")` once nothing is owed any more.

        Raises:
            psycopg.Error, OSError: why it ended.
        """


async def supervise(config: FeedConfig, sink: FeedSink, status: FeedStatus) -> None:
    """Run a feed until cancelled.

    Args:
        config: its `kind` decides what runs.
        sink: gets the publications.
        status: is kept up to date.
    """
    await keep_trying(make_feed(config, sink, status), status)


async def keep_trying(feed: Feed, status: FeedStatus) -> None:
    """Attempt after attempt; pauses double from 1 s to 30 s, each a random half shorter, until one was live."""
    pause_s = PAUSE_S_MIN
    while True:
        status.enter("connecting", status.problem)
        try:
            await feed.attempt()
        except (psycopg.Error, OSError) as error:
            if status.state == "live":
                pause_s = PAUSE_S_MIN
            status.enter("waiting", first_line(error))
        wait_s = pause_s * random.uniform(0.5, 1.0)
        _LOG.warning("feed %s: %s; trying again in %.1f s", status.name, status.problem, wait_s)
        await trio.sleep(wait_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def make_feed(config: FeedConfig, sink: FeedSink, status: FeedStatus) -> Feed:
    """The feed of a configuration's kind.  Imported here, so that only what is used is loaded."""
    if config.kind == "wal":
        from broker.feed.wal.feed import WalFeed

        return WalFeed(config, sink, status)
    if config.kind == "outbox":
        from broker.feed.outbox.feed import OutboxFeed

        return OutboxFeed(config, sink, status)
    assert config.kind == "listen", config.kind
    from broker.feed.listen.feed import ListenFeed

    return ListenFeed(config, sink, status)


def first_line(error: BaseException) -> str:
    """What to show of an error: libpq's come with hints on more lines."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
