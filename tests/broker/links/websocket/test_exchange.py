"""The CONNMIX exchange over real sockets: the document's own test session, logins, isolation, slow receivers."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from urllib.parse import quote

import jwt
import pytest
import trio
import trio_websocket
from support.websockets import Running, closed_with, listening, masked

from broker.admin.http import AdminServer, HttpError, Request, Response, json_response
from broker.admin.publishing import MeshPublisher
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.limits import DialectLimits
from broker.config.steps import finished
from broker.config.tokens import HttpHookConfig, JwtConfig
from broker.core.counters import Counters
from broker.gateway.identity import Identifier
from protocol.dialects.base import Clock, Identity, Refusal
from protocol.websocket import CloseCode

SECRET = "exchange_secret_of_32_characters"
CONFIG = GatewayConfig(
    exchange=Exchange(jwt=JwtConfig(SECRET, account_claim="uid")), outbox_bytes_max=300_000
)
PATH = "/exchange-stream"

TOLD = rb'\{"code":2,"msg":"Slow Receiver: (\d+) messages of BTCUSDT@ticker skipped"\}'

BALANCE = '{"event":"@balance","data":{"uid":1001,"balance":[{"currency":" BTC","available":100,"unavailable":100}]}}'

# The document's curl example: the body as it stands there.
ESCAPED = BALANCE.replace('"', '\\"')
CURL_BODY = '{\n     "c": "ex:1001@balance",\n     "d": "' + ESCAPED + '"\n}'


class Answering:
    """Logs in whoever presents a uid as the token; refuses "bad", hangs on "hang"."""

    async def identify(self, token: str, clock: Clock, now: float) -> Identity | Refusal:
        if token == "hang":
            await trio.sleep_forever()
        return Refusal.INVALID if token == "bad" else Identity("1001" if token == "***" else token)


IDENTIFIERS: dict[str, Identifier] = {"exchange": Answering()}


async def say(ws: trio_websocket.WebSocketConnection, text: str) -> str:
    await ws.send_message(text)
    answer = await ws.get_message()
    assert isinstance(answer, str)
    return answer


async def test_the_documents_test_session_step_by_step() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        assert await say(ws, '{"op":"auth","token":"***"}') == '{"result":true}'
        assert await say(ws, '{"op":"subscribe","channel":"@balance"}') == '{"result":true}'
        publisher = MeshPublisher(broker.gateway)
        publisher.publish(finished(publisher.read(CURL_BODY.encode())))
        broker.engine.flush()
        assert await ws.get_message() == BALANCE


async def test_the_documents_table_of_messages() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        assert await say(ws, '{"op":"subscribe","channel":"BTCUSDT@depth"}') == '{"result":true}'
        message = '{"event":"BTCUSDT@depth","data":{"bids":[],"asks":[]}}'
        broker.publish("exchange", "BTCUSDT@depth", message)
        assert await ws.get_message() == message
        assert await say(ws, '{"op":"unsubscribe","channel":"BTCUSDT@depth"}') == '{"result":true}'
        broker.publish("exchange", "BTCUSDT@depth", "not any more")
        assert await say(ws, '{"op":"subscribe","channel":"@order"}') == '{"code":1,"msg":"Not Auth"}'


async def test_a_jwt_logs_in_and_expires_on_the_live_connection() -> None:
    async with listening(CONFIG, ("exchange",)) as broker, broker.connect(PATH) as ws:
        expires = time.time() + 10
        token = jwt.encode({"uid": 1001, "exp": expires}, SECRET, algorithm="HS256")
        assert await say(ws, json.dumps({"op": "auth", "token": token})) == '{"result":true}'
        broker.stand_at(expires - 1)
        assert await say(ws, '{"op":"subscribe","channel":"@order"}') == '{"result":true}'
        broker.stand_at(expires + 1)
        assert await ws.get_message() == '{"code":1,"msg":"Token Expired"}'
        assert await closed_with(ws) == CloseCode.TOKEN_EXPIRED


async def answer_logins(listener: trio.SocketListener, seen: list[bytes]) -> None:
    """The document's login service: knows one token, fails the first time it is asked."""

    async def websocket_auth(request: Request) -> Response:
        seen.append(request.body)
        if len(seen) == 1:
            raise HttpError(503, "not yet")
        if json.loads(request.body) != {"token": "***"}:
            raise HttpError(401, "unknown token")
        return json_response({"uid": 1001})

    service = AdminServer({"/websocket_auth": {"POST": websocket_auth}}, lambda *_: None, Counters())
    await trio.serve_listeners(partial(service.serve, peer_host="127.0.0.1"), [listener])


