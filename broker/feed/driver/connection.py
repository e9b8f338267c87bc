"""psycopg on Trio: its protocol generators, driven by `wait_readable` and `wait_writable`.

psycopg's own I/O is sans-IO: generators that yield which readiness they need.  Only the code that waits is
asyncio's, so that is all that is replaced here.  No asyncio loop; no thread but Trio's own for a host *name*.

Invariant: after a cancelled call the connection is either idle and usable, or closed; never in between.
Uses of psycopg's internals, pinned by tests: `generators`, `lock`, `wait`, `_should_cancel`,
`AsyncTransaction._get_rollback_commands`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
import trio
from psycopg import AsyncConnection, AsyncTransaction, errors, generators, pq
from psycopg.abc import PQGen, PQGenConn
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from psycopg.waiting import Ready, Wait

CONNECT_TIMEOUT_S = 10.0
"""Per address, where the connection string has no `connect_timeout`.  libpq's default is to wait for ever."""

SETTLE_TIMEOUT_S = 5.0
"""How long a cancelled call may take to stop its query on the server; then the connection is closed."""

BUSY_S_MAX = 0.005
"""How long calls that never have to wait may keep the other tasks from running.  As psycopg's own waiter."""

T = TypeVar("T")


class TrioConnection(AsyncConnection[Any]):
    """`psycopg.AsyncConnection` for Trio.  Everything of it works but COPY's queued writer and psycopg_pool.

    Several tasks may share one; calls take turns.  A cancelled query is cancelled on the server, too.  A COPY
    that is cancelled closes the connection.
    """

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: Any = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.lock: Any = trio.Lock()
        self._rested_at = trio.current_time()

    @classmethod
    async def connect(
        cls, conninfo: str = "", *, autocommit: bool = False, prepare_threshold: int | None = 5, **kwargs: Any
    ) -> Self:
        """Connect, trying every host and every address of it in turn.

        Args:
            conninfo: a libpq connection string or URL; `connect_timeout` counts per address, in seconds.
            prepare_threshold: executions before a query is prepared; None for never (poolers, replication).
            kwargs: more libpq parameters, e.g. `replication="database"`, `application_name=...`.

        Raises:
            psycopg.OperationalError: nobody answered, or the server refused.  psycopg.ProgrammingError: the
            connection string is malformed.
        """
        parameters = conninfo_to_dict(conninfo, **kwargs)
        failures: list[psycopg.OperationalError] = []
        for attempt in await connection_attempts(parameters):
            try:
                pgconn = await _connect(attempt)
            except psycopg.OperationalError as error:
                failures.append(error)
                continue
            connection = cls(pgconn)
            connection._autocommit = autocommit
            connection.prepare_threshold = prepare_threshold
            return connection
        if len(failures) == 1:
            raise failures[0]
        raise psycopg.OperationalError("no host could be reached:\n" + "\n".join(map(str, failures)))

    async def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:  # noqa: ASYNC109
        """Run one of psycopg's generators to its end; `interval` is psycopg's and not needed here.

        Raises:
            errors._WaitTimeout: after `timeout` seconds; what ran is left as it is, as psycopg does.
        """
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if timeout is None:
                result = await self._drive(gen)
            else:
                with trio.move_on_after(timeout) as scope:
                    result = await self._drive(gen)
                if scope.cancelled_caught:
                    raise errors._WaitTimeout
        except (trio.Cancelled, KeyboardInterrupt):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                await self._settle(gen)
            raise
        if trio.current_time() - self._rested_at > BUSY_S_MAX:
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._rested_at = trio.current_time()
        return result

    async def wait_readable(self) -> None:
        """Until bytes from the server wait in the socket.

        Touches nothing when cancelled: what a LISTEN or replication loop wants, which then calls
        `pgconn.consume_input()` itself.

        Raises:
            psycopg.OperationalError: the connection is closed, or is closed by another task meanwhile.
        """
        try:
            await trio.lowlevel.wait_readable(self.pgconn.socket)
        except trio.ClosedResourceError:
            raise psycopg.OperationalError("the connection was closed") from None

    async def wait_writable(self) -> None:
        """Until the socket takes bytes again; as `wait_readable`."""
        try:
            await trio.lowlevel.wait_writable(self.pgconn.socket)
        except trio.ClosedResourceError:
            raise psycopg.OperationalError("the connection was closed") from None

    async def cancel_safe(self, *, timeout: float = SETTLE_TIMEOUT_S) -> None:  # noqa: ASYNC109
        """Ask the server to stop what this connection is running.  Runs to its end even when cancelled.

        Raises:
            psycopg.errors.CancellationTimeout: not delivered within `timeout` seconds.
        """
        if not self._should_cancel():
            return
        if not psycopg.capabilities.has_cancel_safe():
            raise psycopg.NotSupportedError("cancelling without blocking needs libpq 17")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + timeout) as scope:
            request = self.pgconn.cancel_conn()
            request.start()
            await _drive_connect(generators.cancel(request))
        if scope.cancelled_caught:
            raise errors.CancellationTimeout(f"the server took no cancellation within {timeout} s")

    async def close(self) -> None:
        """Close at once, whatever runs.  Tasks that wait for this connection get psycopg.OperationalError."""
        self.abandon()

    def abandon(self) -> None:
        """`close`, for where nothing may be awaited."""
        if self.closed:
            return
        self._closed = True
        trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Commit and close; after an exception only close, which rolls back and can't be held up."""
        try:
            if exc_val is None and not self.closed:
                await self.commit()
        finally:
            self.abandon()

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncIterator[AsyncTransaction]:
        """`AsyncConnection.transaction`, rolled back also where it was cancelled: at BEGIN, in the block or at COMMIT.

        A COMMIT that was cancelled while the server worked on it may have been done or not.
        """
        transaction = AsyncTransaction(self, savepoint_name, force_rollback)
        try:
            await transaction.__aenter__()
        except BaseException as error:
            await _roll_back(transaction, error)
            raise
        try:
            yield transaction
        except BaseException as error:
            if await _roll_back(transaction, error):
                return
            raise
        try:
            await transaction.__aexit__(None, None, None)
        except BaseException as error:
            await _roll_back(transaction, error)
            raise

    async def _drive(self, gen: PQGen[T]) -> T:
        try:
            wanted = next(gen)
            fd = self.pgconn.socket
            while True:
                wanted = gen.send(await _ready(fd, wanted))
                self._rested_at = trio.current_time()
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _settle(self, gen: PQGen[Any]) -> None:
        """Stop the query that a cancelled call left running, or close the connection."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + SETTLE_TIMEOUT_S):
            try:
                await self.cancel_safe(timeout=SETTLE_TIMEOUT_S)
                await self._drive(gen)
            except psycopg.Error:
                pass  # QueryCanceled is what we asked for; after anything else the status below decides
            try:
                if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    await self._drive(generators.fetch_many(self.pgconn))
            except psycopg.Error:
                pass
        if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            self.abandon()


async def _roll_back(transaction: AsyncTransaction, error: BaseException) -> bool:
    """End what `error` has broken off, unless psycopg has done so; whether the error is an explicit Rollback."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + SETTLE_TIMEOUT_S):
        if transaction.status == transaction.Status.ACTIVE:
            return await transaction.__aexit__(type(error), error, error.__traceback__)
        if transaction.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            # The server read COMMIT or RELEASE together with its cancellation: it has not ended anything.
            with suppress(psycopg.Error):  # as psycopg, which names what broke it off rather than this
                for command in transaction._get_rollback_commands():
                    await transaction.connection.execute(command)
    return False


