"""Who keeps a statement of ours waiting, so that nobody waits in silence."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import alone
from broker.feed.status import FeedStatus

logger = logging.getLogger("broker.feed")

FIRST_S: Final = 2.0
AGAIN_S: Final = 30.0

BLOCKERS: Final = """
SELECT blocker.pid, a.usename::text, a.datname::text, a.state, to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS')
FROM unnest(pg_blocking_pids(%s)) AS blocker(pid) LEFT JOIN pg_stat_activity a USING (pid)
"""
"""Sessions for which that one waits; 0 is a prepared transaction."""

PREPARED: Final = (
    "SELECT gid, to_char(prepared, 'YYYY-MM-DD HH24:MI:SS') FROM pg_prepared_xacts ORDER BY prepared LIMIT 5"
)


def blocker_words(row: tuple[int, str | None, str | None, str | None, str | None]) -> str:
    """A row of BLOCKERS in words."""
    pid, user, database, state, since = row
    if pid == 0:
        return "a prepared transaction (pg_prepared_xacts)"
    what = f"session {pid} of {user or 'another role'}" + (f" in {database}" if database else "")
    return what + (f", {state}, its transaction open since {since}" if since else "")


@asynccontextmanager
async def waiting(
    config: FeedConfig, status: FeedStatus, connection: TrioConnection, what: str
) -> AsyncIterator[None]:
    """For a statement that waits for others' transactions: say for whom, soon and then again and again.

    Args:
        connection: on which it runs.
        what: it does, in words.
    """
    name = "waiting"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say_for_whom, config, status, connection.pgconn.backend_pid, what, name)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                status.over(name)
    except BaseExceptionGroup as group:
        raise alone(group) from None


async def _say_for_whom(config: FeedConfig, status: FeedStatus, pid: int, what: str, name: str) -> None:
    await trio.sleep(FIRST_S)
    while True:
        with suppress(psycopg.Error, OSError):
            async with connected(config) as other:
                rows = await (await other.execute(BLOCKERS, [pid])).fetchall()
            if rows:
                listed = "; ".join(map(blocker_words, rows))
                status.trouble(name, f"{what} waits for {listed}")
                logger.warning("feed %s: %s still waits for %s", config.name, what, listed)
        await trio.sleep(AGAIN_S)
