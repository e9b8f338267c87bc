"""Secrets in files, changed while clients are there: nobody is logged out, and the old ones are good no longer."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import jwt
import psycopg
import pytest
import trio
import trio_websocket
from cryptography.hazmat.primitives import serialization
from support.certificates import Authority
from support.installed import install
from support.polling import until, until_blocking
from support.postgres import Cluster
from support.raw5 import RawClient, over_tls
from support.rowcast_process import RowcastProcess

from broker.config.toml import configuration as toml

SETTINGS = """
[[listener]]
port = {port}
host = "127.0.0.1"
[listener.tls]
certfile = "server.crt"
keyfile = "server.key"
keyfile_password = "file:key-password"
[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast", "exchange"]
[security]
tokens = true
[tokens]
secrets = ["file:token-1", "file:token-2"]
[websocket.rowcast]
[websocket.exchange]
jwt = { secret = ["file:token-1", "file:token-2"], account = "uid" }
[admin]
port = {admin_port}
token = ["file:admin-1", "file:admin-2"]
"""
CLAIMS = {"sub": "ada", "uid": 1001, "subscribe": ["a/#"], "publish": ["a/#"]}


class Folder:
    """The configuration's, with its secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.authority = Authority(path)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text + "\n")

    def new_certificate(self, password: str) -> None:
        """With a key that has this passphrase."""
        _, key = self.authority.issue("server", f"/CN={password}", host=True)
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(
            loaded.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )
        self.write("key-password", password)


OLD, NEW = "o" * 32, "n" * 32
EVERYWHERE = {"mqtt", "rowcast", "exchange", "admin"}
CONNECTED = 0
NUMBERS = itertools.count()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    return Folder(tmp_path)


def token(secret: str) -> str:
    return jwt.encode(CLAIMS, secret, algorithm="HS256")


async def reload(broker: RowcastProcess) -> None:
    """SIGHUP, and the answer to what was asked afterwards."""

    def taken() -> int:
        return sum("Reloading config." in line or "stays in force" in line for line in broker.lines)

    before = taken()
    broker.signal(signal.SIGHUP)
    await until(lambda: taken() > before)
    await trio.to_thread.run_sync(administer, broker, "nobody's")


def administer(broker: RowcastProcess, secret: str) -> int:
    with httpx.Client(trust_env=False) as http:
        url = f"http://127.0.0.1:{broker.admin_port}/api/v1/overview"
        return http.get(url, headers={"Authorization": f"Bearer {secret}"}).status_code


def over_mqtt(broker: RowcastProcess, secret: str) -> tuple[RawClient, int]:
    client = over_tls(broker.port, broker.config.parent / "ca.crt", 4)
    answer = client.connect(b"ada%d" % next(NUMBERS), user_name=b"ada", password=token(secret).encode())
    return client, answer.return_code


async def log_in(ws: trio_websocket.WebSocketConnection, secret: str) -> bool:
    if str(ws.path).endswith("exchange-stream"):
        await ws.send_message(json.dumps({"op": "auth", "token": token(secret)}))
        return await ws.get_message() == '{"result":true}'
    await ws.send_message(json.dumps({"id": 1, "connect": {"token": token(secret)}}))
    return "connected" in json.loads(await ws.get_message())


async def doors_open_to(broker: RowcastProcess, secret: str) -> set[str]:
    """Where somebody new is let in who shows this secret, or a token signed with it."""
    found = set()
    for name, path in (("rowcast", "rowcast"), ("exchange", "exchange-stream")):
        url = f"ws://127.0.0.1:{broker.websocket_port}/{path}"
        with suppress(trio_websocket.ConnectionClosed):
            async with trio_websocket.open_websocket_url(url) as ws:
                if await log_in(ws, secret):
                    found.add(name)
    client, code = await trio.to_thread.run_sync(over_mqtt, broker, secret)
    client.cut()
    if code == CONNECTED:
        found.add("mqtt")
    if await trio.to_thread.run_sync(administer, broker, secret) == httpx.codes.OK:
        found.add("admin")
    return found


async def test_secrets_are_changed_and_nobody_is_logged_out(folder: Folder) -> None:
    def both(first: str, second: str) -> None:
        for name in ("token", "admin"):
            folder.write(f"{name}-1", first)
            folder.write(f"{name}-2", second)

    both(OLD, OLD)
    folder.new_certificate("first pass")
    with RowcastProcess.from_toml(folder.path, SETTINGS) as broker:
        url = f"ws://127.0.0.1:{broker.websocket_port}"
        with trio.fail_after(120):
            async with (
                trio_websocket.open_websocket_url(f"{url}/rowcast") as reader,
                trio_websocket.open_websocket_url(f"{url}/exchange-stream") as trader,
            ):
                assert await log_in(reader, OLD)
                assert await log_in(trader, OLD)
                mqtt, code = await trio.to_thread.run_sync(over_mqtt, broker, OLD)
                assert code == CONNECTED
                await reader.send_message('{"id":2,"subscribe":"a/b"}')
                assert "subscribed" in json.loads(await reader.get_message())
                assert await doors_open_to(broker, NEW) == set()

                both(NEW, OLD)
                await reload(broker)
                assert await doors_open_to(broker, NEW) == EVERYWHERE
                assert await doors_open_to(broker, OLD) == EVERYWHERE

                both(NEW, NEW)
                folder.new_certificate("second pass")
                await reload(broker)
                assert await doors_open_to(broker, NEW) == EVERYWHERE
                assert await doors_open_to(broker, OLD) == set()

                # Those who came with the old secret are still there, and read and write.
                await reader.send_message('{"id":3,"publish":"a/b","data":7}')
                got = [json.loads(await reader.get_message()) for _ in range(2)]
                assert {message.get("data") for message in got} == {7, None}
                await trader.send_message('{"op":"subscribe","channel":"@order"}')
                assert await trader.get_message() == '{"result":true}'
                assert await trio.to_thread.run_sync(mqtt.subscribe, b"a/b", 0) == (0,)
                mqtt.cut()


async def test_a_secret_that_cannot_be_read_changes_nothing(folder: Folder) -> None:
    for name in ("token-1", "token-2", "admin-1", "admin-2"):
        folder.write(name, OLD)
    folder.new_certificate("first pass")
    with RowcastProcess.from_toml(folder.path, SETTINGS) as broker:
        folder.write("token-1", NEW)
        (folder.path / "admin-2").unlink()
        await reload(broker)
        assert await doors_open_to(broker, OLD) == EVERYWHERE
        assert await doors_open_to(broker, NEW) == set()
        assert any("admin-2 can't be read: No such file" in line for line in broker.lines)


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


DATABASE = """
[[listener]]
port = {port}
host = "127.0.0.1"
[security]
allow_anonymous = true
[metrics]
port = {admin_port}
[database]
dsn = "host=127.0.0.1 port=PORT dbname=postgres user=feeder"
password = "file:password"
kind = "KIND"
[database.replication]
allow_unbounded_wal = true
[source.event]
SOURCE
[[mqtt.route]]
from = "event"
topics = "event/{id}"
"""


@pytest.mark.parametrize(
    ("kind", "source"), [("listen", 'listen = "event"'), ("wal", 'tables = "public.event"')]
)
def test_the_password_of_the_database_is_changed(
    kind: str, source: str, postgres: Cluster, tmp_path: Path
) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE feeder LOGIN SUPERUSER PASSWORD 'first'")
        connection.execute("CREATE TABLE event (id int PRIMARY KEY)")
        rules = postgres.data / "pg_hba.conf"
        rules.write_text("host all,replication feeder 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        connection.execute("SELECT pg_reload_conf()")
    (tmp_path / "password").write_text("first\n")
    text = DATABASE.replace("PORT", str(postgres.port)).replace("KIND", kind).replace("SOURCE", source)
    with RowcastProcess.from_toml(tmp_path, text) as broker:
        if kind == "wal":
            install(toml.load(broker.config, {}).feeds[0])
        until_blocking(lambda: lives(broker) > 0)
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute("ALTER ROLE feeder PASSWORD 'second'")
            (tmp_path / "password").write_text("second\n")
            broker.signal(signal.SIGHUP)
            until_blocking(lambda: any("Reloading config." in line for line in broker.lines))
            with httpx.Client(trust_env=False) as http:  # answered by the loop, after what it does at once
                http.get(f"http://127.0.0.1:{broker.admin_port}/healthz")
            assert not any("takes a restart" in line for line in broker.lines)
            before = lives(broker)
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'feeder'"
            )
            until_blocking(lambda: lives(broker) > before)
        assert not any("password authentication failed" in line for line in broker.lines)


def lives(broker: RowcastProcess) -> int:
    """How often the feed has begun to deliver."""
    return sum("feed main: live on" in line for line in broker.lines)
