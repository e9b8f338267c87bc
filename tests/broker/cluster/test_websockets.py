"""WebSocket clients of any node: what is pushed on one reaches those of all, and positions hold everywhere."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
import trio_websocket
from support.nats import Server
from support.nodes import Client, joined
from trio_websocket import WebSocketConnection

from broker import Broker, Config, Listener
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.model import AdminHttp, Security
from broker.config.tokens import HistoryRule

CONFIG = Config(
    (
        Listener(
            0,
            "127.0.0.1",
            protocol="websockets",
            dialects=("exchange", "rowcast"),
            security=Security(allow_anonymous=True),
        ),
    ),
    gateway=GatewayConfig(
        exchange=Exchange(), rowcast=Rowcast(anonymous_subscribe=("#",), anonymous_publish=("#",))
    ),
    history=(HistoryRule(("t/#",)),),
    admin=AdminHttp(0),
)


async def connect(broker: Broker, path: str) -> WebSocketConnection:
    port = broker.app.addresses[0][1]
    url = f"ws://127.0.0.1:{port}{path}"
    return await trio_websocket.connect_websocket_url(broker.app.server.nursery, url)


async def told(ws: WebSocketConnection) -> Any:
    with trio.fail_after(10):
        return json.loads(await ws.get_message())


async def say(ws: WebSocketConnection, value: object) -> Any:
    await ws.send_message(json.dumps(value))
    return await told(ws)


async def test_what_is_pushed_on_one_node_reaches_subscribed_clients_of_all(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", CONFIG) as a, joined(urls, cluster_name, "b", CONFIG) as b:
        clients = [await connect(one, "/exchange-stream") for one in (a, b)]
        for client in clients:
            assert await say(client, {"op": "subscribe", "channel": "BTCUSDT@depth"}) == {"result": True}
        message = {"event": "BTCUSDT@depth", "data": {"bids": [], "asks": []}}
        for node in (a, b):
            url = f"http://127.0.0.1:{node.app.admin_port}/v1/mesh/publish"
            async with httpx.AsyncClient() as http:
                body = {"c": "ex:BTCUSDT@depth", "d": json.dumps(message)}
                answer = await http.post(url, json=body)
            assert answer.status_code == 200, answer.text
            for client in clients:
                assert await told(client) == message
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("count", [1, 20])
async def test_a_position_of_one_node_holds_on_another(
    nats_server: Server, cluster_name: str, count: int
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", CONFIG) as a, joined(urls, cluster_name, "b", CONFIG) as b:
        publisher, reader = Client(a), await connect(a, "/rowcast")
        await publisher.connect(b"p")
        first = await say(reader, {"id": 1, "subscribe": "t/x", "since": "now"})
        await publisher.publish(b"t/x", b'"seen"')
        seen = await told(reader)
        await reader.aclose()
        for number in range(count):
            await publisher.publish(b"t/x", b"%d" % number)
        watching = Client(b)
        await watching.connect(b"w")
        await watching.subscribe((b"t/x", 1))
        await publisher.publish(b"t/x", b'"last"')
        await watching.message()  # so node b has read everything
        there = await connect(b, "/rowcast")
        answer = await say(there, {"id": 1, "subscribe": "t/x", "since": seen["at"]})
        assert answer["recovered"], (first, seen, answer)
        missed = [one["data"] for one in answer["missed"]]
        assert missed == [*range(count), "last"]
        assert await say(there, {"id": 2, "publish": "t/x", "data": "from here"}) is not None
        await there.aclose()