async def test_the_http_hook_logs_in_and_refuses() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/websocket_auth"
    config = GatewayConfig(exchange=Exchange(hook=HttpHookConfig(url)))
    seen: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_logins, listener, seen)
        async with listening(config, ("exchange",)) as broker:
            async with broker.connect(PATH) as ws:
                assert await say(ws, '{"op":"auth","token":"***"}') == '{"result":true}'
                assert await say(ws, '{"op":"subscribe","channel":"@balance"}') == '{"result":true}'
                broker.publish("exchange", "1001@balance", "mine")
                assert await ws.get_message() == "mine"
            async with broker.connect(PATH) as ws:
                assert await say(ws, '{"op":"auth","token":"stolen"}') == '{"code":1,"msg":"Auth Failed"}'
                assert await closed_with(ws) == CloseCode.POLICY_VIOLATION
        nursery.cancel_scope.cancel()
    assert [json.loads(body) for body in seen] == [{"token": "***"}, {"token": "***"}, {"token": "stolen"}]


async def test_a_login_service_that_is_not_there_refuses() -> None:
    config = GatewayConfig(exchange=Exchange(hook=HttpHookConfig("http://127.0.0.1:1/", attempts=2)))
    async with listening(config, ("exchange",)) as broker, broker.connect(PATH) as ws:
        assert await say(ws, '{"op":"auth","token":"***"}') == '{"code":1,"msg":"Auth Unavailable"}'
        assert await closed_with(ws) == CloseCode.POLICY_VIOLATION


async def test_a_refused_login_is_told_and_closed() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        assert await say(ws, '{"op":"auth","token":"bad"}') == '{"code":1,"msg":"Auth Failed"}'
        assert await closed_with(ws) == CloseCode.POLICY_VIOLATION


async def test_a_client_that_leaves_during_its_login_is_forgotten() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker:
        client = await broker.raw_websocket(PATH)
        await client.send(masked(0x81, b'{"op":"auth","token":"hang"}'))
        await client.stream.aclose()
        with trio.fail_after(60):
            await broker.websockets.close_all()
        assert broker.gateway.count() == 0


@pytest.mark.parametrize(
    ("first_byte", "payload", "code"),
    [
        (0x82, b'{"op":"auth"}', 1003),
        (0x81, b"rubbish", 1008),
        (0x81, b'{"op":"subscribe","channel":"BTCUSDT"}', 1008),
    ],
    ids=["binary", "no JSON", "no @"],
)
async def test_malformed_input_closes(first_byte: int, payload: bytes, code: int) -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker:
        client = await broker.raw_websocket(PATH)
        await client.send(masked(first_byte, payload))
        with trio.fail_after(60):
            assert await client.close_code() == code


async def test_a_retained_message_greets_a_new_subscriber_after_the_answer() -> None:
    from broker.core.publication import Publication
    from broker.gateway.channels import topic_of

    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        broker.engine.publish(Publication(topic_of("exchange", "BTCUSDT@ticker"), b"last", 0, True))
        assert await say(ws, '{"op":"subscribe","channel":"BTCUSDT@ticker"}') == '{"result":true}'
        assert await ws.get_message() == "last"


SPELLINGS = [
    "1002@balance",
    "1002@Balance",
    "@1002@balance",
    "1001@balance@1002",
    "ex:1002@balance",
    "$ws/exchange/1002@balance",
    "1002%40balance",
    quote("1002@balance", safe=""),
    "+@balance",
    "#@balance",
    "*@balance",
    "../1002@balance",
    "１００２@balance",
    "1002\u200b@balance",
    "1002@balance\x00",
    "1002 @balance",
    "01002@balance",
    "1002.0@balance",
    "@balance\n",
    "1002@depth/../balance",
    "1002/balance@depth",
    "1002@balance@depth",
]


