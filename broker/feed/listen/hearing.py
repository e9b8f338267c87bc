"""How a listening connection is read: past libpq where its bytes are the protocol's, else by libpq.

libpq has no quick way to a notification, and a feed gets hundreds of thousands in a second.  Once a session does
nothing but listen, what it receives is simple enough to be read here; only TLS and GSSAPI are left to libpq.

Invariant: a notification that has been received is handed out once, whether the connection lives or has died.
"""

from __future__ import annotations

import os
from typing import Any, Final, Protocol

import psycopg

from broker.feed.driver.connect import within
from broker.feed.driver.connection import TrioConnection
from protocol.notifications import Answers, MalformedAnswer, Notification, query

READ_BYTES: Final = 64 * 1024
"""A few hundred notifications, a millisecond's work."""

READS_AT_END_MAX: Final = 64
"""What a connection that has failed may still have: more than a socket's buffer."""


class Hearing(Protocol):
    """One connection that is used for nothing else any more."""

    @property
    def is_answered(self) -> bool:
        """Whether the last query has been answered."""

    async def execute(self, statement: str) -> list[Notification]:
        """Run SQL that returns no rows.  What was notified meanwhile.

        Raises:
            psycopg.Error: the server refused, or the connection ended.
        """

    def ask(self, statement: str) -> None:
        """As `execute`, without waiting for the answer.

        Raises:
            psycopg.OperationalError: the connection ended.
        """

    def receive(self) -> list[Notification]:
        """What has arrived, as far as it is there without waiting.

        Raises:
            psycopg.OperationalError: the connection ended.
        """

    def rest(self) -> list[Notification]:
        """What else has arrived; also of a connection that has failed."""


async def hearing_of(connection: TrioConnection, timeout_s: float) -> Hearing:
    """The quickest way that a connection allows; it must not be used for anything else from here on."""
    if connection.pgconn.ssl_in_use or await _is_wrapped(connection, timeout_s):
        return ByLibpq(connection)
    return BySocket(connection)


async def _is_wrapped(connection: TrioConnection, timeout_s: float) -> bool:
    with within(timeout_s, "asking about GSSAPI"):
        try:
            query = "SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()"
            row = await (await connection.execute(query)).fetchone()
        except psycopg.errors.UndefinedTable:  # a server that only resembles Postgres
            return True
    return row is None or bool(row[0])


class ByLibpq:
    """The way for every connection."""

    def __init__(self, connection: TrioConnection) -> None:
        self._connection = connection
        self._arrived: list[Notification] = []
        self._is_asked = False
        connection.pgconn.notify_handler = self._take

    @property
    def is_answered(self) -> bool:
        """Whether no answer is outstanding."""
        return not self._is_asked

    async def execute(self, statement: str) -> list[Notification]:
        """Run a statement, wait for its end, and give what was notified until then."""
        await self._connection.execute(statement.encode())
        return self.rest()

    def ask(self, statement: str) -> None:
        """Send a statement; its end shows in `is_answered`."""
        self._connection.pgconn.send_query(statement.encode())
        self._connection.pgconn.flush()
        self._is_asked = True

    def receive(self) -> list[Notification]:
        """The notifications that can be read without waiting."""
        pgconn = self._connection.pgconn
        pgconn.consume_input()
        if self._is_asked and not pgconn.is_busy():
            while pgconn.get_result() is not None:
                pass
            self._is_asked = False
        return self.rest()

    def rest(self) -> list[Notification]:
        """Those that libpq already holds."""
        arrived, self._arrived = self._arrived, []
        for notification in iter(self._connection.pgconn.notifies, None):
            arrived.append((notification.relname, notification.extra))
        return arrived

    def _take(self, notification: Any) -> None:
        """psycopg's handler, for what comes while a query runs."""
        self._arrived.append((notification.relname, notification.extra))


class BySocket:
    """The quick way, for a connection whose socket carries the protocol as it is.

    Between queries libpq has nothing left of what it has read, so what the socket gives next is a message's start.
    The descriptor belongs to somebody else once the connection is closed: `pgconn` raises then.
    """

    def __init__(self, connection: TrioConnection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._answers = Answers()
        self._asked = 0

    @property
    def is_answered(self) -> bool:
        """Whether no answer is outstanding."""
        return self._answers.ready == self._asked

    async def execute(self, statement: str) -> list[Notification]:
        """Run a statement, wait for its end, and give what was notified until then."""
        self._answers.error = None
        self.ask(statement)
        arrived: list[Notification] = []
        while not self.is_answered:
            await self._connection.wait_readable()
            arrived += self.receive()
        if self._answers.error is not None:
            state, text = self._answers.error
            raise _error_class(state)(text)
        return arrived

    def ask(self, statement: str) -> None:
        """Send a statement; its end shows in `is_answered`."""
        message = query(statement.encode())
        try:
            written = os.write(self._pgconn.socket, message)
        except OSError as error:
            raise psycopg.OperationalError(f"connection failed: {error.strerror}") from None
        if written < len(message):
            raise psycopg.OperationalError("the server takes nothing any more")
        self._asked += 1

    def receive(self) -> list[Notification]:
        """The notifications that can be read without waiting."""
        try:
            data = os.read(self._pgconn.socket, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise psycopg.OperationalError(f"connection failed: {error.strerror}") from None
        if data == b"":
            last = self._answers.error
            raise psycopg.OperationalError(last[1] if last else "server closed the connection unexpectedly")
        try:
            return self._answers.take(data)
        except MalformedAnswer as error:
            raise psycopg.OperationalError(f"the server sent what is no answer: {error}") from None

    def rest(self) -> list[Notification]:
        """Those that the kernel still holds when the connection is about to end."""
        arrived: list[Notification] = []
        try:
            for _ in range(READS_AT_END_MAX):
                found = self.receive()
                if not found:
                    break
                arrived += found
        except psycopg.OperationalError:
            pass  # it has ended, as was to be expected
        return arrived


def _error_class(state: str) -> type[psycopg.Error]:
    try:
        return psycopg.errors.lookup(state)
    except KeyError:
        return psycopg.OperationalError
