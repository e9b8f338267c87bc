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
from broker.feed.driver.failures import first_line
from broker.feed.kinds import kind_of
from broker.feed.outlet import FeedOutlet
from broker.feed.status import FeedStatus

logger = logging.getLogger("broker.feed")

PAUSE_S_MIN = 1.0
PAUSE_S_MAX = 30.0


class Attempting(Protocol):
    """What may fail, and is tried again."""

    async def attempt(self) -> None:
        """Connect and feed until the connection fails; `status.enter("live")` once nothing is owed any more.

        Raises:
            psycopg.Error, OSError: why it ended.
        """


class Feed(Attempting, Protocol):
    """One kind of feed.  What must survive a lost connection is kept in its attributes.

    Constructed as `Kind(config, outlet, status)`.
    """

    @property
    def here(self) -> tuple[int, int]:
        """The place of the row that is being published: rising numbers, the same for whoever reads it; else (0, 0)."""

    def adopt(self, config: FeedConfig) -> bool:
        """Go on with other settings, without a pause; False, and nothing has changed, where that is not possible."""


class Supervisor:
    """One feed for as long as the broker runs, with other settings after a reload.

    Args:
        config: its `kind` decides what runs.
        outlet: gets the publications.
        status: is kept up to date.
    """

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        self._config = config
        self._outlet = outlet
        self._status = status
        self._feed = kind_of(config).feed(config, outlet, status)
        self._running = trio.CancelScope()

    @property
    def here(self) -> tuple[int, int]:
        """As `Feed.here`."""
        return self._feed.here

    def adopt(self, config: FeedConfig) -> None:
        """Other settings: at once where the feed can, else by a new one that begins where this one has stopped."""
        if config == self._config:
            return
        self._config = config
        if not self._feed.adopt(config):
            self._running.cancel()

    async def run(self) -> None:
        """Feed until cancelled."""
        while True:
            begun_with = self._config
            with trio.CancelScope() as self._running:
                await keep_trying(self._feed, self._status)
            if self._config is begun_with:
                return
            logger.info("feed %s: begins anew with the settings that were read again", self._status.name)
            self._feed = kind_of(self._config).feed(self._config, self._outlet, self._status)


async def supervise(config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
    """Run a feed until cancelled; as `Supervisor`."""
    await Supervisor(config, outlet, status).run()


async def keep_trying(feed: Attempting, status: FeedStatus) -> None:
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
        logger.warning("feed %s: %s; trying again in %.1f s", status.name, status.problem, wait_s)
        await trio.sleep(wait_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
