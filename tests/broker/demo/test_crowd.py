"""Traders who keep an exchange busy: the same seed gives the same acts, and books neither dry up nor overflow."""

from __future__ import annotations

from datetime import datetime

import pytest

from broker.demo.changes import Transaction
from broker.demo.crowd import FAMOUS, MARKETS, RESTING_MAX, Crowd


def played(seed: int, count: int) -> tuple[Crowd, list[Transaction]]:
    crowd = Crowd(seed)
    return crowd, [*crowd.open_markets(), *(crowd.next() for _ in range(count))]


def said(transactions: list[Transaction]) -> list[object]:
    """All but the moments, which are the clock's."""
    return [
        (
            change.table,
            {name: value for name, value in change.columns.items() if not isinstance(value, datetime)},
        )
        for txn in transactions
        for change in txn.changes
    ]


def test_the_same_seed_gives_the_same_acts_and_another_gives_others() -> None:
    _, one = played(7, 300)
    _, again = played(7, 300)
    _, other = played(8, 300)
    assert said(one) == said(again) != said(other)


def test_every_market_is_opened_first() -> None:
    crowd = Crowd(0)
    opened = crowd.open_markets()
    assert len(opened) == len(crowd.exchange.markets) == len(MARKETS)
    assert all(txn.changes for txn in opened)


@pytest.mark.parametrize("seed", range(3))
def test_books_are_neither_empty_nor_endless(seed: int) -> None:
    crowd, transactions = played(seed, 2000)
    for market in crowd.exchange.markets.values():
        assert market.asks
        assert market.bids
        assert max(len(market.asks), len(market.bids)) <= RESTING_MAX + 1
        assert all(order.price >= 1 for order in (*market.asks, *market.bids))
    assert all(txn.changes for txn in transactions), "an act that changes nothing announces nothing"


def test_a_trader_with_a_short_name_takes_part() -> None:
    crowd, _ = played(1, 1000)
    orders = [order for market in crowd.exchange.markets.values() for order in (*market.asks, *market.bids)]
    assert any(order.trader.address == FAMOUS for order in orders)
