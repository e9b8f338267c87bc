"""An exchange in memory: order books with price-time priority, whose every act is a `Transaction` of rows.

Sizes are in lots and prices in ticks, as integers.  Order ids are 39 digits long: `counter << 64 | key`, with
a counter that starts at 2**63: ids that don't fit into 64 bits are what such a feed must carry unharmed.
"""

from __future__ import annotations

from bisect import insort
from datetime import UTC, datetime
from typing import Final

from attrs import Factory, define, frozen

from broker.demo.changes import HISTORY, Columns, Transaction

COUNTER_START: Final = 1 << 63
U64_MAX: Final = (1 << 64) - 1
TAKER_FEE_DIVISOR: Final = 2000
NOBODY: Final = "0x0"

CANCEL_MANUAL: Final = 3
CANCEL_NOT_ENOUGH_LIQUIDITY: Final = 5
CANCEL_SELF_MATCH_MAKER: Final = 6


@frozen
class Trader:
    """An account at the simulated exchange; custodian 0 is none."""

    address: str
    custodian_id: int = 0


@define(eq=False)
class Order:
    """An order from its placement on; `kind` is `limit`, `market` or `swap`."""

    kind: str
    order_id: int
    trader: Trader
    integrator: str
    is_ask: bool
    price: int
    remaining: int
    placed_at: datetime
    filled: int = 0

    @property
    def priority(self) -> tuple[int, int]:
        """Sorts the best order of its side first: price, then age."""
        return (self.price if self.is_ask else -self.price, self.order_id)

    def crosses(self, resting: Order) -> bool:
        """Whether it would trade with the order that rests on the other side."""
        return self.price >= resting.price if resting.is_ask else self.price <= resting.price


@define
class Market:
    """One order book; both sides best first."""

    market_id: int
    base_name: str
    is_generic: bool
    asks: list[Order] = Factory(list)
    bids: list[Order] = Factory(list)
    is_recognized: bool = False
    _counter: int = COUNTER_START

    def side(self, is_ask: bool) -> list[Order]:
        """The resting orders of one side, best first."""
        return self.asks if is_ask else self.bids

    def next_order_id(self, key: int) -> int:
        """A new id: a counter in the upper 64 bits, the price in the lower."""
        self._counter += 1
        return self._counter << 64 | key


@define
class Exchange:
    """All markets and the transaction counter."""

    markets: dict[int, Market] = Factory(dict)
    _txn_version: int = 1_000_000_000

    def begin(self) -> Transaction:
        """A transaction with the next version number."""
        self._txn_version += 1
        return Transaction(self._txn_version, datetime.now(UTC))

    def register(self, txn: Transaction, base_name: str, is_generic: bool) -> Market:
        """A new market, with its event in the transaction."""
        market = Market(len(self.markets) + 1, base_name, is_generic)
        self.markets[market.market_id] = market
        txn.event(
            "market_registration_events",
            market_id=market.market_id,
            **_pair(market),
            lot_size=1000,
            tick_size=1,
            min_size=1,
            underwriter_id=0,
        )
        return market

    def recognize(self, txn: Transaction, market: Market) -> None:
        """Recognise the market, or withdraw the recognition: then its numbers are NULL."""
        market.is_recognized = not market.is_recognized
        names = ("market_id", "lot_size", "tick_size", "min_size", "underwriter_id")
        numbers = (market.market_id, 1000, 1, 1, 0) if market.is_recognized else (None,) * 5
        txn.event("recognized_market_events", **_pair(market), **dict(zip(names, numbers, strict=True)))

    def place_limit(self, txn: Transaction, market: Market, order: Order) -> None:
        """Fill what crosses; what is left rests on the book."""
        size = order.remaining
        _record_new(txn, market, order)
        self._match(txn, market, order)
        txn.event(
            "place_limit_order_events",
            market_id=market.market_id,
            user=order.trader.address,
            custodian_id=order.trader.custodian_id,
            order_id=order.order_id,
            side=order.is_ask,
            integrator=order.integrator,
            initial_size=size,
            price=order.price,
            restriction=0,
            self_match_behavior=0,
            size=order.remaining,
        )
        if order.remaining:
            insort(market.side(order.is_ask), order, key=lambda resting: resting.priority)

    def place_market(self, txn: Transaction, market: Market, order: Order) -> None:
        """Fill what can be filled at any price; the rest is cancelled."""
        txn.event(
            "place_market_order_events",
            market_id=market.market_id,
            order_id=order.order_id,
            user=order.trader.address,
            custodian_id=order.trader.custodian_id,
            integrator=order.integrator,
            direction=order.is_ask,
            size=order.remaining,
            self_match_behavior=0,
        )
        self._take(txn, market, order)

    def place_swap(self, txn: Transaction, market: Market, order: Order) -> None:
        """As a market order with a price limit, for somebody who may have no account here (`NOBODY`)."""
        txn.event(
            "place_swap_order_events",
            market_id=market.market_id,
            order_id=order.order_id,
            signing_account=order.trader.address,
            integrator=order.integrator,
            direction=order.is_ask,
            min_base=0,
            max_base=order.remaining,
            min_quote=0,
            max_quote=U64_MAX,
            limit_price=order.price,
        )
        self._take(txn, market, order)

    def change_size(self, txn: Transaction, market: Market, order: Order, size: int) -> None:
        """A larger order loses its place in the queue, but not its id."""
        key = {"market_id": market.market_id, "order_id": order.order_id}
        if size > order.remaining:
            txn.update("aggregator.user_history_limit", key, last_increase_stamp=txn.txn_version)
        order.remaining = size
        txn.event(
            "change_order_size_events",
            market_id=market.market_id,
            order_id=order.order_id,
            user=order.trader.address,
            custodian_id=order.trader.custodian_id,
            side=order.is_ask,
            new_size=size,
        )
        _record_state(txn, market, order, "open")

    def cancel(self, txn: Transaction, market: Market, order: Order, reason: int = CANCEL_MANUAL) -> None:
        """Take a resting order off its book; nothing if it is no longer there."""
        if order in market.side(order.is_ask):
            market.side(order.is_ask).remove(order)
        txn.event(
            "cancel_order_events",
            market_id=market.market_id,
            user=order.trader.address,
            custodian_id=order.trader.custodian_id,
            order_id=order.order_id,
            reason=reason,
        )
        _record_state(txn, market, order, "cancelled")

    def _take(self, txn: Transaction, market: Market, order: Order) -> None:
        _record_new(txn, market, order)
        self._match(txn, market, order)
        if order.remaining:
            self.cancel(txn, market, order, CANCEL_NOT_ENOUGH_LIQUIDITY)

    def _match(self, txn: Transaction, market: Market, taker: Order) -> None:
        resting = market.side(not taker.is_ask)
        number = 0
        while taker.remaining and resting and taker.crosses(resting[0]):
            maker = resting[0]
            if maker.trader == taker.trader:
                self.cancel(txn, market, maker, CANCEL_SELF_MATCH_MAKER)
                continue
            _fill(txn, market, maker, taker, number)
            number += 1
            if not maker.remaining:
                resting.pop(0)


