"""Publishing over a WebSocket of the admin port: the same objects as over HTTP, and who may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio_websocket
from attrs import evolve
from trio_websocket import ConnectionClosed, WebSocketConnection

from broker import Broker, Config, Listener
from broker.admin import sockets
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp, Security
from broker.core import barrier as barriers
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import topic_of

LISTENER = Listener(
    0,
    "127.0.0.1",
    protocol="websockets",
    dialects=("exchange",),
    security=Security(allow_anonymous=True),
)
TOKEN = "secret" * 6


class Heard(Receiver):
    def __init__(self, fails: bool = False) -> None:
        super().__init__(plain=False)
        self.payloads: list[str] = []
        self.fails = fails

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if self.fails:
            raise ZeroDivisionError
        self.payloads.append(publication.payload.decode())


@asynccontextmanager
async def running(*tokens: str) -> AsyncIterator[Broker]:
    config = Config((LISTENER,), gateway=GatewayConfig(exchange=Exchange()), admin=AdminHttp(0, token=tokens))
    async with Broker(config) as broker:
        yield broker


def listener_of(broker: Broker, channel: str, fails: bool = False) -> list[str]:
    receiver = Heard(fails)
    broker.app.engine.subscribe(receiver, topic_of("exchange", channel), 0)
    return receiver.payloads


async def connect(broker: Broker, **headers: str) -> WebSocketConnection:
    return await trio_websocket.connect_websocket_url(
        broker.app.server.nursery,
        f"ws://127.0.0.1:{broker.app.admin_port}/v1/mesh/publish",
        extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
    )


async def sent_and_heard(ws: WebSocketConnection, message: str | bytes) -> None:
    await ws.send_message(message)
    await ws.get_message()


async def refused(broker: Broker, **headers: str) -> int:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    url = f"http://127.0.0.1:{broker.app.admin_port}/v1/mesh/publish"
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url, headers=handshake | headers)).status_code


async def said(ws: WebSocketConnection, text: str) -> object:
    await ws.send_message(text)
    return json.loads(await ws.get_message())


async def test_each_message_is_published_and_answered_in_order() -> None:
    async with running() as broker:
        payloads = listener_of(broker, "1001@balance")
        ws = await connect(broker)
        for number in range(3):
            await ws.send_message(json.dumps({"c": "ex:1001@balance", "d": f"{number}"}))
        batch = [{"c": "ex:1001@balance", "d": "3"}, {"c": "ex:1001@balance", "d": {"n": 4}}]
        await ws.send_message(json.dumps(batch))
        answers = [json.loads(await ws.get_message()) for _ in range(4)]
        assert answers == [{"result": True, "published": count} for count in (1, 1, 1, 2)]
        assert payloads == ["0", "1", "2", "3", '{"n": 4}']
        await ws.aclose()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the body must be JSON"),
        ("[" * 100_000, "the body must be JSON"),
        ("[]", "a batch has 1 to 1000 messages, not 0"),
        ('{"c":"ex:foo","d":"1"}', "c: nobody can read ex:foo: Invalid Channel"),
        ('{"c":"ex:1001@balance","d":"\\ud800"}', "d must be valid Unicode text"),
    ],
)
async def test_what_is_wrong_is_said_and_the_next_message_is_taken(text: str, error: str) -> None:
    async with running() as broker:
        ws = await connect(broker)
        assert await said(ws, text) == {"error": error}
        right = '{"c":"ex:1001@balance","d":"1"}'
        assert await said(ws, right) == {"result": True, "published": 1}
        await ws.aclose()


async def test_a_bug_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    async with running() as broker:
        listener_of(broker, "1@order", fails=True)
        ws = await connect(broker)
        assert await said(ws, '{"c":"ex:1@order","d":"1"}') == {"error": "internal error"}
        answer = await said(ws, '{"c":"ex:2@order","d":"1"}')
        assert answer == {"result": True, "published": 1}
        await ws.aclose()
        assert broker.app.engine.counters.link_bugs == 1


async def test_the_token_is_wanted_and_one_that_is_taken_away_ends_the_connection() -> None:
    async with running(TOKEN) as broker:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert await refused(broker, **headers) == 401
        ws = await connect(broker, Authorization=f"Bearer {TOKEN}")
        right = '{"c":"ex:1001@balance","d":"1"}'
        assert await said(ws, right) == {"result": True, "published": 1}
        config = broker.app.config
        assert config.admin is not None
        broker.app.reload(evolve(config, admin=evolve(config.admin, token=("other" * 8,))))
        payloads = listener_of(broker, "1001@balance")
        await ws.send_message(right)
        with pytest.raises(ConnectionClosed):
            await ws.get_message()
        assert ws.closed is not None
        assert ws.closed.code == sockets.NOT_LOGGED_IN
        assert payloads == []


async def test_another_sites_page_may_not_publish_from_the_browser_of_somebody_here() -> None:
    async with running() as broker:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            assert await refused(broker, **headers) == 403


async def test_binary_and_too_long_messages_end_the_connection_with_their_code() -> None:
    async with running() as broker:
        for message, code in ((b"{}", 1003), ("x" * (1024 * 1024 + 1), 1009)):
            ws = await connect(broker)
            with pytest.raises(ConnectionClosed):
                await sent_and_heard(ws, message)
            assert ws.closed is not None
            assert ws.closed.code == code
