"""The simulated users of the exchange example: they place orders that are filled, and their balances change.

No two messages are the same text: each holds a number that only grows, so that one that comes twice is seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from broker.demo.dialects.acts import Act, Statement, Watcher
from protocol.dialects.exchange import PRIVATE_KINDS, PUBLIC_KINDS, event

SYMBOLS: Final = {"BTCUSDT": Decimal("42000.00"), "ETHUSDT": Decimal("2300.00")}
UIDS: Final = (1001, 1002, 1003)

DEPTH: Final = """insert into exchange.depth as t values (%(symbol)s, %(bids)s, %(asks)s)
    on conflict (symbol) do update set bids = excluded.bids, asks = excluded.asks
    returning row_to_json(t)::text"""
TRADE: Final = """insert into exchange.trades as t values (%(id)s, %(symbol)s, %(side)s, %(price)s, %(size)s)
    returning row_to_json(t)::text"""
MARKPRICE: Final = """insert into exchange.markprice as t
    values (%(symbol)s, %(price)s, %(index)s, %(price)s, 0.0001)
    on conflict (symbol) do update set mark_price = excluded.mark_price, index_price = excluded.index_price
    returning row_to_json(t)::text"""
TICKER: Final = """insert into exchange.ticker as t
    values (%(symbol)s, %(price)s, %(price)s, %(price)s, %(price)s, %(size)s, 0)
    on conflict (symbol) do update set high = greatest(t.high, excluded.last), last = excluded.last,
        low = least(t.low, excluded.last), volume = t.volume + excluded.volume
    returning row_to_json(t)::text"""
KLINE: Final = """insert into exchange.kline as t
    values (%(symbol)s, '1m', %(opened_at)s, %(price)s, %(price)s, %(price)s, %(price)s, %(size)s)
    on conflict (symbol, interval, opened_at) do update set high = greatest(t.high, excluded.close),
        low = least(t.low, excluded.close), close = excluded.close, volume = t.volume + excluded.volume
    returning row_to_json(t)::text"""
ORDER: Final = """insert into exchange.orders as t (order_id, uid, symbol, side, price, size)
    values (%(id)s, %(uid)s, %(symbol)s, %(side)s, %(price)s, %(size)s) returning row_to_json(t)::text"""
FILL: Final = """update exchange.orders as t set filled = size, status = 'filled' where order_id = %(id)s
    returning row_to_json(t)::text"""
BALANCE: Final = """insert into exchange.balances as t values (%(uid)s, %(currency)s, %(amount)s, 0)
    on conflict (uid, currency) do update set available = t.available + excluded.available
    returning exchange.balance_event(t)"""
POSITION: Final = """insert into exchange.positions as t values (%(uid)s, %(symbol)s, %(size)s, %(price)s)
    on conflict (uid, symbol) do update set size = t.size + excluded.size, entry_price = excluded.entry_price
    returning row_to_json(t)::text"""
ACCOUNT: Final = """insert into exchange.accounts as t values (%(uid)s, %(level)s, 0.0002, 0.0005)
    on conflict (uid) do update set level = excluded.level returning row_to_json(t)::text"""

ACTS_PER_MINUTE: Final = 600
"""How fast the candles' clock runs: by acts, not by the wall."""


class ExchangeScenario:
    """Three users who trade two symbols, and somebody who only watches."""

    watchers: tuple[Watcher, ...] = (
        Watcher("public", {}, frozenset(f"{symbol}@{kind}" for symbol in SYMBOLS for kind in PUBLIC_KINDS)),
        *(
            Watcher(str(uid), {"uid": uid}, frozenset(f"{uid}@{kind}" for kind in PRIVATE_KINDS))
            for uid in UIDS
        ),
    )

    def greetings(self, watcher: Watcher, token: str) -> list[str]:
        login = [json.dumps({"op": "auth", "token": token})] if watcher.claims else []
        names = sorted(watcher.channels)
        if watcher.claims:
            names = [f"@{name.partition('@')[2]}" for name in names]
        return login + [json.dumps({"op": "subscribe", "channel": name}) for name in names]

    def text(self, channel: str, returned: str) -> str:
        return event(channel, returned.encode()).decode()

    def acts(self, seed: int) -> Iterator[Act]:
        chance = random.Random(seed)
        prices = dict(SYMBOLS)
        number = 0
        while True:
            number += 1
            symbol = chance.choice(list(SYMBOLS))
            # Every price has its own last digits, so that no two messages are alike.
            step = Decimal(chance.randint(-50, 50)) / 100
            prices[symbol] = max(Decimal(1), round(prices[symbol] + step, 2))
            price = prices[symbol] + Decimal(number) / 10**9
            if chance.random() < 0.3:
                yield _quote(symbol, price, number)
            elif chance.random() < 0.05:
                uid = chance.choice(UIDS)
                yield (Statement(ACCOUNT, {"uid": uid, "level": number}, f"{uid}@account"),)
            else:
                yield _trade(symbol, price, number, chance)


def _quote(symbol: str, price: Decimal, number: int) -> Act:
    levels = {"bids": json.dumps([[str(price - 1), number]]), "asks": json.dumps([[str(price + 1), number]])}
    return (
        Statement(DEPTH, {"symbol": symbol, **levels}, f"{symbol}@depth"),
        Statement(MARKPRICE, {"symbol": symbol, "price": price, "index": price - 1}, f"{symbol}@markprice"),
    )


def _trade(symbol: str, price: Decimal, number: int, chance: random.Random) -> Act:
    uid = chance.choice(UIDS)
    size = Decimal(chance.randint(1, 100)) / 1000
    order = {"id": number, "uid": uid, "symbol": symbol, "price": price, "size": size, "currency": symbol[:3]}
    order |= {
        "side": chance.choice(["buy", "sell"]),
        "amount": size,
        "opened_at": number // ACTS_PER_MINUTE * 60,
    }
    return (
        Statement(ORDER, order, f"{uid}@order"),
        Statement(TRADE, order, f"{symbol}@trades"),
        Statement(FILL, order, f"{uid}@order"),
        Statement(BALANCE, order, f"{uid}@balance"),
        Statement(POSITION, order, f"{uid}@position"),
        Statement(TICKER, order, f"{symbol}@ticker"),
        Statement(KLINE, order, f"{symbol}@kline"),
    )