async def test_no_spelling_reaches_another_users_channel_over_the_wire() -> None:
    """Each spelling is tried by its own logged-in connection, then user 1002's event is published."""

    async def attack(broker: Running, channel: str) -> None:
        async with broker.connect(PATH) as ws:
            await say(ws, '{"op":"auth","token":"1001"}')
            try:
                await say(ws, json.dumps({"op": "subscribe", "channel": channel}))
                broker.publish("exchange", "1002@balance", "SECRET OF 1002")
                broker.publish("exchange", "1001@balance", "end")
                with trio.move_on_after(0.2):
                    assert "1002" not in str(await ws.get_message())
            except trio_websocket.ConnectionClosed:
                pass

    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for channel in SPELLINGS:
                    nursery.start_soon(attack, broker, channel)


async def test_a_frozen_client_of_a_market_channel_gets_the_newest_and_is_told_what_is_missing() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker:
        slow = await broker.raw_websocket(PATH)
        await slow.send(masked(0x81, b'{"op":"subscribe","channel":"BTCUSDT@ticker"}'))
        assert await slow.frame() == (0x81, b'{"result":true}')
        count = 500
        for number in range(count):
            broker.publish("exchange", "BTCUSDT@ticker", f"{number} " + "x" * 50_000)
            await trio.lowlevel.checkpoint()
        got: list[int] = []
        missing = 0
        with trio.fail_after(60):
            while not got or got[-1] != count - 1:
                _, payload = await slow.frame()
                told = re.fullmatch(TOLD, payload)
                if told:
                    missing += int(told[1])
                else:
                    got.append(int(payload.split()[0]))
        assert got == sorted(got)
        assert 0 < missing == count - len(got)
        assert broker.engine.counters.dropped_outbox_full == missing
        assert broker.gateway.count() == 1


async def test_a_frozen_client_of_a_book_is_closed_since_changes_do_not_stand_for_each_other() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker:
        slow = await broker.raw_websocket(PATH)
        await slow.send(masked(0x81, b'{"op":"subscribe","channel":"BTCUSDT@depth"}'))
        assert await slow.frame() == (0x81, b'{"result":true}')
        with trio.fail_after(60):
            number = 0
            while broker.gateway.count():
                broker.publish("exchange", "BTCUSDT@depth", f"{number} " + "x" * 50_000)
                number += 1
                await trio.lowlevel.checkpoint()
            got: list[int] = []
            first_byte = 0
            while first_byte != 0x88:
                first_byte, payload = await slow.frame()
                if first_byte == 0x81:
                    got.append(int(payload.split()[0]))
        assert got == list(range(len(got)))
        assert payload[2:] == b"slow receiver"


async def test_a_frozen_client_of_a_private_channel_is_closed_and_others_are_not_delayed() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as good:
        await say(good, '{"op":"auth","token":"1001"}')
        await say(good, '{"op":"subscribe","channel":"@order"}')
        frozen = await broker.raw_websocket(PATH)
        await frozen.send(masked(0x81, b'{"op":"auth","token":"1001"}'))
        await frozen.send(masked(0x81, b'{"op":"subscribe","channel":"@order"}'))
        await frozen.frame()
        await frozen.frame()
        with trio.fail_after(60):
            while broker.gateway.count() == 2:
                broker.publish("exchange", "1001@order", "x" * 50_000)
                await good.get_message()
        await frozen.stream.aclose()


async def test_who_sends_too_fast_is_read_more_slowly_and_loses_nothing() -> None:
    limited = GatewayConfig(exchange=Exchange(limits=DialectLimits(messages_per_s_max=10)))
    async with listening(limited, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        started = trio.current_time()
        for _ in range(25):
            await ws.send_message('{"op":"unsubscribe","channel":"BTCUSDT@depth"}')
        with trio.fail_after(60):
            answers = [await ws.get_message() for _ in range(25)]
        assert answers == ['{"result":true}'] * 25
        assert trio.current_time() - started > 1.4


async def test_a_page_subscribes_to_all_its_channels_in_one_request() -> None:
    async with listening(CONFIG, ("exchange",), IDENTIFIERS) as broker, broker.connect(PATH) as ws:
        channels = [f"S{number}@{kind}" for number in range(21) for kind in ("depth", "trades", "kline")]
        await say(ws, json.dumps({"op": "subscribe", "channels": channels}))
        for channel in channels:
            broker.publish("exchange", channel, channel)
        with trio.fail_after(60):
            assert [await ws.get_message() for _ in channels] == channels
