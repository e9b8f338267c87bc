"""Connections as every feed wants them: named, in UTF-8, and dropped by the kernel when the peer is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
import trio
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection

_UNLESS_GIVEN: Final = {
    "application_name": "rowcast",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Seconds, and milliseconds for the last.  The kernel's own defaults notice a dead peer after two hours."""


async def open_connection(config: FeedConfig, **parameters: Any) -> TrioConnection:
    """As `connected`, to be closed by the caller."""
    given = conninfo_to_dict(config.dsn)
    wanted: dict[str, Any] = {name: value for name, value in _UNLESS_GIVEN.items() if name not in given}
    wanted |= parameters
    return await TrioConnection.connect(
        config.dsn, autocommit=True, prepare_threshold=None, client_encoding="UTF8", **wanted
    )


@asynccontextmanager
async def connected(config: FeedConfig, **parameters: Any) -> AsyncIterator[TrioConnection]:
    """A connection to a feed's database, autocommitting, nothing prepared; closed at once at the end.

    Args:
        parameters: more libpq parameters, e.g. `replication="database"`.
    """
    connection = await open_connection(config, **parameters)
    try:
        yield connection
    finally:
        connection.abandon()


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """A deadline for the database.

    Raises:
        psycopg.OperationalError: `what` took longer than `seconds`.
    """
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise psycopg.OperationalError(f"{what} took longer than {seconds:g} s") from None
