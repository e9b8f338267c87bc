"""The exchange example end to end: rows to public and private channels, and the document's curl line."""

from __future__ import annotations

import json
import subprocess

import jwt
import trio
import trio_websocket
from support.examples import SECRET, Example, running_example

STATEMENTS = [
    "insert into exchange.depth values ('BTCUSDT', '[[\"42000.5\", 2]]', '[]')",
    "insert into exchange.trades values (1, 'BTCUSDT', 'buy', 42000.50, 0.001)",
    "insert into exchange.kline values ('BTCUSDT', '1m', 1700000040, 1, 2, 0.5, 1.50, 10)",
]
EVENTS = [
    '{"event":"BTCUSDT@depth","data":{"symbol":"BTCUSDT","bids":[["42000.5", 2]],"asks":[]}}',
    '{"event":"BTCUSDT@trades","data":{"trade_id":1,"symbol":"BTCUSDT","side":"buy","price":42000.50,"size":0.001}}',
    '{"event":"BTCUSDT@kline","data":{"symbol":"BTCUSDT","interval":"1m","opened_at":1700000040,'
    '"open":1,"high":2,"low":0.5,"close":1.50,"volume":10}}',
]
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


async def test_public_rows_reach_everybody_and_the_last_ticker_a_newcomer(database: str):
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        example.database.execute("insert into exchange.ticker values ('BTCUSDT', 1, 3, 1, 2.50, 100, 200)")
        ws = await example.connect(nursery)
        for kind in ("depth", "trades", "kline"):
            await ws.send_message(json.dumps({"op": "subscribe", "channel": f"BTCUSDT@{kind}"}))
            assert await ws.get_message() == '{"result":true}'
        for statement in STATEMENTS:
            example.database.execute(statement.encode())
        with trio.fail_after(10):
            assert [await ws.get_message() for _ in EVENTS] == EVENTS
            await ws.send_message('{"op":"subscribe","channel":"BTCUSDT@ticker"}')
            assert await ws.get_message() == '{"result":true}'
            ticker = json.loads(await ws.get_message())
        assert ticker["event"] == "BTCUSDT@ticker"
        assert ticker["data"]["last"] == 2.5
        await ws.aclose()


async def test_private_rows_reach_their_user_alone(database: str):
    async with running_example("exchange", "exchange", database) as example, trio.open_nursery() as nursery:
        ann, bob = await user(nursery, example, 1001), await user(nursery, example, 1002)
        for uid in (1002, 1001):
            example.database.execute(
                f"insert into exchange.balances values ({uid}, 'BTC', 100, 100)".encode()
            )
            example.database.execute(f"insert into exchange.accounts values ({uid}, 1, 0.1, 0.2)".encode())
        with trio.fail_after(10):
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


async def test_the_documents_curl_line_works_unchanged_but_for_the_port(database: str):
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
        with trio.fail_after(10):
            assert await ws.get_message() == BALANCE
        await ws.aclose()
