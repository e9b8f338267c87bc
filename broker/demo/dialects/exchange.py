"""The simulated users of the exchange example: they place orders that are filled, and their balances change.

No two messages are the same text: each holds a number that only grows, so that one that comes twice is seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from broker.demo.dialects.acts import ENGINE, Act, Statement, Watcher
from protocol.dialects.exchange import PRIVATE_KINDS, event

SYMBOLS: Final = {"BTCUSDT": Decimal("42000.00"), "ETHUSDT": Decimal("2300.00")}
UIDS: Final = (1001, 1002, 1003)

LEVEL: Final = """insert into exchange.levels as t values (%(symbol)s, %(side)s, %(price)s, %(size)s)
    on conflict (symbol, side, price) do update set size = excluded.size returning row_to_json(t)::text"""
CROSSED: Final = """delete from exchange.levels as t where symbol = %(symbol)s
    and (side = 'bid' and price >= %(ask)s or side = 'ask' and price <= %(bid)s) returning row_to_json(t)::text"""
FAR: Final = """delete from exchange.levels as t where symbol = %(symbol)s and abs(price - %(price)s) > %(far)s
    returning row_to_json(t)::text"""
TRADE: Final = """insert into exchange.trades as t
    values (%(id)s, %(symbol)s, %(side)s, %(price)s, %(size)s, %(taker)s)
    returning row_to_json(t)::text"""
PRODUCT: Final = """insert into exchange.products as t values (%(symbol)s, %(price)s, 0.0001)
    on conflict (symbol) do update set index_price = excluded.index_price returning row_to_json(t)::text"""
ORDER: Final = """insert into exchange.orders as t (order_id, uid, symbol, side, price, size)
    values (%(id)s, %(uid)s, %(symbol)s, %(side)s, %(price)s, %(size)s) returning row_to_json(t)::text"""
FILL: Final = """update exchange.orders as t set filled = size, status = 'filled' where order_id = %(id)s
    returning row_to_json(t)::text"""
BALANCE: Final = """insert into exchange.balances as t values (%(uid)s, %(currency)s, %(amount)s, 0)
    on conflict (uid, currency) do update set available = t.available + excluded.available
    returning (select row_to_json(b)::text from (select t.uid, t.balance) as b)"""
POSITION: Final = """insert into exchange.positions as t values (%(uid)s, %(symbol)s, %(size)s, %(price)s)
    on conflict (uid, symbol) do update set size = t.size + excluded.size, entry_price = excluded.entry_price
    returning row_to_json(t)::text"""
ACCOUNT: Final = """insert into exchange.accounts as t values (%(uid)s, %(level)s, 0.0002, 0.0005)
    on conflict (uid) do update set level = excluded.level returning row_to_json(t)::text"""

FAR_SHARE: Final = Decimal("0.002")
"""Levels farther from the price than this share of it are taken away."""


class ExchangeScenario:
    """Three users who trade two symbols; what is public is watched by `broker.demo.dialects.market`."""

    watchers: tuple[Watcher, ...] = (
        *(
            Watcher(str(uid), {"uid": uid}, frozenset(f"{uid}@{kind}" for kind in PRIVATE_KINDS))
            for uid in UIDS
        ),
    )

    def greetings(self, watcher: Watcher, token: str) -> list[str]:
        """What a client sends to log in, where it does, and to subscribe what it watches."""
        login = [json.dumps({"op": "auth", "token": token})] if watcher.claims else []
        names = sorted(watcher.channels)
        if watcher.claims:
            names = [f"@{name.partition('@')[2]}" for name in names]
        return login + [json.dumps({"op": "subscribe", "channel": name}) for name in names]

    def text(self, channel: str, returned: str) -> str:
        """What clients see of a message: the row's text in the exchange's envelope."""
        return event(channel, returned.encode()).decode()

    def acts(self, seed: int) -> Iterator[Act]:
        """Trades, orders and balances, without end; the same for the same seed."""
        chance = random.Random(seed)
        prices = dict(SYMBOLS)
        number = 0
        while True:
            number += 1
            symbol = chance.choice(list(SYMBOLS))
            step = Decimal(chance.randint(-50, 50)) / 100
            prices[symbol] = max(Decimal(1), prices[symbol] + step)
            if chance.random() < 0.4:
                yield _quote(symbol, prices[symbol], chance)
            elif chance.random() < 0.05:
                uid = chance.choice(UIDS)
                yield (Statement(ACCOUNT, {"uid": uid, "level": number}, f"{uid}@account"),)
            else:
                yield _trade(symbol, prices[symbol], number, chance)


def _quote(symbol: str, price: Decimal, chance: random.Random) -> Act:
    """Some levels around the price; those that it has passed, or left far behind, go."""
    act = [
        Statement(CROSSED, {"symbol": symbol, "bid": price, "ask": price}, ENGINE),
        Statement(FAR, {"symbol": symbol, "price": price, "far": price * FAR_SHARE}, ENGINE),
    ]
    for side, sign in (("bid", -1), ("ask", 1)):
        for _ in range(chance.randint(1, 6)):
            level = price + sign * Decimal(min(chance.randint(1, 400), chance.randint(1, 400))) / 100
            size = Decimal(chance.randint(1, 5000)).scaleb(-3)
            act.append(
                Statement(LEVEL, {"symbol": symbol, "side": side, "price": level, "size": size}, ENGINE)
            )
    index = price + Decimal(chance.randint(-30, 30)) / 100
    return (*act, Statement(PRODUCT, {"symbol": symbol, "price": index}, ENGINE))


def _trade(symbol: str, price: Decimal, number: int, chance: random.Random) -> Act:
    uid = chance.choice(UIDS)
    size = Decimal(chance.randint(1, 100)) / 1000
    # Each position's price has digits of its own, so that no two messages are alike.
    order = {"id": number, "uid": uid, "symbol": symbol, "size": size, "currency": symbol[:3], "amount": size}
    order |= {"price": price + Decimal(number) / 10**9, "side": chance.choice(["buy", "sell"])}
    fills = chance.randint(1, 3)
    trades = []
    for fill in range(fills):
        share = size / fills if fill else size - size / fills * (fills - 1)
        values = order | {"id": 4 * number + fill, "price": price, "size": round(share, 6), "taker": number}
        trades.append(Statement(TRADE, values, ENGINE))
    return (
        Statement(ORDER, order, f"{uid}@order"),
        *trades,
        Statement(FILL, order, f"{uid}@order"),
        Statement(BALANCE, order, f"{uid}@balance"),
        Statement(POSITION, order, f"{uid}@position"),
    )
