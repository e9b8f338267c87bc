"""The price of a symbol in one line."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.market import Log

from broker.market.price import Price, PriceLine


@given(st.decimals(0, 10**9, places=4), st.decimals(0, 10**9, places=2))
def test_the_middle_is_exact(bid: Decimal, ask: Decimal) -> None:
    line = PriceLine("x", 0)
    line.bid, line.ask = str(bid), str(ask)
    assert Decimal(line.mid()) == (bid + ask) / 2


@pytest.mark.parametrize(("bid", "ask"), [("", "1"), ("1", ""), ("", "")])
def test_there_is_no_middle_of_one_side(bid: str, ask: str) -> None:
    line = PriceLine("x", 0)
    line.bid, line.ask = bid, ask
    assert json.loads(line.message())["mid"] is None


def test_trades_alone_say_nothing_until_there_is_a_book() -> None:
    log = Log()
    price = Price(log, 0)
    price.traded("x", "5", 1)
    assert price.streams() == []
