"""Traders who keep the demo exchange busy.

Invariant: everything random comes from one seeded source, so the same seed gives the same acts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from broker.demo.changes import Transaction
from broker.demo.exchange import NOBODY, U64_MAX, Exchange, Market, Order, Trader

MARKETS: Final = (("APT", False), ("BTC", False), ("ETH-PERP", True), ('"Zürich" gold 🪙 oz', True))
RESTING_MAX: Final = 60
"""Orders on one side of a book; above it somebody cancels."""
START_PRICE: Final = 10_000
FAMOUS: Final = "0xc0deface"
"""A trader whose topics are short enough to type."""


class Crowd:
    """What the traders do next, one transaction at a time."""

    def __init__(self, seed: int) -> None:
        self.exchange = Exchange()
        self._random = random.Random(seed)
        addresses = [FAMOUS, *(f"0x{self._random.getrandbits(256):x}" for _ in range(7))]
        self._traders = [Trader(address, custodian) for address in addresses for custodian in (0, 1)]
        self._integrators = (NOBODY, "0xdecade", f"0x{self._random.getrandbits(256):x}")
        self._prices: dict[int, int] = {}

    def open_markets(self) -> list[Transaction]:
        """The first acts: every market is registered and recognised, in a transaction each."""
        opened = []
        for name, is_generic in MARKETS:
            txn = self.exchange.begin()
            market = self.exchange.register(txn, name, is_generic)
            self.exchange.recognize(txn, market)
            self._prices[market.market_id] = START_PRICE
            opened.append(txn)
        return opened

    def next(self) -> Transaction:
        """One act of one trader on one market."""
        market = self._random.choice(list(self.exchange.markets.values()))
        self._prices[market.market_id] += self._random.choice((-1, 0, 0, 1))
        txn = self.exchange.begin()
        self._choose_act(market)(txn, market)
        return txn

    def _choose_act(self, market: Market) -> Callable[[Transaction, Market], None]:
        acts = [self._place_limit, self._cancel, self._change_size, self._place_market, self._place_swap]
        fewest = min(len(market.asks), len(market.bids))
        if fewest < 5:
            return self._place_limit
        if max(len(market.asks), len(market.bids)) > RESTING_MAX:
            return self._cancel
        if self._random.random() < 0.004:
            return self.exchange.recognize
        return self._random.choices(acts, weights=(50, 18, 12, 12, 8))[0]

    def _place_limit(self, txn: Transaction, market: Market) -> None:
        order = self._order(txn, market, "limit", self._random.choice(self._traders))
        away = self._random.randint(-4, 40)
        price = self._prices[market.market_id] + (away if order.is_ask else -away)
        order.price = max(1, price)
        self.exchange.place_limit(txn, market, order)

    def _place_market(self, txn: Transaction, market: Market) -> None:
        order = self._order(txn, market, "market", self._random.choice(self._traders))
        self.exchange.place_market(txn, market, order)

    def _place_swap(self, txn: Transaction, market: Market) -> None:
        signed = self._random.random() < 0.6
        trader = Trader(self._random.choice(self._traders).address) if signed else Trader(NOBODY)
        order = self._order(txn, market, "swap", trader)
        order.price = self._prices[market.market_id] + (-50 if order.is_ask else 50)
        self.exchange.place_swap(txn, market, order)

    def _change_size(self, txn: Transaction, market: Market) -> None:
        order = self._resting(market)
        size = self._random.randint(1, 500)
        self.exchange.change_size(txn, market, order, size + (size == order.remaining))

    def _cancel(self, txn: Transaction, market: Market) -> None:
        self.exchange.cancel(txn, market, self._resting(market))

    def _resting(self, market: Market) -> Order:
        return self._random.choice(max(market.asks, market.bids, key=len))

    def _order(self, txn: Transaction, market: Market, kind: str, trader: Trader) -> Order:
        is_ask = self._random.random() < 0.5
        return Order(
            kind=kind,
            order_id=market.next_order_id(self._random.getrandbits(64)),
            trader=trader,
            integrator=self._random.choice(self._integrators),
            is_ask=is_ask,
            price=0 if is_ask else U64_MAX,  # any price, unless the caller sets another
            remaining=self._random.randint(1, 500),
            placed_at=txn.time,
        )
