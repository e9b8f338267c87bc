"""What the page and `rowcast ctl` ask for and do, over real sockets, with real clients."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio_websocket
from support.mqtt_stream import StreamClient

from broker import Broker, Config, Listener
from broker.config.model import AdminHttp, Health, Security
from broker.feed.status import FeedStatus
from broker.reports.log_tail import TAIL
from protocol.mqtt.packets import Publish

OPEN = Security(allow_anonymous=True)
LISTENERS = (
    Listener(0, "127.0.0.1", security=OPEN),
    Listener(0, "127.0.0.1", protocol="websockets", security=OPEN),
)


KEPT: list[StreamClient] = []
"""Connections must outlive the line that made them."""


@asynccontextmanager
async def running(token: str = "") -> AsyncIterator[tuple[Broker, httpx.AsyncClient]]:
    config = Config(LISTENERS, admin=AdminHttp(0, token=token or ()), metrics=AdminHttp(0))
    async with Broker(config) as broker:
        url = f"http://127.0.0.1:{broker.app.admin_port}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx.AsyncClient(base_url=url, trust_env=False, headers=headers) as client:
            yield broker, client
            KEPT.clear()


async def connected(broker: Broker, client_id: bytes, *filters: bytes) -> StreamClient:
    client = StreamClient(await trio.open_tcp_stream("127.0.0.1", broker.ports[0]))
    await client.connect(client_id)
    KEPT.append(client)
    for topic_filter in filters:
        await client.subscribe(topic_filter, 1)
    return client


async def test_clients_are_listed_searched_and_kicked() -> None:
    async with running() as (broker, http):
        ada = await connected(broker, b"ada", b"a/#", b"b")
        await connected(broker, b"grace")
        answer = (await http.get("/api/v1/clients")).json()
        assert answer["total"] == 2
        found = (await http.get("/api/v1/clients", params={"search": "AD"})).json()["clients"]
        assert [(one["client"], one["subscriptions"], one["connected"]) for one in found] == [
            ("ada", 2, True)
        ]
        assert (await http.post("/api/v1/clients/kick", json={"client": "ada"})).json() == {"result": True}
        assert await ada.read_to_end() == b""
        gone = await http.post("/api/v1/clients/kick", json={"client": "ada"})
        assert (gone.status_code, gone.json()) == (404, {"error": "no client ada is connected"})


@pytest.mark.parametrize("connection_messages", [True, False])
async def test_log_says_of_a_kick_once_that_it_was(
    connection_messages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as (broker, http):
        for door in broker.app.doors:
            door.connection_messages = connection_messages
        ada = await connected(broker, b"ada")
        with caplog.at_level("DEBUG"):
            await http.post("/api/v1/clients/kick", json={"client": "ada"})
            await ada.read_to_end()
    assert sum("disconnected by an administrator" in said for said in caplog.messages) == 1


async def test_lists_come_in_pages() -> None:
    async with running() as (broker, http):
        for number in range(5):
            await connected(broker, b"c%d" % number)
        page = (await http.get("/api/v1/clients", params={"offset": 3, "limit": 10})).json()
        assert ([one["client"] for one in page["clients"]], page["total"]) == (["c3", "c4"], 5)
        for wrong in ({"limit": "-1"}, {"limit": "1001"}, {"offset": "x"}, {"limit": "¹"}):
            assert (await http.get("/api/v1/clients", params=wrong)).status_code == 400


async def test_retained_messages_are_shown_and_cleared_for_those_who_listen_too() -> None:
    async with running() as (broker, http):
        await broker.publish("prices/BTC", b'{"bid":1}', retain=True)
        await broker.publish("blob", b"\xff\x00", retain=True)
        found = (await http.get("/api/v1/retained", params={"search": "prices"})).json()["retained"]
        assert found == [{"topic": "prices/BTC", "bytes": 9, "qos": 0, "payload": '{"bid":1}'}]
        blob = (await http.get("/api/v1/retained", params={"search": "blob"})).json()["retained"]
        assert blob[0]["payload_base64"] == "/wA="
        ada = await connected(broker, b"ada", b"prices/#")
        assert isinstance(await ada.receive(), Publish)
        cleared = await http.post("/api/v1/retained/clear", json={"topic": "prices/BTC"})
        assert cleared.json() == {"result": True}
        told = await ada.receive()
        assert isinstance(told, Publish)
        assert (told.topic, told.payload) == (b"prices/BTC", b"")
        assert (await http.post("/api/v1/retained/clear", json={"topic": "prices/BTC"})).status_code == 404


async def test_subscriptions_are_counted_by_filter() -> None:
    async with running() as (broker, http):
        await connected(broker, b"ada", b"a/#")
        await connected(broker, b"grace", b"a/#", b"b")
        found = (await http.get("/api/v1/subscriptions")).json()["subscriptions"]
        assert [(one["filter"], one["subscribers"]) for one in found] == [("a/#", 2), ("b", 1)]


async def test_a_gap_makes_it_unready_until_somebody_acknowledges_it_or_time_has_passed() -> None:
    async with running() as (broker, http):
        status = broker.app.feeds["main"] = FeedStatus("main")
        assert (await http.get("/readyz")).text == "feed main: connecting\n"
        status.enter("live")
        assert (await http.get("/readyz")).status_code == 200
        status.gap("the slot was lost")
        red = await http.get("/readyz")
        assert red.status_code == 503
        assert red.text.startswith("feed main: gap 1: the slot was lost (")
        assert (await http.post("/api/v1/feeds/acknowledge", json={"feed": "main"})).json()["gaps"] == 1
        assert (await http.get("/readyz")).status_code == 200
        status.trouble("table public.x", "table public.x is not captured")
        assert (await http.get("/readyz")).text == "feed main: table public.x is not captured\n"
        status.over("table public.x")
        status.lag_s = Health().lag_s + 1
        assert (await http.get("/readyz")).text == "feed main: 31 s behind\n"
        assert (await http.get("/healthz")).text == "ok\n"


async def test_health_needs_no_token_and_is_answered_on_a_websocket_port_too() -> None:
    async with running("secret" * 6) as (broker, http):
        http.headers.pop("Authorization")
        for url in (
            "",
            f"http://127.0.0.1:{broker.ports[1]}",
            f"http://127.0.0.1:{broker.app.operation.metrics_port}",
        ):
            for path in ("/healthz", "/readyz"):
                assert (await http.get(url + path)).status_code == 200
        assert (await http.head("/readyz")).text == ""
        assert (await http.get("/")).headers["content-type"] == "text/html; charset=utf-8"
        for path in ("/metrics", "/api/v1/overview", "/api/v1/clients"):
            assert (await http.get(path)).status_code == 401


async def test_a_foreign_name_for_this_machine_is_refused_where_no_token_is() -> None:
    async with running() as (_, http):
        for host, status in {
            "localhost": 200, "127.0.0.1:1": 200, "[::1]:80": 200, "evil.example": 403, "evil.example:80": 403,
            "127.0.0.1.evil.example": 403, "localhost.evil.example:80": 403,
        }.items():  # fmt: skip
            answer = await http.get("/api/v1/feeds", headers={"Host": host})
            assert (host, answer.status_code) == (host, status)


async def test_what_acts_takes_json_only_and_says_what_is_missing() -> None:
    async with running() as (_, http):
        for path in ("clients/kick", "retained/clear", "feeds/acknowledge", "drain", "reload"):
            plain = await http.post(f"/api/v1/{path}", content=b"{}", headers={"Content-Type": "text/plain"})
            assert plain.status_code == 415
        for body in (b"", b"[]", b"{}", b'{"client": 1}', b'{"client": ""}'):
            headers = {"Content-Type": "application/json"}
            answer = await http.post("/api/v1/clients/kick", content=body, headers=headers)
            assert answer.status_code == 400
        assert (await http.post("/api/v1/drain", json={})).status_code == 501


async def test_a_process_in_no_cluster_says_so() -> None:
    async with running() as (_, http):
        answer = await http.get("/api/v1/cluster")
        assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (
            404,
            "this process is in no cluster",
        )


async def test_metrics_come_in_the_form_that_is_asked_for() -> None:
    async with running() as (broker, http):
        plain = await http.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "\nbroker_clients_connected 0\n" in plain.text
        wanted = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        openmetrics = await http.get(
            f"http://127.0.0.1:{broker.app.operation.metrics_port}/metrics", headers=wanted
        )
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("\n# EOF\n")


async def live(broker: Broker, **more: str) -> trio_websocket.WebSocketConnection:
    url = f"ws://127.0.0.1:{broker.app.admin_port}/api/v1/live"
    headers = [(name.encode(), value.encode()) for name, value in more.items()]
    return await trio_websocket.connect_websocket_url(broker.app.server.nursery, url, extra_headers=headers)


async def test_the_live_page_gets_the_overview_and_the_log() -> None:
    async with running("secret" * 6) as (broker, _):
        TAIL.add("warning", "a line of the log")
        ws = await live(broker)
        await ws.send_message(json.dumps({"token": "secret" * 6}))
        overview = json.loads(await ws.get_message())
        assert (overview["type"], overview["ready"]) == ("overview", True)
        log = json.loads(await ws.get_message())
        assert log["type"] == "log"
        assert {"severity": "warning", "text": "a line of the log"} in log["lines"]
        assert json.loads(await ws.get_message())["type"] == "overview"
        await ws.aclose()


@pytest.mark.parametrize("said", ['{"token": "wrong"}', "no json", "[]", '{"token": 1}'])
async def test_the_live_page_without_the_token_is_closed(said: str) -> None:
    async with running("secret" * 6) as (broker, _):
        ws = await live(broker)
        await ws.send_message(said)
        with pytest.raises(trio_websocket.ConnectionClosed):
            await ws.get_message()
        assert ws.closed is not None
        assert ws.closed.code == 4401


async def test_another_sites_page_gets_no_live_connection() -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with running() as (broker, http):
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            answer = await http.get("/api/v1/live", headers=handshake | headers)
            assert answer.status_code == 403
        ws = await live(broker, Origin=f"http://127.0.0.1:{broker.app.admin_port}")
        await ws.aclose()
