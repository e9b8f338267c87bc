"""SIGHUP with WebSocket clients connected: new settings for who comes, the old ones for who is there."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import jwt
import pytest
import trio_websocket
from support.polling import until
from support.rowcast_process import RowcastProcess
from support.websockets import closed_with

from broker.config.tokens import HttpHookConfig
from broker.gateway.identity import HttpHook
from protocol.dialects.base import Clock, Identity

TOML = """
[security]
allow_anonymous = true

[[listener]]
port = {port}
host = "127.0.0.1"

[[listener]]
port = {websocket_port}
host = "127.0.0.1"
protocol = "websockets"
dialects = ["exchange"]

[websocket.exchange]
jwt = { secret = "SECRET", account = "uid" }
limits = { message_bytes_max = SIZE }
"""
FIRST, SECOND = "1" * 32, "2" * 32
REFUSED = '{"code":1,"msg":"Auth Failed"}'
SUCCESS = '{"result":true}'


def settings(secret: str, size: int) -> str:
    return TOML.replace("SECRET", secret).replace("SIZE", str(size))


def login(secret: str) -> str:
    return json.dumps({"op": "auth", "token": jwt.encode({"uid": 1001}, secret, algorithm="HS256")})


def long_message(size: int) -> str:
    return json.dumps({"op": "unsubscribe", "channel": "BTCUSDT@depth", "pad": "x" * size})


async def said(ws: trio_websocket.WebSocketConnection, message: str) -> str:
    await ws.send_message(message)
    answer = await ws.get_message()
    assert isinstance(answer, str)
    return answer


async def logged(broker: RowcastProcess, text: str) -> None:
    await until(lambda: any(text in line for line in broker.lines))


async def test_new_secret_and_limits_hold_for_who_comes_and_nobody_is_disconnected(tmp_path: Path) -> None:
    with RowcastProcess.from_toml(tmp_path, settings(FIRST, 1000)) as broker:
        url = f"ws://127.0.0.1:{broker.websocket_port}/exchange-stream"
        async with trio_websocket.open_websocket_url(url) as there:
            assert await said(there, login(FIRST)) == SUCCESS
            assert await said(there, '{"op":"subscribe","channel":"@order"}') == SUCCESS

            broker.rewrite(settings(SECOND, 5000) + 'path = "/elsewhere"\n')
            broker.signal(signal.SIGHUP)
            await logged(broker, "path stays '/exchange-stream'; another takes a restart.")
            await logged(broker, "The configuration read before stays in force.")
            async with trio_websocket.open_websocket_url(url) as new:
                assert await said(new, login(SECOND)) == REFUSED

            broker.rewrite(settings(SECOND, 5000))
            broker.signal(signal.SIGHUP)
            await logged(broker, "Reloading config.")

            async with trio_websocket.open_websocket_url(url) as new:
                assert await said(new, long_message(4000)) == SUCCESS
                assert await said(new, login(SECOND)) == SUCCESS
            async with trio_websocket.open_websocket_url(url) as forger:
                assert await said(forger, login(FIRST)) == REFUSED
            # Who was there keeps what it has, and a login from now on asks the new secret.
            assert await said(there, '{"op":"unsubscribe","channel":"@order"}') == SUCCESS
            assert await said(there, login(SECOND)) == SUCCESS
            await there.send_message(long_message(4000))
            assert await closed_with(there) == 1009


async def test_a_file_with_a_mistake_changes_nothing(tmp_path: Path) -> None:
    with RowcastProcess.from_toml(tmp_path, settings(FIRST, 1000)) as broker:
        url = f"ws://127.0.0.1:{broker.websocket_port}/exchange-stream"
        broker.rewrite(settings("too short", 5000))
        broker.signal(signal.SIGHUP)
        await logged(broker, "The configuration read before stays in force.")
        async with trio_websocket.open_websocket_url(url) as ws:
            assert await said(ws, login(FIRST)) == SUCCESS
            await ws.send_message(long_message(4000))
            assert await closed_with(ws) == 1009


@pytest.mark.parametrize("moves", [False, True])
async def test_a_login_that_has_begun_asks_the_endpoint_it_began_with(moves: bool) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if moves:
            hook.adopt(HttpHookConfig("http://new/", timeout_s=5.0))
        return httpx.Response(503 if len(asked) == 1 else 200, json={"uid": 1})

    hook = HttpHook(HttpHookConfig("http://old/"), httpx.MockTransport(answer))
    assert await hook.identify("token", Clock(0.0), 0.0) == Identity("1")
    assert asked == ["old", "old"]
    await hook.identify("token", Clock(0.0), 0.0)
    assert asked[-1] == ("new" if moves else "old")
    await hook.aclose()
