"""One connection that LISTENs: notifications in the order of their commits, and proof that it still lives.

Invariant: every notification that was received is handed out once, whether the connection lives or has died.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import trio
from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen.hearing import Hearing, hearing_of
from protocol.notifications import Notification

BATCH_MAX: Final = 1000
"""Notifications after which the other tasks have their turn: some 3 ms of work, 10 when interpreted."""

MUCH: Final = 4
"""Notifications in one read after which the next is likely to be there."""

PIECE: Final = 64
"""So many are handed out at once, of 8 kB each: less than a WebSocket client may be owed."""


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
        self._hearing: Hearing | None = None
        self._arrived: list[Notification] = []
        self._heard = False
        self._is_set_aside = False
        self._own_channel = f"rowcast_{secrets.token_hex(12)}"

    async def listen(self, channels: Iterable[str]) -> None:
        """Listen to all channels from one moment on: it is one transaction."""
        self._hearing = await hearing_of(self._connection, self._timeout_s)
        names = map(sql.Identifier, [*channels, self._own_channel])
        listens = sql.SQL("; ").join(sql.SQL("LISTEN {}").format(name) for name in names)
        with within(self._timeout_s, "LISTEN"):
            self._arrived = await self._hearing.execute(listens.as_string(None))

    async def wait(self) -> None:
        """Until something has arrived; then `arrivals` is to be asked.

        Raises:
            psycopg.OperationalError: the connection was closed.
        """
        if self._arrived:
            await trio.lowlevel.checkpoint()
        else:
            await self._connection.wait_readable()

    @property
    def has_arrived(self) -> bool:
        """Whether something was read that `arrivals` has not handed out."""
        return len(self._arrived) > 0

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._connection.pgconn.socket

    def few(self) -> list[Notification] | None:
        """What can be read now, if it is no more than a piece; None if it is, and `arrivals` hands it out.

        Only while nothing `has_arrived`.

        Raises:
            psycopg.OperationalError: the connection ended.
        """
        assert self._hearing is not None
        found = self._hearing.receive()
        self._heard = True
        if len(found) > PIECE:
            self._arrived = found
            return None
        return found

    def arrivals(self) -> Iterator[list[Notification]]:
        """What has arrived, piece by piece as it is read.

        So the server goes on sending while a piece is worked on, and a backlog needs no turn of Trio's loop for
        each piece.  It ends when little has come, or when other tasks should have their turn.

        Raises:
            psycopg.OperationalError: the connection ended.
        """
        taken = 0
        while taken < BATCH_MAX:
            arrived = self._receive()
            count = len(arrived)
            taken += count
            while len(arrived) > PIECE:
                self._arrived = arrived[PIECE:]
                yield arrived[:PIECE]
                arrived, self._arrived = self._arrived, []
            if arrived:
                yield arrived
            if count < MUCH:
                return

    async def until_now(self) -> list[Notification]:
        """All that was notified by transactions committed before this call, perhaps more.

        Postgres keeps notifications in the order of commits, so one of our own comes after them.
        """
        assert self._hearing is not None
        own_channel = self._own_channel.encode()
        with within(self._timeout_s, "NOTIFY"):
            self._arrived += await self._hearing.execute(f"NOTIFY {self._own_channel}")
            while all(channel != own_channel for channel, _ in self._arrived):
                await self._connection.wait_readable()
                self._arrived = self._receive()
        arrived, self._arrived = self._arrived, []
        return [notification for notification in arrived if notification[0] != own_channel]

    def rest(self) -> list[Notification]:
        """What arrived and was not handed out; also of a connection that has failed."""
        arrived, self._arrived = self._arrived, []
        return arrived if self._hearing is None else arrived + self._hearing.rest()

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
            assert self._hearing is not None
            if self._hearing.is_answered:
                self._hearing.ask("SELECT 1")
            await trio.sleep(self._timeout_s)
            if not self._heard and not self._is_set_aside:
                raise psycopg.OperationalError(
                    f"no sign of life from the server within {self._timeout_s:g} s"
                )

    def _receive(self) -> list[Notification]:
        assert self._hearing is not None
        found = self._hearing.receive()
        self._heard = True
        if self._arrived:
            found = self._arrived + found
            self._arrived = []
        return found
