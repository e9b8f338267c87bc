"""psycopg's API on Trio, and what a cancelled call leaves behind."""

from __future__ import annotations

import gc
import socket
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from psycopg import AsyncTransaction
from psycopg.pq import TransactionStatus
from psycopg.waiting import Wait
from support.postgres import Cluster

from broker.feed.driver.connection import TrioConnection, _ready, connection_attempts


async def test_a_query_gives_its_rows(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        cursor = await connection.execute("SELECT %s::numeric, %s::text", ["9" * 39, "snow ☃"])
        assert [(str(number), text) for number, text in await cursor.fetchall()] == [("9" * 39, "snow ☃")]


async def test_an_error_of_the_server_leaves_the_connection_usable(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.execute("SELECT * FROM nowhere")
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_the_unix_socket_and_a_host_name_connect(cluster: Cluster) -> None:
    for dsn in (cluster.dsn(unix=True), cluster.dsn().replace("127.0.0.1", "localhost")):
        async with await TrioConnection.connect(dsn) as connection:
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_each_host_is_tried_with_its_own_port() -> None:
    attempts = await connection_attempts({"host": "127.0.0.1,/tmp,::1", "port": "1,2,3", "dbname": "x"})
    assert attempts == [
        {"host": "127.0.0.1", "hostaddr": "127.0.0.1", "port": "1", "dbname": "x"},
        {"host": "/tmp", "port": "2", "dbname": "x"},
        {"host": "::1", "hostaddr": "::1", "port": "3", "dbname": "x"},
    ]


async def test_a_dead_host_before_a_live_one_is_passed_over(cluster: Cluster) -> None:
    closed = trio.socket.socket()
    await closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
    dead_port = closed.getsockname()[1]
    dsn = f"host=127.0.0.1,127.0.0.1 port={dead_port},{cluster.port} user=postgres dbname=postgres"
    async with await TrioConnection.connect(dsn) as connection:
        assert connection.info.port == cluster.port
    with pytest.raises(psycopg.OperationalError, match="refused"):
        await TrioConnection.connect(f"host=127.0.0.1 port={dead_port}")
    closed.close()


async def test_a_server_that_never_answers_times_out() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(psycopg.errors.ConnectionTimeout):
        await TrioConnection.connect(f"host=127.0.0.1 port={port} user=x dbname=x", connect_timeout="1")
    await listeners[0].aclose()


async def test_a_cancelled_query_stops_on_the_server_and_the_connection_goes_on(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        with trio.move_on_after(0.05) as scope:
            await connection.execute("SELECT pg_sleep(30)")
        assert scope.cancelled_caught
        assert connection.pgconn.transaction_status == TransactionStatus.IDLE
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_a_cancelled_transaction_is_rolled_back_and_the_connection_goes_on(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        with trio.move_on_after(0.05):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                await trio.sleep_forever()
        assert connection.pgconn.transaction_status == TransactionStatus.IDLE
        assert await (await connection.execute("SELECT count(*) FROM t")).fetchone() == (0,)


async def check_is_idle_and_has(connection: TrioConnection, rows: set[int]) -> None:
    """The connection is in no transaction, opens and commits another one, and the table `t` has one of `rows`."""
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    async with connection.transaction():
        (count,) = await (await connection.execute("SELECT count(*) FROM t")).fetchone() or (-1,)
    assert count in rows
    await connection.commit()


async def test_a_transaction_cancelled_on_its_last_line_is_rolled_back(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                scope.cancel()
        assert scope.cancelled_caught
        await check_is_idle_and_has(connection, {0})


@pytest.mark.parametrize("part", ["BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"])
async def test_a_transaction_cancelled_in_the_midst_of_a_command_leaves_the_connection_usable(
    database: str, part: str
) -> None:
    """The commands are cancelled while their answer is awaited; whether a COMMIT was in time nobody can say."""

    async def cancel_at(wanted: str) -> None:
        if part == wanted:
            nursery.start_soon(cancel)

    async def cancel() -> None:
        scope.cancel()

    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                await cancel_at("BEGIN")
                async with connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (1)")
                    await cancel_at("SAVEPOINT")
                    async with connection.transaction():
                        await connection.execute("INSERT INTO t VALUES (2)")
                        await cancel_at("RELEASE")
                    await cancel_at("COMMIT")
        assert scope.cancelled_caught
        await check_is_idle_and_has(connection, {0, 2} if part == "COMMIT" else {0})


async def broken_off(connection: TrioConnection, database: str, insert: str) -> None:
    """A transaction whose last command is cancelled while it has done nothing yet."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_asleep, connection.info.backend_pid, database, scope)
            async with connection.transaction():
                await connection.execute(insert)
    assert scope.cancelled_caught


async def cancel_asleep(backend_pid: int, database: str, scope: trio.CancelScope) -> None:
    asleep = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
    async with await TrioConnection.connect(database, autocommit=True) as watcher:
        while await (await watcher.execute(asleep, [backend_pid])).fetchone() is None:
            pass
    scope.cancel()


@pytest.fixture
def endless_end(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """In place of COMMIT and RELEASE."""
    monkeypatch.setattr(AsyncTransaction, "_get_commit_commands", lambda _: iter([b"SELECT pg_sleep(3600)"]))
    return monkeypatch


async def test_a_commit_cancelled_before_the_server_began_it_is_a_rollback(
    database: str, endless_end: pytest.MonkeyPatch
) -> None:
    """The server reads the command and the cancellation together: the transaction has failed, and not ended."""
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        await broken_off(connection, database, "INSERT INTO t VALUES (1)")
        endless_end.undo()
        await check_is_idle_and_has(connection, {0})


async def test_a_release_cancelled_before_the_server_began_it_leaves_the_transaction_around_it(
    database: str, endless_end: pytest.MonkeyPatch
) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            await broken_off(connection, database, "INSERT INTO t VALUES (2)")
            endless_end.undo()
            await connection.execute("INSERT INTO t VALUES (3)")
        await check_is_idle_and_has(connection, {2})


async def test_a_cancelled_stream_leaves_the_connection_usable(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        with trio.CancelScope() as scope:
            rows: Any = connection.cursor().stream("SELECT g FROM generate_series(1, 1000000) g")
            async for _ in rows:
                scope.cancel()
                await trio.lowlevel.checkpoint()
        await rows.aclose()
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_a_long_read_lets_other_tasks_run(database: str) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1
            await trio.sleep(0.001)

    async with (
        await TrioConnection.connect(database, autocommit=True) as connection,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(count_turns)
        async for _ in connection.cursor().stream("SELECT g FROM generate_series(1, 100000) g"):
            pass
        nursery.cancel_scope.cancel()
    assert turns > 5


async def test_tasks_take_turns_on_one_connection(database: str) -> None:
    answers: list[int] = []

    async def ask(number: int) -> None:
        row = await (await connection.execute("SELECT %s::int", [number])).fetchone()
        assert row is not None
        answers.append(row[0])

    connected = await TrioConnection.connect(database, autocommit=True)
    async with connected as connection, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert sorted(answers) == list(range(20))


async def test_a_large_query_is_sent_while_the_server_answers(database: str) -> None:
    """Needs both readiness kinds at once: more goes out than the socket buffers take."""
    text = "x" * 20_000_000
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        assert await (await connection.execute("SELECT length(%s)", [text])).fetchone() == (len(text),)


async def test_closing_wakes_the_task_that_waits(database: str) -> None:
    connection = await TrioConnection.connect(database, autocommit=True)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(psycopg.OperationalError):
                await connection.wait_readable()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await connection.close()
    assert connection.closed


async def test_closing_wakes_the_task_that_waits_for_both_kinds() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                here.send(bytes(65_536))
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(psycopg.OperationalError, match="closed"):
                    await _ready(here.fileno(), Wait.RW)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(here.fileno())


async def test_copy_in_and_out(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        cursor = connection.cursor()
        async with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(1000):
                await copy.write_row([number])
        async with cursor.copy("COPY t TO STDOUT") as copy:
            assert len([row async for row in copy.rows()]) == 1000


async def test_a_replication_connection_streams(database: str) -> None:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute("CREATE TABLE t (a int)")
        await connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        stream = await TrioConnection.connect(
            database, autocommit=True, prepare_threshold=None, replication="database"
        )
        await stream.execute("CREATE_REPLICATION_SLOT mine TEMPORARY LOGICAL pgoutput")
        await stream.execute(
            "START_REPLICATION SLOT mine LOGICAL 0/0 (proto_version '1', publication_names 'everything')"
        )
        await connection.execute("INSERT INTO t VALUES (42)")
        kinds: list[bytes] = []
        with trio.fail_after(60):
            while b"C" not in kinds:
                await stream.wait_readable()
                stream.pgconn.consume_input()
                while (got := stream.pgconn.get_copy_data(1))[0] > 0:
                    data = bytes(got[1])
                    kinds.append(data[25:26] if data[:1] == b"w" else b"keepalive")
        assert [kind for kind in kinds if kind != b"keepalive"] == [b"B", b"R", b"I", b"C"]
        await stream.close()


async def test_a_connection_that_is_given_up_while_it_opens_is_closed_at_once() -> None:
    """A server that is being stopped waits for a client that says nothing, so nothing may stay open by chance."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    gc.disable()
    try:
        # The error of the task beside it keeps alive what it can.
        with pytest.raises(BaseExceptionGroup) as kept:  # noqa: PT012
            async with trio.open_nursery() as nursery:
                nursery.start_soon(TrioConnection.connect, f"host=127.0.0.1 port={port}")
                server = await listener.accept()
                assert await server.receive_some(100)  # it has begun to speak
                raise psycopg.OperationalError("the stream beside it has ended")
        assert kept.value.exceptions
        with trio.fail_after(60):
            assert await server.receive_some(100) == b""
    finally:
        gc.enable()
        await listener.aclose()
