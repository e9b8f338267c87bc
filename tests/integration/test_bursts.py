"""A transaction that is larger than a WebSocket client's outbox, to clients that read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import attrs
import pytest
import trio
import trio_websocket
from support.installed import connect, install
from support.polling import until
from support.postgres import cluster, database
from support.websockets import SECRET, reader

from broker import Broker
from broker.config.model import Config
from broker.config.toml.configuration import load

__all__ = ["cluster", "database"]

ROWS = 4000
READERS = 3

CONFIG = f"""
[[listener]]
port = 1883
protocol = "websockets"
dialects = ["econia"]

[database]
dsn = "env:DATABASE_URL"
kind = "%s"
[database.replication]
allow_unbounded_wal = true

[source.tables]
tables = ["public.event"]

[websocket.econia]
jwt = {{ secret = "{SECRET}" }}

[[websocket.route]]
from = "tables"
kind = "public.event"
channel = "events"
"""


def on_free_ports(config: Config) -> Config:
    listeners = tuple(attrs.evolve(one, port=0, host="127.0.0.1") for one in config.listeners)
    return attrs.evolve(config, listeners=listeners)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_readers_get_every_row_of_a_large_transaction(database: str, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(CONFIG % kind)
    config = on_free_ports(load(file, {"DATABASE_URL": database}))
    received = [0] * READERS
    with connect(database) as writer:
        writer.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        install(config.feeds[0])
        async with Broker(config) as broker, trio.open_nursery() as nursery:
            await until(lambda: all(feed.state == "live" for feed in broker.app.feeds.values()))
            [(_, port)] = broker.app.addresses

            async def read(number: int, task_status: trio.TaskStatus[None]) -> None:
                path = f"/{reader('events')}"
                async with trio_websocket.open_websocket(
                    "127.0.0.1", port, path, use_ssl=False, message_queue_size=100
                ) as websocket:
                    task_status.started()
                    while received[number] < ROWS:
                        await websocket.get_message()
                        received[number] += 1

            async with trio.open_nursery() as readers:
                for number in range(READERS):
                    await readers.start(read, number)
                await trio.to_thread.run_sync(
                    writer.execute,
                    f"INSERT INTO event SELECT n, repeat('x', 1000) FROM generate_series(1, {ROWS}) n",
                )
            nursery.cancel_scope.cancel()
    assert received == [ROWS] * READERS


READ_BYTES_PER_S = 3_000_000
KERNEL_BYTES = 32 * 1024


async def websocket_of_little_buffer(port: int, nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
    """A client whose kernel takes little, so that what it has not read is at once the broker's to keep."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, KERNEL_BYTES)
    await sock.connect(("127.0.0.1", port))
    return await trio_websocket.wrap_client_stream(
        nursery, trio.SocketStream(sock), "127.0.0.1", f"/{reader('events')}", message_queue_size=1
    )


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("wal", 4000),
        ("wal", 64_000),
        ("wal", 600_000),
        ("outbox", 4000),
        ("outbox", 600_000),
        ("listen", 4000),
    ],
)
async def test_who_reads_steadily_gets_every_row_however_large(
    database: str, tmp_path: Path, kind: str, size: int
) -> None:
    """Several times what a client may be owed, to one whose line is slow."""
    rows = max(3_000_000 // size, 5)
    file = tmp_path / "rowcast.toml"
    source = 'tables = ["public.event"]' if kind != "listen" else 'listen = ["public.event"]'
    file.write_text((CONFIG % kind).replace('tables = ["public.event"]', source))
    config = on_free_ports(load(file, {"DATABASE_URL": database}))
    received: list[int] = []
    with connect(database) as writer:
        writer.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        install(config.feeds[0])
        async with Broker(config) as broker, trio.open_nursery() as nursery:
            await until(lambda: all(feed.state == "live" for feed in broker.app.feeds.values()))
            [(_, port)] = broker.app.addresses
            websocket = await websocket_of_little_buffer(port, nursery)
            statement = "INSERT INTO event SELECT n, repeat('x', %s) FROM generate_series(1, %s) n"
            if kind == "listen":
                statement = (
                    "SELECT pg_notify('public.event', json_build_object('id', n, 'note', repeat('x', %s))::text) "
                    "FROM generate_series(1, %s) n"
                )
            await trio.to_thread.run_sync(writer.execute, statement, [size, rows])
            while len(received) < rows:
                received.append(json.loads(await websocket.get_message())["payload"]["id"])
                await trio.sleep(size / READ_BYTES_PER_S)
            nursery.cancel_scope.cancel()
    assert received == list(range(1, rows + 1))


EXAMPLE = Path(__file__).parents[2] / "examples" / "econia.toml"
NOTIFICATIONS = 3000
MANY_READERS = 100
PROCESSES = 4
TESTS = Path(__file__).parents[1]
PAYLOAD = """SELECT pg_notify('econiaws', json_build_object(
    'channel', 'fill_event', 'payload', json_build_object('n', n, 'note', repeat('x', 1000)))::text)
FROM generate_series(1, %s) n"""


@pytest.mark.slow
async def test_econias_example_gives_a_large_transaction_to_a_hundred_readers(database: str) -> None:
    config = on_free_ports(load(EXAMPLE, {"DATABASE_URL": database, "PGWS_JWT_SECRET": SECRET}))
    with connect(database) as writer:
        writer.execute(files("broker.demo").joinpath("schema.sql").read_bytes())  # Econia's own
    async with Broker(config) as broker:
        await until(lambda: all(feed.state == "live" for feed in broker.app.feeds.values()))
        (port,) = [port for listener, port in broker.app.addresses if "econia" in listener.dialects]
        many = MANY_READERS // PROCESSES
        arguments = [str(port), f"/{reader('fill_event')}", str(many), str(NOTIFICATIONS)]
        results: list[bytes] = []

        async def read(task_status: trio.TaskStatus[None]) -> None:
            command = [sys.executable, "-m", "support.burst_readers", *arguments]
            process = await trio.lowlevel.open_process(
                command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(TESTS)}
            )
            assert process.stdout is not None
            said = b""
            while not said.endswith(b"ready\n"):
                said += await process.stdout.receive_some(1)
            task_status.started()
            results.append(b"".join([some async for some in process.stdout]))
            await process.wait()

        with connect(database) as writer, trio.fail_after(400):
            async with trio.open_nursery() as readers:
                for _ in range(PROCESSES):
                    await readers.start(read)
                await trio.to_thread.run_sync(writer.execute, PAYLOAD, [NOTIFICATIONS])
    assert results == [b"%d readers: all\n" % many] * PROCESSES
