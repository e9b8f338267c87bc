"""`rowcast token`: the server of the same configuration accepts what it makes, in every protocol."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio_websocket

from broker import Broker
from broker.cli.main import main
from broker.config.toml.configuration import load

SECRETS = {name: f"{name}_{'0' * 32}" for name in ("ROWCAST", "ECONIA", "EXCHANGE", "CANTON")}
SETTINGS = """
[[listener]]
port = 1
host = "127.0.0.1"
[[listener]]
port = 2
host = "127.0.0.1"
protocol = "websockets"
dialects = ["rowcast", "econia", "exchange", "canton"]
[security]
tokens = true
[tokens]
secrets = ["env:ROWCAST"]
[websocket.rowcast]
[websocket.econia]
jwt = { secret = "env:ECONIA" }
[websocket.exchange]
jwt = { secret = "env:EXCHANGE", account = "uid" }
[websocket.canton]
jwt = { secret = "env:CANTON", account = "account_id", roles = "roles" }
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    path = tmp_path / "all.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def made(file: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def make(words: str) -> str:
        assert main(["token", "-c", str(file), *shlex.split(words)]) == 0
        return capsys.readouterr().out.strip()

    return make


@asynccontextmanager
async def served(file: Path) -> AsyncIterator[tuple[int, int]]:
    config = load(file, SECRETS)
    config = attrs.evolve(config, listeners=tuple(attrs.evolve(one, port=0) for one in config.listeners))
    async with Broker(config) as broker:
        yield broker.ports[0], broker.ports[1]


async def says(port: int, path: str, *requests: dict[str, object]) -> list[Any]:
    async with trio_websocket.open_websocket("127.0.0.1", port, path, use_ssl=False) as socket:
        answers = []
        for request in requests:
            await socket.send_message(json.dumps(request))
            with trio.fail_after(60):
                answers.append(json.loads(await socket.get_message()))
        return answers


async def test_rowcast_accepts_it(file: Path, made: Any) -> None:
    token = made("--dialect rowcast --sub ada --subscribe 'orders/{sub}' --publish 'chat/#' --expires 1h")
    async with served(file) as (_, port):
        connected, mine, others, said = await says(
            port,
            "/rowcast",
            {"id": 1, "connect": {"token": token}},
            {"id": 2, "subscribe": "orders/ada"},
            {"id": 3, "subscribe": "orders/bob"},
            {"id": 4, "publish": "chat/7", "data": 1},
        )
    assert connected["connected"]["expires"] > 0
    assert mine["subscribed"] == "orders/ada"
    assert others["error"]["code"] == "not_authorised"
    assert said["published"] is True


async def test_exchange_and_canton_accept_it(file: Path, made: Any) -> None:
    exchange = made("--dialect exchange --sub 1001 --expires 1h")
    canton = made("--dialect canton --sub ACC-1 --role trader --expires 1h")
    async with served(file) as (_, port):
        logged_in, private = await says(
            port,
            "/exchange-stream",
            {"op": "auth", "token": exchange},
            {"op": "subscribe", "channel": "@balance"},
        )
        (authenticated,) = await says(port, "/v1/ws", {"type": "auth", "token": canton})
    assert (logged_in, private) == ({"result": True}, {"result": True})
    assert authenticated["status"] == "authenticated"


async def test_econia_accepts_it_in_the_path(file: Path, made: Any) -> None:
    token = made("--dialect econia --mode r --channel fill_event --expires 1h")
    async with served(file) as (_, port):
        async with trio_websocket.open_websocket("127.0.0.1", port, f"/{token}", use_ssl=False):
            pass
        with pytest.raises(trio_websocket.HandshakeError):
            async with trio_websocket.open_websocket("127.0.0.1", port, f"/{token}x", use_ssl=False):
                pass


async def test_mqtt_accepts_it_as_the_password(file: Path, made: Any) -> None:
    token = made("--dialect mqtt --sub ada --subscribe 'orders/{sub}' --publish 'chat/#' --expires 1h")

    async def publishes(port: int, password: str) -> int:
        command = [
            "mosquitto_pub",
            "-p",
            str(port),
            "-u",
            "anything",
            "-P",
            password,
            "-t",
            "chat/7",
            "-m",
            "x",
        ]
        done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
        return done.returncode

    async with served(file) as (port, _):
        assert await publishes(port, token) == 0
        assert await publishes(port, token + "x") != 0


@pytest.mark.parametrize("dialect", ["rowcast", "mqtt", "econia", "exchange", "canton"])
def test_it_reads_what_it_made(file: Path, made: Any, dialect: str) -> None:
    more = {"rowcast": "--subscribe a", "mqtt": "--publish a", "econia": "--channel fill_event"}.get(
        dialect, ""
    )
    token = made(f"--dialect {dialect} --sub 7 --expires 1h {more}")
    said = made(f"--dialect {dialect} --decode {token}")
    assert "exp" in said
    assert main(["token", "-c", str(file), "--dialect", dialect, "--decode", token[:-3]]) != 0
