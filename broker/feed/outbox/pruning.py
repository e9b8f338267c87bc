"""Taking rows away from the outbox that nobody needs any more."""

from __future__ import annotations

import logging
from typing import Final

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.outbox.queries import PRUNE, one_row

logger = logging.getLogger("broker.feed")

PRUNE_INTERVAL_S: Final = 60.0
PRUNE_TRANSACTIONS: Final = 5000
"""Deleted in one statement; more follow at once."""

OURS: Final = "SET LOCAL rowcast.prunes = on"
"""Tells the outbox that who deletes knows what has been read; of others it is said to the feeds (`outbox_taken`)."""


class Pruner:
    """Deletes what every consumer has read, and what nobody read in time; see `Replication`."""

    def __init__(self, config: FeedConfig) -> None:
        self._config = config
        self._due_at = 0.0

    async def prune(self, connection: TrioConnection, now: float) -> bool:
        """Some of it, if it is time (`now`: monotonic seconds).  Whether it was."""
        if now < self._due_at:
            return False
        wanted = self._config.replication
        parameters = {"keep": wanted.keep_s, "keep_unread": wanted.keep_unread_s, "limit": PRUNE_TRANSACTIONS}
        async with connection.transaction():
            await connection.execute(OURS)
            count, highest = await one_row(connection, PRUNE, parameters)
            if count:
                raise_to = "UPDATE rowcast.outbox_pruned SET seq = greatest(seq, %s)"
                await connection.execute(raise_to, [highest])
        self._due_at = now if count == PRUNE_TRANSACTIONS else now + PRUNE_INTERVAL_S
        if count:
            logger.debug("feed %s: = pruned %d transactions from the outbox", self._config.name, count)
        return True
