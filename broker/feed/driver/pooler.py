"""Whether a pooler stands between us and the server, and whether it gives a session away between transactions.

A session of the server is what a feed lives on: LISTEN, settings, replication.  A pooler in transaction mode gives each
transaction to whatever session is free; so notifications go to others, and settings of ours would reach theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from broker.feed.driver.connection import TrioConnection

PID: Final = b"SELECT pg_backend_pid()"
LOOKS: Final = 3
"""So many times is a shared session looked for: others may use the pool meanwhile."""

REFUSED: Final = (
    "a pooler in transaction mode stands between (PgBouncer's pool_mode): sessions are not kept, so notifications go"
    " astray and settings reach others: let the dsn name the server itself, or a pool with pool_mode = session"
)


class PooledSession(psycopg.OperationalError):
    """Sessions are not ours for as long as we are connected."""


async def refuse_shared_sessions(
    connection: TrioConnection, connect: Callable[[], Awaitable[TrioConnection]]
) -> None:
    """To be called before anything is set or listened to on a connection.

    Args:
        connect: opens another connection in the same way.

    Raises:
        PooledSession: the session that we have now may be another's after our next transaction.
    """
    if not may_be_pooled(connection, await _pid(connection)):
        return
    for _ in range(LOOKS):
        before = await _pid(connection)
        other = await connect()
        try:
            await other.execute(b"BEGIN")
            theirs = await _pid(other)
            after = await _pid(connection)
        finally:
            other.abandon()
        if theirs == before or after != before:
            raise PooledSession(REFUSED)


def may_be_pooled(connection: psycopg.Connection[Any] | TrioConnection, pid: int) -> bool:
    """A pooler says another process id than that of the server's process, since a session has many clients."""
    return pid != connection.pgconn.backend_pid


def shares_sessions(connection: psycopg.Connection[Any], dsn: str) -> bool:
    """As `refuse_shared_sessions`, for programs that wait."""
    if not may_be_pooled(connection, _pid_of(connection)):
        return False
    for _ in range(LOOKS):
        before = _pid_of(connection)
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute(b"BEGIN")
            theirs = _pid_of(other)
            after = _pid_of(connection)
        if theirs == before or after != before:
            return True
    return False


def refusal_words(error: str, dsn: str) -> str:
    """What would cure a pooler's refusal to connect; "" if it is none."""
    if "unsupported startup parameter" not in error:
        return ""
    if "replication" in error:
        return (
            "this is a pooler that doesn't pass replication on: let the dsn name the server itself"
            ' (PgBouncer from 1.23 on passes it), or use kind = "outbox"'
        )
    named = "options" if conninfo_to_dict(dsn).get("options") else "what it names"
    return f"leave {named} out of the dsn, or let PgBouncer have ignore_startup_parameters = options"


async def _pid(connection: TrioConnection) -> int:
    row = await (await connection.execute(PID)).fetchone()
    assert row is not None
    return int(row[0])


def _pid_of(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(PID).fetchone()
    assert row is not None
    return int(row[0])
