from datetime import UTC, datetime

import pytest

from broker.demo.changes import Columns, Transaction
from broker.demo.crowd import Crowd
from broker.demo.exchange import CANCEL_SELF_MATCH_MAKER, NOBODY, U64_MAX, Exchange, Market, Order, Trader

ALICE, BOB = Trader("0xa11ce"), Trader("0xb0b", 1)


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


@pytest.fixture
def market(exchange: Exchange) -> Market:
    return exchange.register(exchange.begin(), "APT", is_generic=False)


def order(market: Market, trader: Trader, *, ask: bool, price: int, size: int, kind: str = "limit") -> Order:
    order_id = market.next_order_id(key=7)
    return Order(kind, order_id, trader, NOBODY, ask, price, size, datetime.now(UTC))


def rows(txn: Transaction, table: str) -> list[Columns]:
    return [change.columns for change in txn.changes if change.table == table]


def test_order_ids_have_39_digits_and_hold_counter_and_key(market: Market) -> None:
    first, second = market.next_order_id(5), market.next_order_id(5)
    assert len(str(first)) == len(str(second)) == 39
    assert (first & U64_MAX, (second >> 64) - (first >> 64)) == (5, 1)


def test_best_price_fills_first_and_then_age(exchange: Exchange, market: Market) -> None:
    old = order(market, ALICE, ask=True, price=101, size=5)
    young = order(market, ALICE, ask=True, price=101, size=5)
    best = order(market, ALICE, ask=True, price=100, size=5)
    for resting in (old, young, best):
        exchange.place_limit(exchange.begin(), market, resting)
    txn = exchange.begin()
    exchange.place_limit(txn, market, order(market, BOB, ask=False, price=101, size=12))
    makers = [row["maker_order_id"] for row in rows(txn, "fill_events")[::2]]
    assert makers == [best.order_id, old.order_id, young.order_id]
    assert young.remaining == 3
    assert not market.bids


def test_fill_has_a_copy_for_each_party_that_differ_only_in_number_and_emitter(
    exchange: Exchange, market: Market
) -> None:
    exchange.place_limit(exchange.begin(), market, order(market, ALICE, ask=True, price=100, size=5))
    txn = exchange.begin()
    exchange.place_limit(txn, market, order(market, BOB, ask=False, price=100, size=5))
    maker, taker = (dict(row) for row in rows(txn, "fill_events"))
    assert (maker.pop("emit_address"), taker.pop("emit_address")) == ("0xa11ce", "0xb0b")
    assert maker.pop("event_idx") != taker.pop("event_idx")
    assert maker == taker


def test_swap_that_nobody_signed_leaves_one_copy_of_each_fill(exchange: Exchange, market: Market) -> None:
    exchange.place_limit(exchange.begin(), market, order(market, ALICE, ask=False, price=100, size=5))
    txn = exchange.begin()
    swap = order(market, Trader(NOBODY), ask=True, price=0, size=5, kind="swap")
    exchange.place_swap(txn, market, swap)
    (fill,) = rows(txn, "fill_events")
    assert (fill["taker_address"], fill["emit_address"]) == (NOBODY, "0xa11ce")


def test_market_order_takes_what_there_is_and_the_rest_is_cancelled(
    exchange: Exchange, market: Market
) -> None:
    exchange.place_limit(exchange.begin(), market, order(market, ALICE, ask=True, price=100, size=5))
    txn = exchange.begin()
    buy = order(market, BOB, ask=False, price=U64_MAX, size=8, kind="market")
    exchange.place_market(txn, market, buy)
    assert (buy.filled, buy.remaining) == (5, 3)
    assert [row["order_id"] for row in rows(txn, "cancel_order_events")] == [buy.order_id]
    assert rows(txn, "aggregator.user_history")[-1]["order_status"] == "cancelled"


def test_nobody_trades_with_himself(exchange: Exchange, market: Market) -> None:
    exchange.place_limit(exchange.begin(), market, order(market, ALICE, ask=True, price=100, size=5))
    txn = exchange.begin()
    exchange.place_limit(txn, market, order(market, ALICE, ask=False, price=100, size=5))
    assert rows(txn, "fill_events") == []
    assert [row["reason"] for row in rows(txn, "cancel_order_events")] == [CANCEL_SELF_MATCH_MAKER]
    assert (len(market.asks), len(market.bids)) == (0, 1)


def test_withdrawn_recognition_has_nulls_for_numbers(exchange: Exchange, market: Market) -> None:
    txn = exchange.begin()
    exchange.recognize(txn, market)
    exchange.recognize(txn, market)
    first, second = rows(txn, "recognized_market_events")
    assert (first["market_id"], second["market_id"], second["lot_size"]) == (1, None, None)


def test_same_seed_gives_the_same_acts() -> None:
    def acts(seed: int) -> list[object]:
        crowd = Crowd(seed)
        transactions = [*crowd.open_markets(), *(crowd.next() for _ in range(300))]
        return [
            (change.table, {k: v for k, v in change.columns.items() if not isinstance(v, datetime)})
            for txn in transactions
            for change in txn.changes
        ]

    assert acts(1) == acts(1)
    assert acts(1) != acts(2)


def test_books_stay_uncrossed_and_bounded_whatever_the_crowd_does() -> None:
    crowd = Crowd(seed=3)
    crowd.open_markets()
    for _ in range(3000):
        crowd.next()
        for market in crowd.exchange.markets.values():
            if market.asks and market.bids:
                assert market.asks[0].price > market.bids[0].price
            assert len(market.asks) + len(market.bids) < 200
