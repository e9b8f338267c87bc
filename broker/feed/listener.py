"""One connection that LISTENs: notifications in the order of their commits, and proof that it still lives.

Invariant: every notification that reached libpq is handed out once, whether the connection lives or has died.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import trio
from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.connect import within
from broker.feed.pgdrive import TrioConnection
from broker.feed.usual import Notification

BATCH_MAX: Final = 1000
"""Notifications after which the other tasks have their turn: some 3 ms of work, 10 when interpreted."""

MUCH: Final = 4
"""Notifications in one read after which the next is likely to be there."""


class Listener:
    """Listens on a connection of its own.

    Args:
        connection: used by nobody else.
        config: says when silence is suspicious.
    """

    def __init__(self, connection: TrioConnection, config: FeedConfig) -> None:
        self._connection = connection
        self._interval_s = config.check_interval_s
        self._timeout_s = config.check_timeout_s
        self._arrived: list[Notification] = []
        self._asked = False
        self._heard = False
        self._is_set_aside = False
        self._own_channel = f"rowcast_{secrets.token_hex(12)}"
        connection.pgconn.notify_handler = self._take

    async def listen(self, channels: Iterable[str]) -> None:
        """Listen to all channels from one moment on: it is one transaction."""
        names = map(sql.Identifier, [*channels, self._own_channel])
        listens = sql.SQL("; ").join(sql.SQL("LISTEN {}").format(name) for name in names)
        with within(self._timeout_s, "LISTEN"):
            await self._connection.execute(listens)

    async def wait(self) -> None:
        """Until something has arrived; then `arrivals` is to be asked.

        Raises:
            psycopg.OperationalError: the connection was closed.
        """
        if self._arrived:
            await trio.lowlevel.checkpoint()
        else:
            await self._connection.wait_readable()

    def arrivals(self) -> Iterator[list[Notification]]:
        """What has arrived, as libpq reads it, some 8 KiB at a time.

        So the server goes on sending while a piece is worked on, and a backlog needs no turn of Trio's loop for
        each piece.  It ends when little has come, or when other tasks should have their turn.

        Raises:
            psycopg.OperationalError: the connection ended.
        """
        taken = 0
        while taken < BATCH_MAX:
            self._consume()
            arrived = self._handed_out()
            taken += len(arrived)
            if arrived:
                yield arrived
            if len(arrived) < MUCH:
                return

    async def until_now(self) -> list[Notification]:
        """All that was notified by transactions committed before this call, perhaps more.

        Postgres keeps notifications in the order of commits, so one of our own comes after them.
        """
        own_channel = self._own_channel.encode()
        with within(self._timeout_s, "NOTIFY"):
            await self._connection.execute(sql.SQL("NOTIFY {}").format(sql.Identifier(self._own_channel)))
            while all(channel != own_channel for channel, _, _ in self._arrived):
                await self._receive()
        return [notification for notification in self._handed_out() if notification[0] != own_channel]

    def rest(self) -> list[Notification]:
        """What arrived and was not handed out; also of a connection that has failed."""
        self._drain()
        return self._handed_out()

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Nothing is read in the block, so silence proves nothing."""
        self._is_set_aside = True
        try:
            yield
        finally:
            self._is_set_aside = False
            self._heard = True

    async def watch(self) -> None:
        """Beside `wait`: after a silence ask for a sign of life, for ever.

        Not by a timeout around each wait, which would cost a third of what a single notification costs.

        Raises:
            psycopg.OperationalError: none came.
        """
        while True:
            self._heard = False
            await trio.sleep(self._interval_s)
            if self._heard or self._is_set_aside:
                continue
            if not self._asked:
                self._ask()
            await trio.sleep(self._timeout_s)
            if not self._heard and not self._is_set_aside:
                raise psycopg.OperationalError(
                    f"no sign of life from the server within {self._timeout_s:g} s"
                )

    async def _receive(self) -> None:
        await self._connection.wait_readable()
        self._consume()

    def _ask(self) -> None:
        """Not by `execute`, which would hold up notifications until the answer is there."""
        self._connection.pgconn.send_query(b"SELECT 1")
        self._connection.pgconn.flush()
        self._asked = True

    def _consume(self) -> None:
        pgconn = self._connection.pgconn
        pgconn.consume_input()
        self._heard = True
        self._drain()
        if self._asked and not pgconn.is_busy():
            while pgconn.get_result() is not None:
                pass
            self._asked = False

    def _drain(self) -> None:
        self._arrived.extend(iter(self._connection.pgconn.notifies, None))

    def _take(self, notification: Any) -> None:
        """psycopg's handler, for what comes while a query runs."""
        self._arrived.append(notification)

    def _handed_out(self) -> list[Notification]:
        arrived, self._arrived = self._arrived, []
        return arrived
