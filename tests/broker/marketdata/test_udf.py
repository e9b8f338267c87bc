"""TradingView's UDF from candles in memory and in a table, whatever is asked."""

from __future__ import annotations

import json
import time
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from broker.config.market import KlineConfig, MarketConfig, Tap
from broker.core.engine import Engine
from broker.marketdata.service import MarketService
from broker.marketdata.udf import BARS_MAX, QUERIES_MAX, SEARCH_DEFAULT, Udf

START_S = 1_700_000_040
"""Where a minute begins."""


class Stored:
    """Candles of a table; see `History`."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.asked: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        self.goes_on = trio.Event()
        self.goes_on.set()

    async def bars(self, symbol: str, name: str, from_s: int, to_s: int, count: int) -> list[tuple[Any, ...]]:
        self.asked.append((symbol, name, from_s, to_s, count))
        await self.goes_on.wait()
        if self.error is not None:
            raise self.error
        return [row for row in self.rows if from_s <= row[0] < to_s][-count:]


def made(*intervals: str, stored: Stored | None = None) -> tuple[Udf, MarketService]:
    """With a calculator of other trades before the one that is meant, as it may be."""
    klines = (
        KlineConfig("other", "other", intervals=("5m",)),
        KlineConfig("s", intervals=intervals or ("1m", "1h")),
    )
    taps = (Tap("other", (("kline", 0),)), Tap("s", (("kline", 1),)))
    service = MarketService(MarketConfig(kline=klines, taps=taps), Engine(), {}, None)
    if stored is not None:
        service.histories[1] = stored  # type: ignore[assignment]
    return Udf(service), service


def trade(
    service: MarketService, minute: int, price: str, symbol: str = "X", size: str = "1", of: int = 1
) -> None:
    service.market.take(
        service.config.taps[of].key,
        {"symbol": symbol, "id": str(minute), "price": price, "size": size, "side": "buy",
         "ts": str((START_S + minute * 60) * 1000)},
    )  # fmt: skip
    with service.engine.turn:
        service.market.commit()


async def ask(udf: Udf, what: str, **query: object) -> Any:
    text = await udf.answer(what, {name.rstrip("_"): str(value) for name, value in query.items()})
    return None if text is None else json.loads(text)


async def test_what_there_is_is_said() -> None:
    udf, _ = made("1m", "1d", "1M")
    assert await ask(udf, "config") == {
        "supported_resolutions": ["1", "5", "1D", "1M"],
        "supports_search": True,
        "supports_time": True,
        **dict.fromkeys(("supports_group_request", "supports_marks", "supports_timescale_marks"), False),
    }
    assert abs(await ask(udf, "time") - time.time()) < 60
    assert await ask(udf, "quotes") is None


@pytest.mark.parametrize(
    ("intervals", "flags"),
    [
        (("1m",), (True, False, False)),
        (("1d",), (True, True, False)),  # 5m of the other one
        (("1w",), (True, False, True)),
        (("1M",), (True, False, True)),
    ],
)
async def test_a_symbol_s_resolutions(intervals: tuple[str, ...], flags: tuple[bool, bool, bool]) -> None:
    udf, service = made(*intervals)
    trade(service, 0, "5")
    found = await ask(udf, "symbols", symbol="X")
    assert (found["has_intraday"], found["has_daily"], found["has_weekly_and_monthly"]) == flags


@pytest.mark.parametrize("name", ["X", "EXCHANGE:X", "A:B:X"])
async def test_a_symbol_s_digits_are_those_of_its_trades(name: str) -> None:
    udf, service = made()
    trade(service, 0, "5.125", size="1.5")
    trade(service, 1, "5", size="2")
    found = await ask(udf, "symbols", symbol=name)
    assert (found["name"], found["pricescale"], found["volume_precision"]) == ("X", 1000, 1)


async def test_a_symbol_with_a_colon_is_itself() -> None:
    udf, service = made()
    trade(service, 0, "5", "A:X")
    trade(service, 0, "7", "X")
    assert (await ask(udf, "symbols", symbol="A:X"))["name"] == "A:X"
    assert await ask(udf, "symbols", symbol="Y") == {"s": "error", "errmsg": "unknown_symbol"}
    assert (await ask(udf, "symbols"))["s"] == "error"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["BTC-USD", "ETH-BTC", "eth"]),
        ({"query": "btc"}, ["BTC-USD", "ETH-BTC"]),
        ({"query": "ETH"}, ["ETH-BTC", "eth"]),
        ({"limit": "1"}, ["BTC-USD"]),
        ({"limit": "-1"}, ["BTC-USD", "ETH-BTC", "eth"]),
        ({"limit": "x"}, ["BTC-USD", "ETH-BTC", "eth"]),
        ({"limit": "9" * 5000}, ["BTC-USD", "ETH-BTC", "eth"]),
        ({"query": "none"}, []),
    ],
)
async def test_symbols_are_found_by_a_part_of_their_names(query: dict[str, str], names: list[str]) -> None:
    udf, service = made()
    for number, symbol in enumerate(("eth", "ETH-BTC")):
        trade(service, number, "5", symbol)
    trade(service, 0, "5", "BTC-USD", of=0)
    assert [one["symbol"] for one in await ask(udf, "search", **query)] == names


async def test_without_a_limit_some_are_found_and_never_more_than_there_may_be() -> None:
    udf, service = made()
    for number in range(1010):
        trade(service, 0, "5", f"S{number}")
    assert len(await ask(udf, "search")) == SEARCH_DEFAULT
    assert len(await ask(udf, "search", limit="999999999")) == 1000


ALL = {"symbol": "X", "resolution": "1", "from": "0", "to": str(START_S + 9999)}


async def history(udf: Udf, **query: object) -> Any:
    return await ask(udf, "history", **{**ALL, **{name.rstrip("_"): value for name, value in query.items()}})


async def minutes(udf: Udf, **query: object) -> list[int]:
    found = await history(udf, **query)
    if found == {"s": "no_data"}:
        return []
    assert found["s"] == "ok", found
    return [(at - START_S) // 60 for at in found["t"]]


async def test_bars_have_the_digits_that_their_trades_had() -> None:
    udf, service = made()
    trade(service, 0, "5.10", size="1.50")
    text = await udf.answer("history", {**ALL})
    assert text == f'{{"s":"ok","t":[{START_S}],"o":[5.10],"h":[5.10],"l":[5.10],"c":[5.10],"v":[1.50]}}'


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"from_": START_S + 60}, [1, 2, 3]),
        ({"from_": START_S + 61}, [2, 3]),
        ({"to": START_S + 180}, [0, 1, 2]),
        ({"to": START_S + 181}, [0, 1, 2, 3]),
        ({"countback": 2}, [2, 3]),
        ({"countback": 2, "from_": START_S + 180}, [2, 3]),  # it counts more than `from`
        ({"countback": 2, "to": START_S + 120}, [0, 1]),
        ({"countback": 99999}, [0, 1, 2, 3]),
        ({"countback": -2}, [0, 1, 2, 3]),
        ({"from_": -(2**41)}, [0, 1, 2, 3]),  # a chart asks for what was before 1970, too
        ({"to": 2**70}, [0, 1, 2, 3]),
        ({"from_": 2**70, "to": 2**71}, []),
        ({"to": 0}, []),
        ({"to": -5}, []),
    ],
)
@pytest.mark.parametrize("in_memory", [0, 3], ids=["all in memory", "only the last in memory"])
async def test_bars_are_those_of_the_time_that_is_asked_for(
    in_memory: int, query: dict[str, int], expected: list[int]
) -> None:
    stored = Stored()
    udf, service = made(stored=stored)
    for minute in range(4):
        if minute >= in_memory:
            trade(service, minute, "5")
        else:
            stored.rows.append((START_S + minute * 60, "1", "1", "1", "1", "1"))
    assert await minutes(udf, **query) == expected


async def test_of_both_the_candle_in_memory_counts() -> None:
    stored = Stored()
    udf, service = made(stored=stored)
    stored.rows = [(START_S, "1", "2", "0", "1", "9"), (START_S + 60, "1", "1", "1", "1", "1")]
    trade(service, 1, "7")
    found = await history(udf)
    assert (found["o"], found["h"], found["l"], found["v"]) == ([1, 7], [2, 7], [0, 7], [9, 1])


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({}, (0, START_S + 9999, BARS_MAX)),
        ({"from_": 7, "countback": 3}, (0, START_S + 9999, 3)),
        ({"from_": -7}, (0, START_S + 9999, BARS_MAX)),
        ({"from_": 7, "countback": -3}, (7, START_S + 9999, BARS_MAX)),
        ({"countback": 10**9}, (0, START_S + 9999, BARS_MAX)),
        ({"to": 2**70}, (0, 2**37, BARS_MAX)),
        ({"from_": 2**37 - 1, "to": 2**70}, (2**37 - 1, 2**37, BARS_MAX)),
        ({"from_": 2**37, "to": 2**70}, None),
        ({"to": 0}, None),
    ],
)
async def test_the_table_is_asked_for_what_it_can_have(
    query: dict[str, int], asked: tuple[int, int, int] | None
) -> None:
    stored = Stored()
    udf, service = made(stored=stored)
    trade(service, 0, "5")
    await history(udf, **query)
    assert stored.asked == ([] if asked is None else [("X", "1m", *asked)])


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"symbol": "Y"}, "unknown_symbol"),
        ({"resolution": "1D"}, "unknown_symbol"),  # its candles are none of these
        ({"resolution": "7"}, "unknown resolution"),
        ({"resolution": ""}, "unknown resolution"),
        ({"from_": "x"}, "from, to and countback must be whole numbers"),
        ({"to": "1.5"}, "from, to and countback must be whole numbers"),
        ({"countback": "9" * 5000}, "from, to and countback must be whole numbers"),
    ],
)
async def test_what_can_t_be_answered_says_why(query: dict[str, str], problem: str) -> None:
    udf, service = made()
    trade(service, 0, "5")
    assert await history(udf, **query) == {"s": "error", "errmsg": problem}


@pytest.mark.parametrize(
    ("resolution", "interval"), [("D", "1d"), ("1D", "1d"), ("W", "1w"), ("M", "1M"), ("60", "1h")]
)
async def test_resolutions_may_be_short(resolution: str, interval: str) -> None:
    udf, service = made(interval)
    trade(service, 0, "5")
    assert len((await history(udf, resolution=resolution))["t"]) == 1


@pytest.mark.parametrize("error", [psycopg.OperationalError("away"), OSError()], ids=["psycopg", "os"])
async def test_a_table_that_can_t_be_read_is_said(error: Exception) -> None:
    stored = Stored()
    udf, service = made(stored=stored)
    trade(service, 0, "5")
    stored.error = error
    assert await history(udf) == {"s": "error", "errmsg": "the history can't be read now"}


async def test_only_so_many_ask_the_table_at_once() -> None:
    stored = Stored()
    udf, service = made(stored=stored)
    trade(service, 0, "5")
    stored.goes_on = trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(QUERIES_MAX + 2):
            nursery.start_soon(history, udf)
        await trio.testing.wait_all_tasks_blocked()
        assert len(stored.asked) == QUERIES_MAX
        stored.goes_on.set()
    assert len(stored.asked) == QUERIES_MAX + 2
