"""WebSocket clients of any node: what is pushed on one reaches those of all, and positions hold everywhere."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
import trio
import trio_websocket
from attrs import evolve
from support.nats import Server
from support.nodes import Client, joined, node_of
from support.websockets import ECONIA, reader, token
from trio_websocket import WebSocketConnection

from broker import Broker, Config, Listener
from broker.cluster.rows import RowOutlet
from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.history import HistoryRule
from broker.config.model import AdminHttp, Security
from broker.feed.gaps import announce
from broker.feed.status import FeedStatus
from protocol.nats.wire import Message

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


class LateReader:
    """Holds back what the log sends to a node."""

    def __init__(self, broker: Broker) -> None:
        node = node_of(broker)
        self._handlers = node.link._subscriptions._handlers
        self._held: list[Message] = []
        take = node.reader._gather.take
        (self._sid,) = [sid for sid, (_, handler) in self._handlers.items() if handler == take]
        self._subject, self._take = self._handlers[self._sid]
        self._handlers[self._sid] = (self._subject, self._held.append)
        self._turn = node.engine.turn
        node.reader._heard = math.inf

    def go_on(self) -> None:
        self._handlers[self._sid] = (self._subject, self._take)
        with self._turn:
            for message in self._held:
                self._take(message)


async def connect(broker: Broker, path: str, listener: int = 0) -> WebSocketConnection:
    port = broker.app.addresses[listener][1]
    url = f"ws://127.0.0.1:{port}{path}"
    return await trio_websocket.connect_websocket_url(broker.app.server.nursery, url)


async def told(ws: WebSocketConnection) -> Any:
    with trio.fail_after(60):
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


MARKETS = Config(
    tuple(
        Listener(
            0,
            "127.0.0.1",
            protocol="websockets",
            dialects=(dialect,),
            security=Security(allow_anonymous=True),
        )
        for dialect in ("canton", "econia")
    ),
    gateway=GatewayConfig(canton=Canton(ECONIA.jwt), econia=ECONIA),
    admin=AdminHttp(0),
)
ACCOUNT = "acc_1"


async def canton_client(broker: Broker) -> WebSocketConnection:
    ws = await connect(broker, "/v1/ws")
    answer = await say(ws, {"type": "auth", "token": token(account_id=ACCOUNT)})
    assert answer["status"] == "authenticated"
    for wanted in ({"channel": "orders"}, {"channel": "market_data", "symbols": ["AAPL/USDC"]}):
        answer = await say(ws, {"type": "subscribe", **wanted})
        assert answer["status"] == "subscribed", answer
    return ws


async def test_market_dialects_are_pushed_to_on_every_node(nats_server: Server, cluster_name: str) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", MARKETS) as a, joined(urls, cluster_name, "b", MARKETS) as b:
        nodes = (a, b)
        canton = [await canton_client(one) for one in nodes]
        econia = [await connect(one, "/" + reader("fills"), 1) for one in nodes]
        pushes = [
            ("canton:orders/acc_2", {"type": "not theirs"}, []),
            ("econia:places", {"not": "theirs"}, []),
            (f"canton:orders/{ACCOUNT}", {"type": "order_created"}, canton),
            ("canton:market_data/AAPL/USDC", {"type": "trade"}, canton),
            ("econia:fills", {"price": 1}, econia),
        ]
        for node in nodes:
            for channel, message, readers in pushes:
                url = f"http://127.0.0.1:{node.app.admin_port}/v1/mesh/publish"
                async with httpx.AsyncClient() as http:
                    answer = await http.post(url, json={"c": channel, "d": json.dumps(message)})
                assert answer.status_code == 200, answer.text
                for one in readers:
                    assert await told(one) == message
        for one in (*canton, *econia):
            await one.aclose()


async def test_what_an_econia_writer_sends_on_one_node_reaches_readers_of_all(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", MARKETS) as a, joined(urls, cluster_name, "b", MARKETS) as b:
        readers = [await connect(one, "/" + reader("chat"), 1) for one in (a, b)]
        for node in (a, b):
            writer = await connect(node, "/" + token(mode="w", channels=["chat"]), 1)
            await writer.send_message("hello")
            for one in readers:
                assert (await told(one))["payload"] == "hello"
            await writer.aclose()
        for one in readers:
            await one.aclose()


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


@pytest.mark.parametrize("topics", [("t/#",), ("t/x", "t/+", "#")])
async def test_a_node_that_begins_later_gives_what_was_missed_before(
    nats_server: Server, cluster_name: str, topics: tuple[str, ...]
) -> None:
    urls = (nats_server.url,)
    config = evolve(CONFIG, history=(HistoryRule(topics),))
    async with joined(urls, cluster_name, "a", config) as a:
        publisher, reader = Client(a), await connect(a, "/rowcast")
        await publisher.connect(b"p")
        await say(reader, {"id": 1, "subscribe": "t/x", "since": "now"})
        await publisher.publish(b"t/x", b'"seen"', retain=True)
        seen = await told(reader)
        await reader.aclose()
        for number in range(20):
            await publisher.publish(b"t/x", b"%d" % number, retain=number % 3 == 0)
            await publisher.publish(b"u/x", b"another's")
        async with joined(urls, cluster_name, "b", config) as b:
            there = await connect(b, "/rowcast")
            answer = await say(there, {"id": 1, "subscribe": "t/x", "since": seen["at"]})
            assert answer["recovered"], answer
            assert [one["data"] for one in answer["missed"]] == [*range(20)]
            await publisher.publish(b"t/x", b'"live"')
            assert (await told(there))["data"] == "live"
            again = await say(there, {"id": 2, "subscribe": "t/+", "since": answer["missed"][4]["at"]})
            assert [one["data"] for one in again["missed"]] == [*range(5, 20), "live"]
            await there.aclose()


async def test_a_position_that_a_node_has_not_read_yet_is_waited_for(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", CONFIG) as a, joined(urls, cluster_name, "b", CONFIG) as b:
        publisher, reader = Client(a), await connect(a, "/rowcast")
        await publisher.connect(b"p")
        await say(reader, {"id": 1, "subscribe": "t/x", "since": "now"})
        there = await connect(b, "/rowcast")
        late = LateReader(b)
        for number in range(3):
            await publisher.publish(b"t/x", b"%d" % number)
        seen = [await told(reader) for _ in range(3)]
        await there.send_message(json.dumps({"id": 1, "subscribe": "t/x", "since": seen[1]["at"]}))
        with trio.move_on_after(0.2) as waiting:
            await there.get_message()
        assert waiting.cancelled_caught, "nothing is said about a place that is still to come"
        late.go_on()
        answer = await told(there)
        assert answer["recovered"], answer
        assert [one["data"] for one in answer["missed"]] == [2]
        epoch, _, number = seen[2]["at"].partition("/")
        beyond = await say(there, {"id": 2, "subscribe": "t/y", "since": f"{epoch}/{int(number) + 1000}"})
        assert not beyond["recovered"]
        assert "unknown" in beyond["reason"]
        for client in (reader, there):
            await client.aclose()


async def test_a_gap_is_told_on_every_node_and_is_in_the_history_of_one_that_begins_later(
    nats_server: Server, cluster_name: str
) -> None:
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "a", CONFIG) as a, joined(urls, cluster_name, "b", CONFIG) as b:
        node, feed = node_of(a), FeedStatus("main")
        outlet = RowOutlet(node.engine, node.link, node.names, feed, b"a/main.1", node.status)
        await outlet.begin()
        a.app.server.nursery.start_soon(outlet.run)
        readers = [await connect(one, "/rowcast") for one in (a, b)]
        for reader in readers:
            await say(reader, {"id": 1, "subscribe": "t/x", "since": "now"})
        outlet.publish(b"t/x", b'"before"', 1, False)
        announce(feed, outlet, "the slot is gone", "0/1", "0/2")
        outlet.publish(b"t/x", b'"behind"', 1, False)
        await outlet.durable()
        for reader in readers:
            before, gap, behind = [await told(reader) for _ in range(3)]
            assert (before["data"], behind["data"]) == ("before", "behind")
            assert gap["reason"] == "the slot is gone"
            assert gap["from"] == before["at"]
            await reader.aclose()
        async with joined(urls, cluster_name, "c", CONFIG) as c:
            there = await connect(c, "/rowcast")
            lacking = await say(there, {"id": 1, "subscribe": "t/x", "since": before["at"]})
            assert not lacking["recovered"]
            whole = await say(there, {"id": 2, "subscribe": "t/x", "since": gap["to"]})
            assert [one["data"] for one in whole["missed"]] == ["behind"]
            await there.aclose()