async def connection_attempts(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """One set of connection parameters per address to try, host names resolved.

    libpq would resolve a name with the whole process waiting; so it is given `hostaddr`, and keeps `host` for
    TLS.
    """
    hosts = str(parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    ports = str(parameters.get("port") or os.environ.get("PGPORT", "") or "5432").split(",")
    if "hostaddr" in parameters or "service" in parameters or len(ports) not in (1, len(hosts)):
        return [parameters]  # nothing to resolve; or a mistake that libpq words best
    attempts: list[dict[str, Any]] = []
    failure: OSError | None = None
    for host, port in zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True):
        one = {**parameters, "port": port}
        if not host or host.startswith(("/", "@")):
            attempts.append({**one, "host": host} if host else one)
            continue
        try:
            attempts += [
                {**one, "host": host, "hostaddr": address} for address in await _addresses(host, port)
            ]
        except OSError as error:
            failure = error
    if not attempts:
        raise psycopg.OperationalError(f"no address for host {','.join(hosts)!r}: {failure}")
    return attempts


async def _addresses(host: str, port: str) -> list[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        return [str(address[4][0]) for address in found]


async def _connect(parameters: dict[str, Any]) -> pq.abc.PGconn:
    timeout_s = float(parameters.get("connect_timeout") or CONNECT_TIMEOUT_S)
    with trio.move_on_after(timeout_s):
        return await _drive_connect(generators.connect(make_conninfo("", **parameters)))
    where = parameters.get("hostaddr") or parameters.get("host") or "the local socket"
    raise errors.ConnectionTimeout(f"no answer from {where} within {timeout_s:g} s")


async def _drive_connect(gen: PQGenConn[T]) -> T:
    try:
        fd, wanted = next(gen)
        while True:
            fd, wanted = gen.send(await _ready(fd, wanted))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        # Closes what was not completed now, not when the garbage is collected: a server that is being stopped waits
        # for a client that has come and says nothing, for as long as its authentication_timeout.
        gen.close()


async def _ready(fd: int, wanted: Wait) -> Ready:
    try:
        if wanted == Wait.R:
            await trio.lowlevel.wait_readable(fd)
            return Ready.R
        if wanted == Wait.W:
            await trio.lowlevel.wait_writable(fd)
            return Ready.W
        return await _first_ready(fd)
    except trio.ClosedResourceError:
        raise psycopg.OperationalError("the connection was closed") from None


async def _first_ready(fd: int) -> Ready:
    ready: list[Ready] = []

    async def wait_for(wait: Callable[[int], Any], kind: Ready) -> None:
        with suppress(trio.ClosedResourceError):
            await wait(fd)
            ready.append(kind)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for, trio.lowlevel.wait_readable, Ready.R)
        nursery.start_soon(wait_for, trio.lowlevel.wait_writable, Ready.W)
    if not ready:
        raise trio.ClosedResourceError("it was closed while something waited for it")
    return Ready.RW if len(ready) > 1 else ready[0]
