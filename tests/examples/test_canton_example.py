"""The CantonDEX example end to end: the document's rows are committed, the document's events arrive."""

from __future__ import annotations

import json

import jwt
import psycopg
import trio
import trio_websocket
from support.canton_examples import EXAMPLES
from support.dialects import exact
from support.examples import EXAMPLES as EXAMPLES_FOLDER
from support.examples import SECRET, Example, running_example

ACCOUNT = "acc_1234567890abcdef"
ORDER, TRADE, SETTLEMENT = "ord_1234567890abcdef", "trd_1234567890abcdef", "set_1234567890abcdef"

STATEMENTS = [
    f"""insert into canton.orders (order_id, account_id, symbol, side, quantity, price, updated_at) values
        ('{ORDER}', '{ACCOUNT}', 'AAPL/USDC', 'buy', 100, 150.50, '2024-11-17T16:30:00Z')""",
    f"""update canton.orders set status = 'partially_filled', filled = 50, average_fill_price = 150.48,
        updated_at = '2024-11-17T16:30:15Z' where order_id = '{ORDER}'""",
    f"""update canton.orders set status = 'filled', filled = 100, trade_id = '{TRADE}',
        updated_at = '2024-11-17T16:30:30Z' where order_id = '{ORDER}'""",
    f"""update canton.orders set status = 'cancelled', reason = 'user_requested',
        updated_at = '2024-11-17T16:31:00Z' where order_id = '{ORDER}'""",
    f"""insert into canton.trades (trade_id, account_id, order_id, symbol, side, quantity, price, commission,
        updated_at) values ('{TRADE}', '{ACCOUNT}', '{ORDER}', 'AAPL/USDC', 'buy', 50, 150.48, 7.52,
        '2024-11-17T16:30:30Z')""",
    f"""update canton.trades set status = 'cancelled', reason = 'settlement_failed',
        updated_at = '2024-11-17T16:35:00Z' where trade_id = '{TRADE}'""",
    """insert into canton.prices values ('AAPL/USDC', 150.45, 150.50, 150.48, '2024-11-17T16:30:45Z')""",
    """insert into canton.book_changes values (1, 'AAPL/USDC',
        '[{"price": 150.45, "quantity": 5000, "action": "update"},
          {"price": 150.40, "quantity": 0, "action": "delete"}]',
        '[{"price": 150.50, "quantity": 4500, "action": "update"}]', '2024-11-17T16:30:45Z')""",
    f"""insert into canton.settlements (settlement_id, account_id, trade_id, symbol, quantity, amount,
        settlement_date, updated_at) values ('{SETTLEMENT}', '{ACCOUNT}', '{TRADE}', 'AAPL/USDC', 50, 7524,
        '2024-11-19T00:00:00Z', '2024-11-17T16:30:30Z')""",
    f"""update canton.settlements set status = 'confirmed', dvp_transaction_id = 'dvp_tx_1234567890',
        updated_at = '2024-11-17T16:30:45Z' where settlement_id = '{SETTLEMENT}'""",
    f"""update canton.settlements set status = 'failed', reason = 'insufficient_funds',
        error_message = 'Insufficient cash balance for settlement',
        updated_at = '2024-11-17T16:35:00Z' where settlement_id = '{SETTLEMENT}'""",
    f"insert into canton.balances values ('{ACCOUNT}', 825000, 150000, '2024-11-17T16:30:30Z')",
    f"""insert into canton.margin_calls values (1, '{ACCOUNT}', 0.45, 0.5, 0.3,
        'Your margin level is below 50%. Please add funds or reduce positions.', '2024-11-17T16:35:00Z')""",
    f"""insert into canton.transfers values ('dep_1234567890abcdef', '{ACCOUNT}', 'deposit', 'USDC', 10000,
        '0xabcd1234...', '2024-11-17T16:20:00Z')""",
    f"""insert into canton.transfers values ('wth_1234567890abcdef', '{ACCOUNT}', 'withdrawal', 'USDC', 5000,
        '0xabcd1234...', '2024-11-17T16:25:00Z')""",
]

WRITTEN_AS_MESSAGES = {
    name: "compliance_events" if name.startswith("Compliance") else "system_health"
    for name in EXAMPLES
    if name.startswith(("Compliance", "System")) and name.endswith("Event")
}


async def subscribed(
    nursery: trio.Nursery, example: Example, account: str, channels: list[object]
) -> trio_websocket.WebSocketConnection:
    """A client that may read compliance events, too."""
    ws = await example.connect(nursery)
    claims = {"account_id": account, "roles": "compliance_officer"}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    await ws.send_message(json.dumps({"type": "auth", "token": token}))
    await ws.send_message(json.dumps({"type": "subscribe", "channels": channels}))
    for _ in range(1 + len(channels)):
        assert json.loads(await ws.get_message())["type"] in ("auth_response", "subscription_response")
    return ws


async def test_every_event_of_the_document_comes_from_its_row(database: str) -> None:
    channels: list[object] = [
        "orders",
        "trades",
        {"channel": "market_data", "symbols": ["AAPL/USDC"]},
        "settlements",
        "account_notifications",
        "compliance_events",
        "system_health",
    ]
    async with running_example("canton", "canton", database) as example, trio.open_nursery() as nursery:
        mine = await subscribed(nursery, example, ACCOUNT, channels)
        other = await subscribed(nursery, example, "acc_other", channels)
        for statement in STATEMENTS:
            example.database.execute(statement.encode())
        for number, (name, channel) in enumerate(WRITTEN_AS_MESSAGES.items()):
            example.database.execute(
                "insert into canton.announcements values (%s, %s, %s)", [number, channel, EXAMPLES[name]]
            )
        events = [name for name in EXAMPLES if name.endswith("Event")]
        with trio.fail_after(60):
            for name in events:
                assert exact(str(await mine.get_message())) == exact(EXAMPLES[name]), name
            # Nobody else sees what belongs to the account; what is for everybody came to both.
            for name in events:
                if name.startswith(("Market", "Compliance", "System")):
                    assert exact(str(await other.get_message())) == exact(EXAMPLES[name]), name
        await mine.aclose()
        await other.aclose()


async def test_equal_prices_and_long_books_of_one_transaction_all_come(database: str) -> None:
    """NOTIFY would fold the former, and refuse the latter with the exchange's own transaction."""
    async with running_example("canton", "canton", database) as example, trio.open_nursery() as nursery:
        channels: list[object] = [{"channel": "market_data", "symbols": ["AAPL/USDC"]}]
        ws = await subscribed(nursery, example, ACCOUNT, channels)
        levels = [{"price": 100 + number, "quantity": 1, "action": "update"} for number in range(500)]
        with example.database.transaction():
            example.database.execute("insert into canton.prices values ('AAPL/USDC', 100, 101, 100, now())")
            for price in (90, 100, 90):
                example.database.execute(f"update canton.prices set last_price = {price}".encode())
            example.database.execute(
                "insert into canton.book_changes values (1, 'AAPL/USDC', %s)", [json.dumps(levels)]
            )
        with trio.fail_after(60):
            told = [json.loads(str(await ws.get_message())) for _ in range(5)]
        assert [event["last_price"] for event in told[:4]] == [100, 90, 100, 90]
        assert len(told[4]["changes"]["bids"]) == 500
        await ws.aclose()


def test_rows_can_be_written_before_anything_is_installed(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((EXAMPLES_FOLDER / "canton.sql").read_bytes())
        for statement in STATEMENTS:
            connection.execute(statement.encode())