def _fill(txn: Transaction, market: Market, maker: Order, taker: Order, number: int) -> None:
    size = min(maker.remaining, taker.remaining)
    for order in (maker, taker):
        order.remaining -= size
        order.filled += size
    # One copy for each party that keeps a record: a swap that nobody signed has only the maker's.
    for party in (maker, taker):
        if party.trader.address != NOBODY:
            txn.event(
                "fill_events",
                emit_address=party.trader.address,
                maker_address=maker.trader.address,
                maker_custodian_id=maker.trader.custodian_id,
                maker_order_id=maker.order_id,
                maker_side=maker.is_ask,
                market_id=market.market_id,
                price=maker.price,
                sequence_number_for_trade=number,
                size=size,
                taker_address=taker.trader.address,
                taker_custodian_id=taker.trader.custodian_id,
                taker_order_id=taker.order_id,
                taker_quote_fees_paid=size * maker.price // TAKER_FEE_DIVISOR,
            )
    for order in (maker, taker):
        _record_state(txn, market, order, "open" if order.remaining else "closed")


def _pair(market: Market) -> dict[str, str | None]:
    coin = (None, None, None) if market.is_generic else ("0xba5e", "coins", market.base_name)
    return {
        "base_account_address": coin[0],
        "base_module_name": coin[1],
        "base_struct_name": coin[2],
        "base_name_generic": market.base_name if market.is_generic else None,
        "quote_account_address": "0xca54",
        "quote_module_name": "coins",
        "quote_struct_name": "USD",
    }


def _record_new(txn: Transaction, market: Market, order: Order) -> None:
    key: Columns = {"market_id": market.market_id, "order_id": order.order_id}
    txn.insert(
        HISTORY,
        **key,
        created_at=order.placed_at,
        integrator=order.integrator,
        total_filled=0,
        remaining_size=order.remaining,
        order_status="open",
        order_type=order.kind,
    )
    owner: Columns = {"user": order.trader.address, "custodian_id": order.trader.custodian_id}
    if order.kind == "limit":
        txn.insert(
            f"{HISTORY}_limit",
            **key,
            **owner,
            side=order.is_ask,
            self_matching_behavior=0,
            restriction=0,
            price=order.price,
            last_increase_stamp=txn.txn_version,
        )
    elif order.kind == "market":
        txn.insert(f"{HISTORY}_market", **key, **owner, direction=order.is_ask, self_matching_behavior=0)
    else:
        txn.insert(
            f"{HISTORY}_swap",
            **key,
            direction=order.is_ask,
            limit_price=order.price,
            signing_account=order.trader.address,
            min_base=0,
            max_base=order.remaining,
            min_quote=0,
            max_quote=U64_MAX,
        )


def _record_state(txn: Transaction, market: Market, order: Order, status: str) -> None:
    txn.update(
        HISTORY,
        {"market_id": market.market_id, "order_id": order.order_id},
        last_updated_at=txn.time,
        total_filled=order.filled,
        remaining_size=order.remaining,
        order_status=status,
    )
