"""The admin port over real sockets: publishing as the exchange's document does, and who may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from support.websockets import Running, listening

from broker.admin.access import Access
from broker.admin.committing import COMMIT_WAIT_S
from broker.admin.http import REQUEST_TIMEOUT_S, AdminServer, Request, Response
from broker.admin.site import open_admin, publish_routes, serve_http
from broker.config.dialects.canton import Canton
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp
from broker.config.tokens import JwtConfig
from broker.core import barrier as barriers
from broker.core.counters import Counters
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import topic_of

CONFIG = GatewayConfig(exchange=Exchange(), canton=Canton(JwtConfig("x" * 32)))
PUBLISH = "/v1/mesh/publish"


class Heard(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.payloads: list[str] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.payloads.append(publication.payload.decode())


def admin_server(config: AdminHttp, broker: Running) -> AdminServer:
    access = Access(lambda: config.token)
    return AdminServer(publish_routes(broker.gateway), access.check, broker.engine.counters)


@asynccontextmanager
async def admin(token: str = "") -> AsyncIterator[tuple[httpx.AsyncClient, Running]]:
    config = AdminHttp(0, token=token or ())
    opened = open_admin(config)
    port = opened[0].socket.getsockname()[1]
    async with listening(CONFIG, dialects=("exchange",)) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, admin_server(config, broker), opened)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client, broker
        nursery.cancel_scope.cancel()


def heard(broker: Running, dialect: str, channel: str) -> list[str]:
    receiver = Heard()
    broker.engine.subscribe(receiver, topic_of(dialect, channel), 0)
    return receiver.payloads


async def test_one_message_is_published_word_for_word() -> None:
    async with admin() as (client, broker):
        payloads = heard(broker, "exchange", "1001@balance")
        text = '{"event":"@balance","data":{"uid":1001}}'
        response = await client.post(PUBLISH, json={"c": "ex:1001@balance", "d": text})
        assert (response.status_code, response.json()) == (200, {"result": True, "published": 1})
        assert payloads == [text]


async def test_a_batch_is_published_in_order_and_an_object_as_its_json() -> None:
    async with admin() as (client, broker):
        orders = heard(broker, "canton", "orders/acc_1")
        depth = heard(broker, "exchange", "BTCUSDT@depth")
        batch = [
            {"c": "ex:BTCUSDT@depth", "d": "1"},
            {"c": "canton:orders/acc_1", "d": {"type": "order_created", "é": 1}},
            {"c": "ex:BTCUSDT@depth", "d": "2"},
        ]
        response = await client.post(PUBLISH, json=batch)
        assert response.json() == {"result": True, "published": 3}
        assert depth == ["1", "2"]
        assert orders == ['{"type":"order_created","é":1}']


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "the body must be JSON"),
        (b"[" * 5000, "the body must be JSON"),
        (b"1", '{"c": CHANNEL, "d": TEXT} is wanted'),
        (b"[]", "a batch has 1 to 1000 messages, not 0"),
        (b'{"d":"x"}', "c must be a channel's name"),
        (b'{"c":"1001@balance","d":"x"}', "c must begin with ex: or canton:"),
        (b'{"c":"$ws/exchange/1001@balance","d":"x"}', "c must begin with ex: or canton:"),
        (b'{"c":"ex:","d":"x"}', "c: a channel's name must not be empty"),
        (b'{"c":"ex:BTCUSDT@depth"}', "d must be text, or an object"),
        (b'{"c":"ex:BTCUSDT@depth","d":1}', "d must be text, or an object"),
        (b'{"c":"ex:BTCUSDT@depth","d":"\\ud800"}', "d must be valid Unicode text"),
        (b'[{"c":"ex:BTCUSDT@depth","d":"x"},{"c":1}]', "[1] c must be a channel's name"),
    ],
)
async def test_a_bad_request_publishes_nothing_and_says_why(body: bytes, message: str) -> None:
    async with admin() as (client, broker):
        payloads = heard(broker, "exchange", "BTCUSDT@depth")
        response = await client.post(PUBLISH, content=body, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()) == (400, {"error": message})
        assert payloads == []


async def test_what_a_web_page_could_send_unasked_is_refused() -> None:
    async with admin() as (client, _):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = await client.post(PUBLISH, content=b"{}", headers={"Content-Type": content_type})
            assert response.status_code == 415


async def test_another_path_or_method_is_told_what_there_is() -> None:
    async with admin() as (client, _):
        missing = await client.get("/")
        assert (missing.status_code, PUBLISH in missing.json()["error"]) == (404, True)
        wrong = await client.get(PUBLISH)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_a_configured_token_is_wanted_of_everybody() -> None:
    body = {"c": "ex:BTCUSDT@depth", "d": "x"}
    async with admin(token="secret") as (client, _):
        assert (await client.post(PUBLISH, json=body)).status_code == 401
        for authorization in ("Bearer wrong", "Basic secret", "Bearer", "Bearer sécret"):
            headers = [(b"Authorization", authorization.encode())]
            assert (await client.post(PUBLISH, json=body, headers=headers)).status_code == 401
        right = await client.post(PUBLISH, json=body, headers={"Authorization": "Bearer secret"})
        assert right.status_code == 200


async def test_a_body_that_is_too_long_is_refused() -> None:
    async with admin() as (client, _):
        try:
            response = await client.post(PUBLISH, content=b"x" * (5 * 1024 * 1024))
        except httpx.WriteError:
            return
        assert response.status_code == 413


async def test_a_connection_takes_one_request_after_the_other() -> None:
    async with admin() as (client, _):
        for _ in range(3):
            assert (await client.get("/")).status_code == 404


async def test_rubbish_is_answered_and_cut_off() -> None:
    config = AdminHttp(0)
    opened = open_admin(config)
    port = opened[0].socket.getsockname()[1]
    async with listening(CONFIG, dialects=("exchange",)) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, admin_server(config, broker), opened)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"\x00\x01\x02 rubbish\r\n\r\n")
        answer = b""
        with trio.fail_after(60):
            while received := await stream.receive_some():
                answer += received
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ("canton:orders", "orders/ and the name of an account is wanted"),
        ("canton:orders/", "orders/ and the name of an account is wanted"),
        ("canton:order/acc_1", "there is no such channel"),
        ("canton:market_data", "market_data/ and the name of a symbol is wanted"),
        ("canton:market_data/" + "x" * 300, "market_data/ and the name of a symbol is wanted"),
        ("canton:system_health/x", "system_health is the whole name"),
    ],
)
async def test_a_canton_channel_that_nobody_can_read_is_an_error(channel: str, why: str) -> None:
    async with admin() as (client, _):
        answer = await client.post(PUBLISH, json={"c": channel, "d": "1"})
        assert answer.status_code == 400
        assert answer.json() == {"error": f"c: nobody can read {channel}: {why}"}


@pytest.mark.parametrize("name", ["market_data/BTC", "orders/a/b", "compliance_events", "system_health"])
async def test_every_canton_channel_that_somebody_can_read_is_published_to(name: str) -> None:
    async with admin() as (client, broker):
        payloads = heard(broker, "canton", name)
        answer = await client.post(PUBLISH, json={"c": f"canton:{name}", "d": "1"})
        assert (answer.status_code, payloads) == (200, ["1"])


async def test_a_bug_in_a_handler_is_answered_with_500_and_the_connection_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)

    async def fails(_: Request) -> Response:
        raise ZeroDivisionError

    async def works(_: Request) -> Response:
        return Response(200, b"{}")

    counters = Counters()
    opened = open_admin(AdminHttp(0))
    port = opened[0].socket.getsockname()[1]
    routes = {"/fails": {"POST": fails}, "/works": {"GET": works}}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, AdminServer(routes, lambda *_: None, counters), opened)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            answer = await client.post("/fails", content=b"x" * 1000)
            assert answer.status_code == 500
            assert answer.json() == {"error": "a bug in Rowcast; the log says where"}
            assert (await client.get("/works")).status_code == 200
        nursery.cancel_scope.cancel()
    assert counters.link_bugs == 1


async def test_an_answer_has_its_own_time_however_long_the_connection_was_idle_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who waits for a COMMIT or for a cluster's log is told after `COMMIT_WAIT_S` that nobody knows."""

    async def waits(_: Request) -> Response:
        await trio.sleep(COMMIT_WAIT_S)
        return Response(504, b"{}")

    server = AdminServer({PUBLISH: {"POST": waits}}, lambda *_: None, Counters())
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, theirs, "127.0.0.1")
        await trio.sleep(REQUEST_TIMEOUT_S - 1)
        await ours.send_all(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}" % PUBLISH.encode())
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 504 ")
        nursery.cancel_scope.cancel()
