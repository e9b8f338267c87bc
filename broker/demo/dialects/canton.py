"""The simulated accounts of the CantonDEX example: orders, trades, settlements, prices, notifications.

No two messages are the same text: each holds a number that only grows, so that one that comes twice is seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from broker.demo.dialects.acts import Act, Statement, Watcher

SYMBOLS: Final = ("AAPL/USDC", "GOOGL/USDC")
ACCOUNTS: Final = ("acc_1000000000000001", "acc_1000000000000002")
ACCOUNT_CHANNELS: Final = ("orders", "trades", "settlements", "account_notifications")

ORDER: Final = """insert into canton.orders as t (order_id, account_id, symbol, side, quantity, price)
    values (%(order)s, %(account)s, %(symbol)s, 'buy', %(quantity)s, %(price)s)
    returning canton.order_event(t)::text"""
ORDER_FILLED: Final = """update canton.orders as t set status = 'filled', filled = quantity,
    average_fill_price = price, trade_id = %(trade)s where order_id = %(order)s
    returning canton.order_event(t)::text"""
ORDER_CANCELLED: Final = """update canton.orders as t set status = 'cancelled', reason = 'user_requested'
    where order_id = %(order)s returning canton.order_event(t)::text"""
TRADE: Final = """insert into canton.trades as t
    (trade_id, account_id, order_id, symbol, side, quantity, price, commission)
    values (%(trade)s, %(account)s, %(order)s, %(symbol)s, 'buy', %(quantity)s, %(price)s, 7.52)
    returning canton.trade_event(t)::text"""
SETTLEMENT: Final = """insert into canton.settlements as t
    (settlement_id, account_id, trade_id, symbol, quantity, amount, settlement_date)
    values (%(settlement)s, %(account)s, %(trade)s, %(symbol)s, %(quantity)s, %(price)s, now() + interval '2 days')
    returning canton.settlement_event(t)::text"""
SETTLED: Final = """update canton.settlements as t set status = 'confirmed', dvp_transaction_id = %(settlement)s
    where settlement_id = %(settlement)s returning canton.settlement_event(t)::text"""
BALANCE: Final = """insert into canton.balances as t values (%(account)s, %(number)s, 0)
    on conflict (account_id) do update set available_balance = excluded.available_balance
    returning canton.balance_event(t)::text"""
PRICE: Final = """insert into canton.prices as t values (%(symbol)s, %(price)s - 0.05, %(price)s + 0.05, %(price)s)
    on conflict (symbol) do update set bid = excluded.bid, ask = excluded.ask, last_price = excluded.last_price,
        updated_at = excluded.updated_at
    returning canton.price_event(t)::text"""
BOOK: Final = """insert into canton.book_changes as t values (%(number)s, %(symbol)s, %(bids)s)
    returning canton.book_event(t)::text"""
ANNOUNCEMENT: Final = """insert into canton.announcements as t values (%(number)s, %(channel)s, %(message)s)
    returning message::text"""


class CantonScenario:
    """Two accounts that trade two symbols, and a compliance officer."""

    watchers: tuple[Watcher, ...] = (
        *(
            Watcher(
                account[-4:],
                {"account_id": account},
                frozenset(
                    [f"{channel}/{account}" for channel in ACCOUNT_CHANNELS]
                    + [f"market_data/{symbol}" for symbol in SYMBOLS]
                ),
            )
            for account in ACCOUNTS
        ),
        Watcher(
            "officer",
            {"account_id": "acc_officer", "roles": "compliance_officer"},
            frozenset(["compliance_events", "system_health"]),
        ),
    )

    def greetings(self, watcher: Watcher, token: str) -> list[str]:
        """What a client sends to be logged in and to subscribe what it watches."""
        kinds = sorted({name.partition("/")[0] for name in watcher.channels})
        symbols = sorted(
            name.partition("/")[2] for name in watcher.channels if name.startswith("market_data/")
        )
        requests = [
            {"channel": kind, "symbols": symbols} if kind == "market_data" else {"channel": kind}
            for kind in kinds
        ]
        return [
            json.dumps({"type": "auth", "token": token}),
            *(json.dumps({"type": "subscribe", **request}) for request in requests),
        ]

    def text(self, channel: str, returned: str) -> str:
        """What clients see of a message: CantonDEX's are the row's own text."""
        return returned

    def acts(self, seed: int) -> Iterator[Act]:
        """Orders, trades and transfers of one company, without end; the same for the same seed."""
        chance = random.Random(seed)
        price = Decimal("150.00")
        number = 0
        while True:
            number += 1
            price = max(Decimal(1), price + Decimal(chance.randint(-20, 20)) / 100)
            choice = chance.random()
            if choice < 0.5:
                yield _quote(chance.choice(SYMBOLS), price, number)
            elif choice < 0.95:
                account, symbol = chance.choice(ACCOUNTS), chance.choice(SYMBOLS)
                yield _order(account, symbol, price, number, is_filled=chance.random() < 0.8)
            else:
                yield _announcement(number)


def _quote(symbol: str, price: Decimal, number: int) -> Act:
    level = {"price": float(price), "quantity": number, "action": "update"}
    values = {"symbol": symbol, "price": price + Decimal(number) / 10**9, "number": number}
    values["bids"] = json.dumps([level])
    channel = f"market_data/{symbol}"
    return (Statement(PRICE, values, channel), Statement(BOOK, values, channel))


def _order(account: str, symbol: str, price: Decimal, number: int, is_filled: bool) -> Act:
    values = {"account": account, "symbol": symbol, "price": price, "quantity": 50, "number": number}
    values |= {name: f"{name[:3]}_{number:016x}" for name in ("order", "trade", "settlement")}
    placed = Statement(ORDER, values, f"orders/{account}")
    if not is_filled:
        return (placed, Statement(ORDER_CANCELLED, values, f"orders/{account}"))
    return (
        placed,
        Statement(ORDER_FILLED, values, f"orders/{account}"),
        Statement(TRADE, values, f"trades/{account}"),
        Statement(SETTLEMENT, values, f"settlements/{account}"),
        Statement(SETTLED, values, f"settlements/{account}"),
        Statement(BALANCE, values, f"account_notifications/{account}"),
    )


def _announcement(number: int) -> Act:
    if number % 2:
        message = {"type": "large_transaction_alert", "alert_id": f"alr_{number:016x}", "amount": 5_000_000}
        channel = "compliance_events"
    else:
        message = {"type": "system_status", "status": "operational", "sequence": number}
        channel = "system_health"
    values = {"number": number, "channel": channel, "message": json.dumps(message)}
    return (Statement(ANNOUNCEMENT, values, channel),)
