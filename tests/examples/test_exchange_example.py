"""The exchange example end to end: rows to public and private channels, and the document's curl line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import jwt
import trio
import trio_websocket
from support.examples import SECRET, Example, running_example

ROOT = Path(__file__).parents[2]
KINDS = ("depth", "trades", "kline", "ticker", "markprice")
BALANCE = '{"event":"@balance","data":{"uid":1001,"balance":[{"currency":" BTC","available":100,"unavailable":100}]}}'
PRIVATE = ("balance", "order", "position", "account")


async def user(nursery: trio.Nursery, example: Example, uid: int) -> trio_websocket.WebSocketConnection:
    """A logged-in client of all private channels."""
    ws = await example.connect(nursery)
    token = jwt.encode({"uid": uid}, SECRET, algorithm="HS256")
    await ws.send_message(json.dumps({"op": "auth", "token": token}))
    for kind in PRIVATE:
        await ws.send_message(json.dumps({"op": "subscribe", "channel": f"@{kind}"}))
    for _ in range(1 + len(PRIVATE)):
        assert await ws.get_message() == '{"result":true}'
    return ws


def test_the_example_says_all_of_it_in_few_lines() -> None:
    texts = [(ROOT / "examples" / f"exchange.{kind}").read_text() for kind in ("toml", "sql")]
    assert sum(text.count("\n") for text in texts) < 150


async def test_every_public_channel_is_calculated_and_greets_a_newcomer(database: str) -> None:
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        example.database.execute(
            "insert into exchange.levels values ('BTCUSDT', 'bid', 42000.50, 2), ('BTCUSDT', 'ask', 42001.00, 1)"
        )
        example.database.execute("insert into exchange.products values ('BTCUSDT', 42000.7, 0.0001)")
        market = example.broker.app.market
        assert market is not None
        engine = await trio.open_tcp_stream("127.0.0.1", market.ports["trades"][0])
        row = {
            "id": 1,
            "symbol": "BTCUSDT",
            "side": "buy",
            "price": "42000.50",
            "size": "0.010",
            "taker_order_id": 7,
        }
        await engine.send_all(json.dumps(row | {"ts": "2024-05-05T00:00:00+00:00"}).encode() + b"\n")
        ws = await example.connect(nursery)
        for kind in KINDS:
            await ws.send_message(json.dumps({"op": "subscribe", "channel": f"BTCUSDT@{kind}"}))
        found = await events(ws, {f"BTCUSDT@{kind}" for kind in KINDS})
        assert found["BTCUSDT@depth"]["bids"] == [["42000.50", "2"]]
        assert found["BTCUSDT@trades"][0]["size"] == "0.010"
        assert found["BTCUSDT@kline"]["turnover"] == "420.00500"
        assert found["BTCUSDT@ticker"]["last"] == "42000.50"
        assert (found["BTCUSDT@markprice"]["mark"], found["BTCUSDT@markprice"]["stale"]) == (
            "42000.75",
            False,
        )
        newcomer = await example.connect(nursery)
        await newcomer.send_message('{"op":"subscribe","channel":"BTCUSDT@trades"}')
        assert (await events(newcomer, {"BTCUSDT@trades"}))["BTCUSDT@trades"][0]["id"] == 1
        await ws.aclose()
        await newcomer.aclose()


async def events(ws: trio_websocket.WebSocketConnection, channels: set[str]) -> dict[str, Any]:
    """The first message of each of these channels."""
    found: dict[str, Any] = {}
    with trio.fail_after(60):
        while found.keys() != channels:
            message = json.loads(await ws.get_message())
            if "event" in message:
                found.setdefault(message["event"], message["data"])
    return found


async def test_private_rows_reach_their_user_alone(database: str) -> None:
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        ann, bob = await user(nursery, example, 1001), await user(nursery, example, 1002)
        for uid in (1002, 1001):
            example.database.execute(
                f"insert into exchange.balances values ({uid}, 'BTC', 100, 100)".encode()
            )
            example.database.execute(f"insert into exchange.accounts values ({uid}, 1, 0.1, 0.2)".encode())
        with trio.fail_after(60):
            for uid, ws in ((1001, ann), (1002, bob)):
                balance, account = json.loads(await ws.get_message()), json.loads(await ws.get_message())
                assert balance == {
                    "event": "@balance",
                    "data": {
                        "uid": uid,
                        "balance": [{"currency": "BTC", "available": 100, "unavailable": 100}],
                    },
                }
                assert (account["event"], account["data"]["uid"]) == ("@account", uid)
        await ann.aclose()
        await bob.aclose()


async def test_the_documents_curl_line_works_unchanged_but_for_the_port(database: str) -> None:
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        ws = await user(nursery, example, 1001)
        escaped = BALANCE.replace('"', '\\"')
        command = (
            f"curl --request POST 'http://127.0.0.1:{example.broker.app.admin_port}/v1/mesh/publish' \\\n"
            "--header 'Content-Type: application/json' \\\n"
            '--data-raw \'{\n     "c": "ex:1001@balance",\n     "d": "' + escaped + "\"\n}'"
        )
        done = await trio.run_process(["sh", "-c", command], capture_stdout=True, stderr=subprocess.DEVNULL)
        assert json.loads(done.stdout) == {"result": True, "published": 1}
        with trio.fail_after(60):
            assert await ws.get_message() == BALANCE
        await ws.aclose()


async def test_a_balance_that_returns_to_what_it_was_is_told_each_time(database: str) -> None:
    """NOTIFY would fold 100, 90, 100 of one transaction, and show 90 for ever; and a long row would abort it."""
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        ann = await user(nursery, example, 1001)
        with example.database.transaction():
            example.database.execute("insert into exchange.balances values (1001, 'BTC', 100, 0)")
            for amount in (90, 100, 90, 100):
                example.database.execute(f"update exchange.balances set available = {amount}".encode())
            status = "x" * 20_000
            example.database.execute(
                f"insert into exchange.orders values (1, 1001, 'BTCUSDT', 'buy', 1, 1, 0, '{status}')".encode()
            )
        with trio.fail_after(60):
            told = [json.loads(await ann.get_message())["data"] for _ in range(6)]
        assert [event["balance"][0]["available"] for event in told[:5]] == [100, 90, 100, 90, 100]
        assert told[5]["status"] == status
        await ann.aclose()
