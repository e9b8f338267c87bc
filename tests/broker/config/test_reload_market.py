"""What of market data SIGHUP changes, and what takes a restart, by which words."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from broker.config.feeds import FeedConfig
from broker.config.market import (
    DepthConfig,
    Intake,
    KlineConfig,
    MarketConfig,
    MarkPriceConfig,
    TickerConfig,
    TradesConfig,
)
from broker.config.reload_market import IN_PLACE, is_same_place, market_mistakes, taken_market

OLD = MarketConfig(
    depth=(DepthConfig("s"),),
    trades=(TradesConfig("s", name="tape"),),
    kline=(KlineConfig("s"),),
    ticker=(TickerConfig("s"),),
    markprice=(MarkPriceConfig("s"),),
)


def changed(**tables: Any) -> MarketConfig:
    return evolve(OLD, **tables)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("depth", "every_s", 9.0),
        ("depth", "crossed_for_s", 9.0),
        ("trades", "every_s", 9.0),
        ("trades", "merge_by", ("side",)),
        ("kline", "every_s", 9.0),
        ("ticker", "every_s", 9.0),
        ("markprice", "every_s", 9.0),
        ("markprice", "stale_after_s", 9.0),
        ("depth", "where", "/etc/r.toml:9"),
    ],
)
def test_a_setting_without_a_state_is_taken_in_place(kind: str, key: str, value: Any) -> None:
    new = changed(**{kind: (evolve(getattr(OLD, kind)[0], **{key: value}),)})
    assert market_mistakes(OLD, new) == []
    assert set(IN_PLACE) == {"depth", "trades", "kline", "ticker", "markprice"}


@pytest.mark.parametrize(
    ("kind", "changes", "what"),
    [
        ("depth", {"levels": 5}, "[[market.depth]] market.depth: another levels"),
        ("depth", {"price": "p", "size": "q"}, "[[market.depth]] market.depth: another price, size"),
        ("trades", {"from_": "t"}, "[[market.trades]] market.tape: another from"),
        ("kline", {"late_s": 1.0}, "[[market.kline]] market.kline: another late"),
        ("ticker", {"window_s": 60.0}, "[[market.ticker]] market.ticker: another window"),
    ],
)
def test_another_state_takes_a_restart(kind: str, changes: dict[str, Any], what: str) -> None:
    new = changed(**{kind: (evolve(getattr(OLD, kind)[0], **changes),)})
    assert market_mistakes(OLD, new) == [f"{what} would need another state; that takes a restart."]


def test_a_calculator_may_go_and_one_that_needs_nothing_of_before_may_come() -> None:
    assert market_mistakes(OLD, evolve(OLD, depth=(), ticker=())) == []
    assert market_mistakes(OLD, evolve(OLD, depth=(DepthConfig("s"), DepthConfig("t")))) == []
    assert market_mistakes(OLD, evolve(OLD, ticker=(TickerConfig("s"), TickerConfig("t")))) == []


QUERY = Intake("query", FeedConfig("asked", "", "query"))


@pytest.mark.parametrize(
    ("kind", "added", "what"),
    [
        ("kline", KlineConfig("s", name="n", history="candles"), "history is read at the start"),
        ("trades", TradesConfig("s", name="n", replay="q", snapshot="q"), "replay, snapshot is read at the start"),
        ("depth", DepthConfig("s", name="n", shape="diffs"), "the levels that s has told of before are not told again"),
        ("depth", DepthConfig("asked", name="n", shape="levels"), ""),
    ],
)  # fmt: skip
def test_one_that_needs_what_was_before_takes_a_restart(kind: str, added: Any, what: str) -> None:
    new = changed(intakes=(QUERY,), **{kind: (*getattr(OLD, kind), added)})
    wanted = [f"[[market.{kind}]] market.n: {what}; that takes a restart."] if what else []
    assert market_mistakes(OLD, new) == wanted


def test_market_data_as_a_whole_neither_comes_nor_goes() -> None:
    rest = "at the start, and rows are led elsewhere then; that takes a restart."
    assert market_mistakes(None, None) == []
    assert market_mistakes(None, OLD) == [f"[market]: none of it was there {rest}"]
    assert market_mistakes(OLD, None) == [f"[market]: it is used no more {rest}"]
    assert (taken_market(None, OLD), taken_market(OLD, None)) == (None, OLD)


def test_the_database_stays() -> None:
    old = evolve(OLD, database=FeedConfig("main", "old"))
    new = evolve(OLD, database=FeedConfig("main", "new"), page=False)
    assert taken_market(old, new) == evolve(old, page=False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"host": "other"}, False),
        ({"port": 2}, False),
        ({"filters": ("a",)}, False),
        ({"every_s": 5.0}, True),
    ],
)
def test_connections_stay_where_rows_come_by_the_same_way(change: dict[str, Any], expected: bool) -> None:
    one = Intake("tcp", FeedConfig("s", ""), "h", 1)
    assert is_same_place(one, evolve(one, **change)) == expected
    assert not is_same_place(one, evolve(one, kind="udp"))
