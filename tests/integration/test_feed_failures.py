"""Rows of a real database to real clients of a real process, while the way between them is taken away.

A writer commits rows steadily; a persistent MQTT client and a WebSocket client hear them.  However often the feed's
connection breaks, in the end each has heard every row once, in the order of their commits, and was never
disconnected.
"""

from __future__ import annotations

import functools
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import jwt
import paho.mqtt.client as paho
import psycopg
import pytest
import trio
import trio_websocket
from paho.mqtt.enums import CallbackAPIVersion
from support.postgres import Cluster
from support.rowcast_process import RowcastProcess
from support.tcp_proxy import tcp_proxy

from broker.feed.driver.connection import TrioConnection

SECRET = "econia_0000000000000000000000000"
SCHEMA = """
CREATE TABLE fill_events (
    txn_version numeric(20) NOT NULL, event_idx numeric(20) NOT NULL,
    market_id numeric(20), "user" text, order_id numeric(39), note text, time timestamptz,
    PRIMARY KEY (txn_version, event_idx)
);
CREATE FUNCTION notify_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('fill', row_to_json(NEW)::text);
    PERFORM pg_notify('econiaws', json_build_object('channel', 'fill_event', 'payload', row_to_json(NEW))::text);
    RETURN NULL;
END $$;
CREATE TRIGGER t AFTER INSERT ON fill_events FOR EACH ROW EXECUTE FUNCTION notify_row();
"""
CONFIG = """
[broker]
sys_interval = "1s"
shutdown_grace = "{grace}s"
[database]
dsn = "{dsn}"
[security]
allow_anonymous = true
[[listener]]
port = {port}
host = "127.0.0.1"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["econia"]
[websocket.econia]
jwt = { secret = "{secret}" }
[source.events]
listen = ["fill"]
[source.econiaws]
listen = "econiaws"
kind = "$.channel"
row = "$.payload"
[[websocket.route]]
from = "econiaws"
channel = "{$kind}"
[[mqtt.route]]
from = "events"
kind = "fill"
topics = "fill/{market_id}/{user}"
[[recover]]
table = "public.fill_events"
key = ["txn_version", "event_idx"]
kind = { events = "fill", econiaws = "fill_event" }
"""
VALUES = "(%s, %s, %s, %s, %s, %s, '2024-02-13T15:53:50.5Z')"
INSERT = f"INSERT INTO fill_events VALUES {VALUES}"
NOTIFY_BYTES_MAX = 7999
ENVELOPE = "json_build_object('channel', 'fill_event', 'payload', row_to_json(r))::text"
LENGTH = f"SELECT octet_length({ENVELOPE}) FROM (SELECT (ROW{VALUES}::fill_events).*) r"
LONGEST = "as long as may be"
ODDITIES: tuple[tuple[str | None, str | None], ...] = (
    ("0xabc", None),
    ("0xabc", "quotes \" ' and \\ and \t and \n"),
    ("0xabc", "☃ 🎉 é"),
    ("0x☃", "a topic in Unicode"),
    ("a/b", "unfit for a topic"),
    (None, "no user"),
    ("0xabc", LONGEST),
)
"""User and note of rows between the ordinary ones; of those unfit for a topic, MQTT hears nothing."""
TOO_LATE_S = 30.0


