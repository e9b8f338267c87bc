"""CantonDEX over real sockets: every example of its document, limits, aggregation, expiry."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
import trio
import trio_websocket
from support.canton_examples import EXAMPLES
from support.dialects import exact
from support.websockets import Running, closed_with, listening, masked

from broker.config.dialects.canton import Canton
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.limits import DialectLimits
from broker.config.tokens import JwtConfig
from broker.core.publication import Publication
from broker.gateway.channels import topic_of

SECRET = "canton_secret_of_32_characters__"
ACCOUNT = "acc_1234567890abcdef"
CONFIG = GatewayConfig(canton=Canton(JwtConfig(SECRET), limits=DialectLimits(message_bytes_max=4096)))
PATH = "/v1/ws"

EVENTS = [name for name in EXAMPLES if name.endswith("Event")]
CHANNEL_OF = {
    "Order Updates Stream": f"orders/{ACCOUNT}",
    "Trade Updates Stream": f"trades/{ACCOUNT}",
    "Market Data Stream": "market_data/AAPL/USDC",
    "Settlement Stream": f"settlements/{ACCOUNT}",
    "Account Notifications Stream": f"account_notifications/{ACCOUNT}",
    "Compliance Events Stream": "compliance_events",
    "System Health Stream": "system_health",
}


def token(account: str = ACCOUNT, *roles: str, **claims: object) -> str:
    return jwt.encode({"account_id": account, "roles": roles, **claims}, SECRET, algorithm="HS256")


async def say(ws: trio_websocket.WebSocketConnection, **message: object) -> dict[str, object]:
    await ws.send_message(json.dumps(message))
    return await heard(ws)


async def heard(ws: trio_websocket.WebSocketConnection) -> dict[str, object]:
    answer = json.loads(await ws.get_message())
    assert isinstance(answer, dict)
    return answer


async def log_in(ws: trio_websocket.WebSocketConnection, *roles: str, account: str = ACCOUNT) -> None:
    assert (await say(ws, type="auth", token=token(account, *roles)))["status"] == "authenticated"


async def test_every_event_of_the_document_arrives_word_for_word() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws, "compliance_officer")
        for name in EXAMPLES:
            if name.endswith("Subscribe Request") and "Unsubscribe" not in name:
                request = json.loads(EXAMPLES[name])
                request.pop("aggregation", None)
                assert (await say(ws, **request))["status"] == "subscribed"
        assert len(EVENTS) == 21
        for name in EVENTS:
            broker.publish("canton", CHANNEL_OF[name.partition(":")[0]], EXAMPLES[name])
        for name in EVENTS:
            assert await ws.get_message() == EXAMPLES[name]


async def test_the_replies_of_the_document_are_produced_over_the_wire() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        await ws.send_message(EXAMPLES["Authentication: Request"])
        assert exact(str(await ws.get_message())) == exact(EXAMPLES["Authentication: Response (Error)"])
        await ws.send_message(json.dumps({"type": "auth", "token": token()}))
        assert exact(str(await ws.get_message())) == exact(EXAMPLES["Authentication: Response (Success)"])
        await ws.send_message(EXAMPLES["Order Updates Stream: Subscribe Request"])
        assert exact(str(await ws.get_message())) == exact(
            EXAMPLES["Order Updates Stream: Subscription Confirmation"]
        )
        await ws.send_message(EXAMPLES["Unsubscribe: Unsubscribe Request"])
        assert exact(str(await ws.get_message())) == exact(EXAMPLES["Unsubscribe: Unsubscribe Response"])
        await ws.send_message(EXAMPLES["Heartbeat / Keep-Alive: Client Response"])
        await ws.send_message(EXAMPLES["Unsubscribe: Unsubscribe Request"])
        error = await heard(ws)
        assert (error["type"], error["code"]) == ("error", "NOT_SUBSCRIBED")
        assert list(error) == list(json.loads(EXAMPLES["Error Handling: Error Message"]))


async def test_another_accounts_events_never_come() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws)
        for account in ("acc_2", f"{ACCOUNT}/../acc_2", "#", "+", "acc_2%", "ACC_1234567890ABCDEF"):
            assert (await say(ws, type="subscribe", channel="orders", account_id=account))["type"] == "error"
        assert (await say(ws, type="subscribe", channel="orders"))["status"] == "subscribed"
        broker.publish("canton", "orders/acc_2", "not yours")
        broker.publish("canton", f"orders/{ACCOUNT}", "yours")
        assert await ws.get_message() == "yours"


async def test_ten_connections_per_account_and_no_more() -> None:
    async with listening(CONFIG, ("canton",)) as broker, trio.open_nursery() as nursery:
        in_use: list[trio_websocket.WebSocketConnection] = []
        for _ in range(10):
            ws = await trio_websocket.connect_websocket(
                nursery, "127.0.0.1", broker.port, PATH, use_ssl=False
            )
            await log_in(ws)
            in_use.append(ws)
        async with broker.connect(PATH) as eleventh:
            answer = await say(eleventh, type="auth", token=token())
            assert (answer["status"], answer["error_code"]) == ("failed", "RATE_LIMITED")
            assert await closed_with(eleventh) == 1008
        async with broker.connect(PATH) as other:
            await log_in(other, account="acc_2")
        # The same connection logging in again takes no further place.
        await log_in(in_use[0])
        await in_use.pop().aclose()
        await broker.links_left(9)
        async with broker.connect(PATH) as tenth:
            await log_in(tenth)
        for ws in in_use:
            await ws.aclose()


async def test_a_message_that_is_too_large_is_told_and_closed() -> None:
    async with listening(CONFIG, ("canton",)) as broker:
        client = await broker.raw_websocket(PATH)
        await client.send(masked(0x81, b"x" * 5000))
        with trio.fail_after(60):
            _, payload = await client.frame()
            assert json.loads(payload)["code"] == "MESSAGE_SIZE_EXCEEDED"
            assert await client.close_code() == 1009


async def test_a_hundred_messages_a_second_are_answered_and_the_next_is_rate_limited() -> None:
    async with listening(CONFIG, ("canton",)) as broker:
        client = await broker.raw_websocket(PATH)
        await client.send(masked(0x81, b"{}") * 120)  # at once, however busy the machine is
        with trio.fail_after(60):
            codes = [json.loads((await client.frame())[1])["code"] for _ in range(120)]
        assert codes[:100] == ["INVALID_REQUEST"] * 100
        assert "RATE_LIMITED" in codes[100:]


async def test_a_token_that_expires_closes_the_live_connection() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        expires = time.time() + 10
        assert (await say(ws, type="auth", token=token(exp=expires)))["status"] == "authenticated"
        broker.stand_at(expires - 1)
        assert (await say(ws, type="subscribe", channel="orders"))["status"] == "subscribed"
        broker.stand_at(expires + 1)
        error = await heard(ws)
        assert (error["code"], error["details"]) == ("AUTH_FAILED", {"reason": "token_expired"})
        assert await closed_with(ws) == 3001


async def test_a_refreshed_token_keeps_the_connection() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        expires = time.time() + 10
        await say(ws, type="auth", token=token(exp=expires))
        await say(ws, type="auth", token=token(exp=expires + 60))
        broker.stand_at(expires + 1)
        await broker.gateway.tick()
        assert (await say(ws, type="subscribe", channel="orders"))["status"] == "subscribed"


async def test_heartbeats_come_and_silence_is_closed_with_its_code() -> None:
    quick = GatewayConfig(canton=Canton(JwtConfig(SECRET), heartbeat_interval_s=0.3, heartbeat_timeout_s=3.0))
    async with listening(quick, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws)
        ping = await heard(ws)
        assert list(ping) == ["type", "timestamp"]
        assert ping["type"] == "ping"
        messages = [ping]
        while messages[-1]["type"] != "error":
            messages.append(await heard(ws))
        assert (messages[-1]["code"], messages[-1]["details"]) == (
            "CONNECTION_CLOSED",
            {"reason": "no_heartbeat"},
        )


async def test_inactivity_is_closed_with_its_code() -> None:
    quick = GatewayConfig(canton=Canton(JwtConfig(SECRET), idle_timeout_s=2.0))
    async with listening(quick, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws)
        error = await heard(ws)
        assert (error["code"], error["details"]) == ("CONNECTION_CLOSED", {"reason": "inactivity"})


async def test_at_shutdown_every_client_is_told() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.websockets.close_all)
            assert (await heard(ws))["code"] == "CONNECTION_CLOSED"
            assert await closed_with(ws) == 1001


def price(number: int) -> str:
    return json.dumps({"type": "price_update", "symbol": "AAPL/USDC", "last_price": number})


def book(number: int) -> str:
    changes = {"bids": [{"price": number % 3, "quantity": number, "action": "update"}]}
    return json.dumps({"type": "orderbook_update", "symbol": "AAPL/USDC", "changes": changes})


async def test_aggregated_market_data_is_the_newest_price_and_the_merged_book_per_interval() -> None:
    async with (
        listening(CONFIG, ("canton",)) as broker,
        broker.connect(PATH) as ws,
        broker.connect(PATH) as all_of_it,
    ):
        await log_in(ws)
        await log_in(all_of_it)
        await say(ws, type="subscribe", channel="market_data", symbols=["AAPL/USDC"], aggregation="300ms")
        await say(all_of_it, type="subscribe", channel="market_data", symbols=["AAPL/USDC"])
        first = publish_market(broker, 0, 5)
        received = [await heard(ws), await heard(ws)]
        second = publish_market(broker, 5, 20)
        started = trio.current_time()
        received += [await heard(ws), await heard(ws)]
        assert trio.current_time() - started > 0.1
        prices = [message["last_price"] for message in received if message["type"] == "price_update"]
        books = [message["changes"] for message in received if message["type"] == "orderbook_update"]
        assert prices == [4, 19]
        assert books[1] == {
            "bids": [{"price": p, "quantity": q, "action": "update"} for p, q in ((2, 17), (0, 18), (1, 19))]
        }
        assert [await all_of_it.get_message() for _ in range(len(first + second))] == first + second


def publish_market(broker: Running, start: int, end: int) -> list[str]:
    texts = [text for number in range(start, end) for text in (price(number), book(number))]
    for text in texts:
        broker.publish("canton", "market_data/AAPL/USDC", text)
    return texts


@pytest.mark.parametrize("aggregation", [None, "1s"])
async def test_the_last_price_that_is_retained_greets_a_new_reader(aggregation: str | None) -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        broker.engine.publish(Publication(topic_of("canton", "market_data/A"), b"last", 0, True))
        await log_in(ws)
        request = {"channel": "market_data", "symbols": ["A"], "aggregation": aggregation}
        assert (await say(ws, type="subscribe", **request))["status"] == "subscribed"
        assert await ws.get_message() == "last"


async def test_an_aggregate_ends_with_its_last_reader() -> None:
    async with listening(CONFIG, ("canton",)) as broker, broker.connect(PATH) as ws:
        await log_in(ws)
        request = {"channel": "market_data", "symbols": ["A", "B"]}
        await say(ws, type="subscribe", aggregation="1s", **request)
        assert broker.engine.trie.count == 4
        await say(ws, type="unsubscribe", **request)
        assert broker.engine.trie.count == 0
        await say(ws, type="subscribe", aggregation="1s", **request)
        await ws.aclose()
        await broker.links_left(0)
        assert broker.engine.trie.count == 0


async def test_a_frozen_reader_of_market_data_gets_merged_books_and_nobody_is_delayed() -> None:
    config = GatewayConfig(canton=Canton(JwtConfig(SECRET)), outbox_bytes_max=2_000_000)
    async with listening(config, ("canton",)) as broker:
        slow = await broker.raw_websocket(PATH)
        await slow.send(masked(0x81, json.dumps({"type": "auth", "token": token()}).encode()))
        subscribe = {"type": "subscribe", "channel": "market_data", "symbols": ["AAPL/USDC"]}
        await slow.send(masked(0x81, json.dumps(subscribe).encode()))
        await slow.frame()
        await slow.frame()
        # Fill the kernel's buffers, so that what follows has to wait.
        padding = "x" * 60_000
        for number in range(200):
            broker.publish(
                "canton",
                "market_data/AAPL/USDC",
                json.dumps({"type": "price_update", "pad": padding, "n": number}),
            )
            await trio.lowlevel.checkpoint()
        for number in range(100):
            broker.publish("canton", "market_data/AAPL/USDC", book(number))
        broker.publish("canton", "market_data/AAPL/USDC", price(7))
        books: list[Any] = []
        prices: list[Any] = []
        skipped = 0
        with trio.fail_after(60):
            while not books or not prices:
                message = json.loads((await slow.frame())[1])
                if message["type"] == "messages_skipped":
                    skipped += message["skipped"]
                elif message["type"] == "orderbook_update":
                    books.append(message)
                elif "last_price" in message:
                    prices.append(message["last_price"])
        assert prices == [7]
        assert skipped > 0
        assert [level["quantity"] for level in books[0]["changes"]["bids"]] == [99, 97, 98]
