"""A server that is being stopped waits for us: until what it has written was sent, and confirmed.

Nothing in the stream says that it is being stopped.  But it ends ordinary sessions first, and lets nobody in any more;
so an idle session beside the stream tells of it.  Whoever is behind, or has a disk that does not answer, then leaves,
and gets the rest when the server is back.  So does whoever has got all: what it can't keep any more, it can't confirm.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NoReturn

import psycopg
import trio

from broker.feed.driver.connection import TrioConnection

PATIENCE_S: Final = 2.0
"""How long a server that is being stopped may wait for us: those who are not behind have got all by then."""


async def hold_up_no_stop(
    session: TrioConnection,
    connect: Callable[[], AbstractAsyncContextManager[TrioConnection]],
    until_through: Callable[[], Awaitable[None]],
) -> NoReturn:
    """Watch the server for as long as it runs.

    Args:
        session: an idle one, which the caller closes.
        connect: another, where somebody has ended that one alone.
        until_through: returns when the server has sent all that it has.

    Raises:
        psycopg.OperationalError: the server is being stopped, and has sent all, or been waiting for `PATIENCE_S`.
    """
    await _ended(session)
    while True:
        try:
            async with connect() as another:
                await _ended(another)
        except psycopg.Error as error:
            with trio.move_on_after(PATIENCE_S):
                await until_through()
            raise psycopg.OperationalError(f"the server is being stopped: {error}") from error


async def _ended(session: TrioConnection) -> None:
    """Until the server has closed it."""
    pgconn = session.pgconn
    while True:
        await session.wait_readable()
        try:
            pgconn.consume_input()
        except psycopg.OperationalError:
            return
        pgconn.notifies()  # takes what was said meanwhile, so that it does not pile up
