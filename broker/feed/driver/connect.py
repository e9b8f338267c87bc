"""Connections as every feed wants them: named, in UTF-8, and dropped by the kernel when the peer is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
import trio
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.pooler import refusal_words, refuse_shared_sessions

_UNLESS_GIVEN: Final = {
    "application_name": "rowcast",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Seconds, and milliseconds for the last.  The kernel's own defaults notice a dead peer after two hours."""


class AnyText(Loader):
    """Text of a server that takes whatever it is given; what is not UTF-8 comes as lone surrogates."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode(errors="surrogateescape")


class AnyTextBinary(AnyText):
    """The same where values come in Postgres's binary format."""

    format = psycopg.pq.Format.BINARY


_SESSION: Final = {
    "row_security": ("off", 0),
    "statement_timeout": ("0", 0),
    "lock_timeout": ("0", 0),
    "idle_in_transaction_session_timeout": ("0", 0),
    "idle_session_timeout": ("0", 140000),
    "transaction_timeout": ("0", 170000),
    "default_transaction_read_only": ("off", 0),
    "default_transaction_isolation": ("'read committed'", 0),
}
"""Settings, and the first version of Postgres that has them.

A policy that hides rows from us is an error of Postgres then, instead of rows that are missing in silence.  A feed's
sessions are idle for days, bound their own time, and keep their place; what a role or a database sets is meant for
programs.
"""


def session_sql(server_version: int) -> bytes:
    """What every session of a feed sets, for a version as libpq has it, in one message."""
    return "; ".join(
        f"SET {name} = {value}" for name, (value, since) in _SESSION.items() if server_version >= since
    ).encode()


async def open_connection(config: FeedConfig, settings: str = "", **parameters: Any) -> TrioConnection:
    """As `connected`, to be closed by the caller."""
    given = conninfo_to_dict(config.dsn)
    wanted: dict[str, Any] = {name: value for name, value in _UNLESS_GIVEN.items() if name not in given}
    wanted |= parameters

    async def connect() -> TrioConnection:
        try:
            return await TrioConnection.connect(
                config.dsn, autocommit=True, prepare_threshold=None, client_encoding="UTF8", **wanted
            )
        except psycopg.OperationalError as error:
            if cure := refusal_words(str(error), config.dsn):
                raise psycopg.OperationalError(f"{str(error).strip()}: {cure}") from error
            raise

    connection = await connect()
    try:
        with within(config.check_timeout_s, "setting the session up"):
            await refuse_shared_sessions(connection, connect)
            if connection.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
                # Otherwise the server refuses to send what is not UTF-8, and the connection with it.
                await connection.execute(b"SET client_encoding = SQL_ASCII")
                for name in ("text", "name", "varchar", "bpchar"):
                    connection.adapters.register_loader(name, AnyText)
                    connection.adapters.register_loader(name, AnyTextBinary)
            await connection.execute(session_sql(connection.pgconn.server_version))
            if settings:
                await connection.execute(settings.encode())
    except BaseException:
        connection.abandon()
        raise
    return connection


@asynccontextmanager
async def connected(
    config: FeedConfig, settings: str = "", **parameters: Any
) -> AsyncIterator[TrioConnection]:
    """A connection to a feed's database, autocommitting, nothing prepared; closed at once at the end.

    Args:
        settings: SET statements with semicolons between them.
        parameters: more libpq parameters, e.g. `replication="database"`.
    """
    connection = await open_connection(config, settings, **parameters)
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
