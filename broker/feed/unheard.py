"""Notifications that would never come here: those that nothing brings to the feed, or only to whoever listens."""

from __future__ import annotations

from broker.config.feeds import FeedConfig
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady, one_row
from broker.feed.notices import carried_channels
from broker.feed.setup.install_notices import CALL, callers
from broker.feed.status import FeedStatus
from broker.feed.wal.slots import PG_STREAMING


async def check_notices(connection: TrioConnection, config: FeedConfig) -> None:
    """Raises: NotReady, if a source listens to channels and nothing brings their notifications here."""
    if not carried_channels(config):
        return
    if config.captures_by == "publication" and connection.pgconn.server_version < PG_STREAMING:
        raise NotReady('notifications come through the WAL from PostgreSQL 14 on: use kind = "outbox"')
    if await one_row(connection, "SELECT to_regprocedure('rowcast.pg_notify(text, text)')") == (None,):
        raise NotReady(f"rowcast.pg_notify() is missing: {INSTALL}")


async def warn_of_unheard(
    connection: TrioConnection, config: FeedConfig, status: FeedStatus, now: float
) -> None:
    """Name functions that notify without telling the feed, as those do that were made anew after the installation."""
    if carried_channels(config):
        for _, name in await (await connection.execute(callers(CALL))).fetchall():
            status.warn(f"notifications not heard, {INSTALL}", name, now)