class MqttReader:
    """A persistent session, QoS 1; what it hears, in order."""

    def __init__(self, port: int) -> None:
        self.heard: list[bytes] = []
        self.feed: dict[str, str] = {}
        """What `$SYS/feed/main/` says."""
        self.disconnections = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=False)
        self._client.on_message = self._message
        self._client.on_disconnect = self._disconnected
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([("fill/#", 1), ("$SYS/feed/main/+", 0)])
        self._client.loop_start()
        assert subscribed.wait(TOO_LATE_S)

    def _message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        if message.topic.startswith("$SYS/"):
            self.feed[message.topic.rpartition("/")[2]] = message.payload.decode()
        else:
            self.heard.append(bytes(message.payload))

    def _disconnected(self, *_: object) -> None:
        self.disconnections += 1

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Scene:
    """A process with a feed, a writer, and two who hear.

    Attributes:
        written: rows that the writer tried to insert.
        over_websocket: what the WebSocket client has heard.
    """

    def __init__(self, dsn: str, rowcast: RowcastProcess, mqtt: MqttReader) -> None:
        self.rowcast = rowcast
        self.mqtt = mqtt
        self.written = 0
        self.over_websocket: list[bytes] = []
        self.enough = trio.Event()
        self.all_written = trio.Event()
        self._dsn = dsn

    async def write(self) -> None:
        """Commit a row some hundred times a second until it is enough, whether the database is there or not."""
        while not self.enough.is_set():
            with suppress(psycopg.Error, OSError):
                async with await TrioConnection.connect(self._dsn, autocommit=True) as connection:
                    while not self.enough.is_set():
                        await self._write_one(connection)
                        await trio.sleep(0.005)
            await trio.sleep(0.05)
        self.all_written.set()

    async def _write_one(self, connection: TrioConnection) -> None:
        number = self.written
        self.written += 1
        user: str | None = "0xabc"
        note: str | None = str(number)
        if number % 3 == 0:
            user, note = ODDITIES[number // 3 % len(ODDITIES)]
        row = (number // 2, number % 2, number % 5, user, 10**38 + number, note)
        if note == LONGEST:
            cursor = await connection.execute(LENGTH, [*row[:5], ""])
            (length,) = await cursor.fetchone() or (0,)
            row = (*row[:5], "x" * (NOTIFY_BYTES_MAX - length))
        await connection.execute(INSERT, row)

    async def listen_until_the_end(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            await self.listen(task_status)

    async def listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        token = jwt.encode({"mode": "r", "channels": ["fill_event"]}, SECRET, algorithm="HS256")
        url = f"ws://127.0.0.1:{self.rowcast.websocket_port}/fill_event/{token}"
        async with trio_websocket.open_websocket_url(url) as connection:
            task_status.started()
            while True:
                text = await connection.get_message()
                assert isinstance(text, str)
                self.over_websocket.append(text.encode())

    async def check(self) -> None:
        """Everything that was committed has been heard by both, once and in order."""
        self.enough.set()
        await self.all_written.wait()
        query = f"""SELECT row_to_json(r)::text, {ENVELOPE}, "user" IS NOT NULL AND "user" NOT LIKE '%/%'
            FROM fill_events r ORDER BY txn_version, event_idx"""
        async with await TrioConnection.connect(self._dsn, autocommit=True) as connection:
            rows = await (await connection.execute(query)).fetchall()
        enveloped = [text.encode() for _, text, _ in rows]
        fit = [text.encode() for text, _, is_fit in rows if is_fit]
        await until(lambda: len(self.over_websocket) >= len(enveloped))
        await until(lambda: len(self.mqtt.heard) >= len(fit))
        await until(lambda: self.mqtt.feed.get("dropped") == str(len(rows) - len(fit)))
        assert self.over_websocket == enveloped
        assert self.mqtt.heard == fit
        assert self.mqtt.disconnections == 0
        assert max(map(len, enveloped)) == NOTIFY_BYTES_MAX


async def until(condition: Callable[[], bool]) -> None:
    """What other processes do can only be waited for by looking."""
    with trio.move_on_after(TOO_LATE_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)
    # If it is not so, the comparison that follows says what is missing.


@asynccontextmanager
async def scene(
    dsn: str, feed_dsn: str, folder: Path, grace_s: int = 5, ends: bool = False
) -> AsyncIterator[Scene]:
    """`ends`: the process may end before the scene does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SCHEMA)
    settings = {"dsn": feed_dsn, "secret": SECRET, "grace": str(grace_s)}
    text = functools.reduce(lambda text, one: text.replace(f"{{{one[0]}}}", one[1]), settings.items(), CONFIG)
    with RowcastProcess.from_toml(folder, text) as rowcast:
        mqtt = MqttReader(rowcast.port)
        made = Scene(dsn, rowcast, mqtt)
        try:
            await until(lambda: mqtt.feed.get("state") == "live")
            async with trio.open_nursery() as nursery:
                await nursery.start(made.listen_until_the_end if ends else made.listen)
                nursery.start_soon(made.write)
                await until(lambda: len(mqtt.heard) > 20)
                yield made
                nursery.cancel_scope.cancel()
        finally:
            mqtt.close()


@asynccontextmanager
async def owed(running: Scene, dsn: str) -> AsyncIterator[None]:
    """Somebody is owed megabytes and takes none of them."""
    with socket.create_connection(("127.0.0.1", running.rowcast.port)) as client:
        client.sendall(
            b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01s"
        )  # CONNECT, clean session, client id "s"
        client.sendall(b"\x82\x0b\x00\x01\x00\x06fill/#\x00")  # SUBSCRIBE fill/#, QoS 0
        assert client.recv(4)
        before = len(running.mqtt.heard)
        async with await TrioConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(
                "INSERT INTO fill_events SELECT 10000000 + g, 0, 1, 'u', g, repeat('x', 7500)"
                " FROM generate_series(1, 1000) g"
            )
        await until(lambda: len(running.mqtt.heard) >= before + 1000)
        yield


async def end_backends(dsn: str) -> None:
    async with await TrioConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'rowcast'"
        )


async def test_killed_backends_are_noticed_by_nobody(database: str, tmp_path: Path) -> None:
    async with scene(database, database, tmp_path) as running:
        for _ in range(3):
            await end_backends(database)
            await trio.sleep(0.7)
        await running.check()
        assert int(running.mqtt.feed["recovered"]) > 0


async def test_a_database_out_of_reach_for_three_seconds_is_noticed_by_nobody(
    cluster: Cluster,
    database: str,
    tmp_path: Path,
) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        through_proxy = database.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with scene(database, through_proxy, tmp_path) as running:
            proxy.refuse()
            await trio.sleep(3)
            proxy.allow()
            await running.check()
            assert int(running.mqtt.feed["recovered"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_server_is_noticed_by_nobody(
    cluster: Cluster,
    database: str,
    tmp_path: Path,
    mode: str,
) -> None:
    async with scene(database, database, tmp_path) as running:
        for _ in range(2):
            before = len(running.over_websocket)
            await trio.to_thread.run_sync(cluster.restart, mode)
            await until(lambda: len(running.over_websocket) > before + 20)  # noqa: B023
        await running.check()


@pytest.mark.slow
async def test_everything_at_once_for_half_a_minute_is_noticed_by_nobody(
    cluster: Cluster,
    database: str,
    tmp_path: Path,
) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        through_proxy = database.replace(f"port={cluster.port}", f"port={proxy.port}")

        async def cut() -> None:
            proxy.cut()

        async def refuse() -> None:
            proxy.refuse()
            await trio.sleep(1)
            proxy.allow()

        async def restart() -> None:
            await trio.to_thread.run_sync(cluster.restart, "immediate")

        troubles: list[Callable[[], Awaitable[None]]] = [cut, lambda: end_backends(database), refuse, restart]
        async with scene(database, through_proxy, tmp_path) as running:
            for number in range(12):
                with suppress(psycopg.Error, OSError):
                    await troubles[number % len(troubles)]()
                await trio.sleep(0.3 + number % 3)
            await running.check()


async def test_told_to_end_under_load_it_ends_in_order(database: str, tmp_path: Path) -> None:
    async with scene(database, database, tmp_path, grace_s=300, ends=True) as running:
        running.rowcast.signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(running.rowcast.wait, 60) == 0  # nobody is waited for


async def test_told_twice_under_load_it_ends_at_once(database: str, tmp_path: Path) -> None:
    async with scene(database, database, tmp_path, 60, ends=True) as running, owed(running, database):
        running.rowcast.status_wanted = 1
        running.rowcast.signal(signal.SIGTERM)
        await trio.sleep(0.5)
        running.rowcast.signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(running.rowcast.wait, 5) == 1
