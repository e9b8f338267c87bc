"""Goal: the market's page shows book, trades, candles, ticker and mark price, and goes on over a restart by itself.

Method: an engine that trades at random sends three hours of trades, and then goes on, to a Rowcast process that is
ended and started again; what the page has in a Chromium is held against what the engine did.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from support import chromium
from support.ports import free_port
from support.rowcast_process import RowcastProcess

from broker.marketdata.history import CREATE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not chromium.is_there(), reason="needs Chromium"),
]
PICTURES = os.environ.get("ROWCAST_PICTURES")
SIZES = {"desk": (1280, 800), "telephone": (390, 844)}
SYMBOL = "BTCUSDT"
BEFORE_S = 3 * 3600
SETTINGS = """
[database]
dsn = "{database}"
[[listener]]
host = "127.0.0.1"
port = {page}
protocol = "websockets"
dialects = ["exchange"]
[security]
allow_anonymous = true
[websocket.exchange]
jwt = { secret = "0123456789012345678901234567890123456789", account = "uid" }
[source.book]
tcp = "127.0.0.1:{book}"
[source.trades]
tcp = "127.0.0.1:{trades}"
[source.prices]
tcp = "127.0.0.1:{prices}"
[[market.depth]]
from = "book"
[[market.trades]]
from = "trades"
merge_by = ["taker"]
recent = 50
[[market.kline]]
from = "trades"
history = "kline"
[[market.ticker]]
from = "trades"
[[market.markprice]]
from = "prices"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
[[websocket.route]]
from = "market.kline"
channel = ["{symbol}@kline_{interval}", "{symbol}@kline"]
[[websocket.route]]
from = "market.ticker"
channel = "{symbol}@ticker"
[[websocket.route]]
from = "market.markprice"
channel = "{symbol}@markprice"
"""
SOURCES = ("book", "trades", "prices")


class Engine:
    """Trades of one symbol at random, and its book of sixty levels."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.rng = random.Random(7)
        self.cents = 4_200_000
        self.id = 0
        self.bars: dict[int, list[Decimal]] = {}
        self.sizes: dict[int, str] = {}
        self.last: dict[str, Any] = {}
        self._streams: dict[str, trio.SocketStream] = {}

    async def connect(self) -> None:
        for name, port in self.ports.items():
            while True:
                try:
                    self._streams[name] = await trio.open_tcp_stream("127.0.0.1", port)
                    break
                except OSError:
                    await trio.sleep(0.05)

    def trade(self, at_ms: int, step: int) -> dict[str, Any]:
        self.cents += self.rng.randint(-step, step)
        self.id += 1
        price = Decimal(self.cents).scaleb(-2)
        row = {
            "symbol": SYMBOL,
            "id": self.id,
            "taker": self.id // 2,
            "side": self.rng.choice(("buy", "sell")),
        }
        row |= {"price": str(price), "size": f"0.{self.rng.randint(1, 10 * step):04d}", "ts": at_ms}
        bar = self.bars.setdefault(at_ms // 60_000 * 60, [price, price, price, price])
        bar[1], bar[2], bar[3] = max(bar[1], price), min(bar[2], price), price
        self.last = row
        return row

    def book(self) -> dict[str, Any]:
        """As it is now: thirty levels a side around the last price."""
        sides: dict[str, list[list[str]]] = {}
        for side, sign in (("bids", -1), ("asks", 1)):
            sides[side] = []
            for step in range(1, 31):
                cents = self.cents // 50 * 50 + sign * 50 * step
                if cents not in self.sizes or self.rng.random() < 0.2:
                    self.sizes[cents] = f"{self.rng.randint(0, 3)}.{self.rng.randint(1, 9999):04d}"
                sides[side].append([str(Decimal(cents).scaleb(-2)), self.sizes[cents]])
        return {"symbol": SYMBOL, **sides}

    async def send(self, name: str, rows: list[dict[str, Any]]) -> None:
        await self._streams[name].send_all("".join(json.dumps(row) + "\n" for row in rows).encode())

    async def begin(self) -> None:
        """What happened before."""
        now_ms = int(time.time() * 1000)
        times = range(now_ms - BEFORE_S * 1000, now_ms, 4_000)
        await self.send("trades", [self.trade(at_ms, 900) for at_ms in times])

    async def turn(self) -> None:
        """A tenth of a second of it."""
        now_ms = int(time.time() * 1000)
        if self.rng.random() < 0.4:
            await self.send("trades", [self.trade(now_ms, 90) for _ in range(self.rng.randint(1, 3))])
        await self.send("book", [self.book()])
        mark = Decimal(self.cents + self.rng.randint(-300, 300)).scaleb(-2)
        price = {
            "symbol": SYMBOL,
            "mark": str(mark),
            "index": str(mark + 3),
            "settle": None,
            "funding": "0.000100",
        }
        await self.send("prices", [price | {"next_funding": (now_ms // 28_800_000 + 1) * 28_800_000}])

    async def run_for(self, turns: int) -> None:
        for _ in range(turns):
            await self.turn()
            await trio.sleep(0.1)


class Market:
    """The process, on the same ports each time."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.ports = {name: free_port() for name in SOURCES}
        settings = SETTINGS.replace("{database}", database).replace("{page}", str(self.port))
        for name, port in self.ports.items():
            settings = settings.replace(f"127.0.0.1:{{{name}}}", f"127.0.0.1:{port}")
        self.settings = settings
        self.process: RowcastProcess | None = None

    def _start(self) -> None:
        process = RowcastProcess.from_toml(self.folder, self.settings)
        process.__enter__()
        self.process = process

    def _stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.__exit__(None, None, None)

    async def start(self) -> None:
        await trio.to_thread.run_sync(self._start)

    async def stop(self) -> None:
        await trio.to_thread.run_sync(self._stop)


@asynccontextmanager
async def shown(
    folder: Path, database: str, size: str
) -> AsyncIterator[tuple[chromium.Page, Market, Engine]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop table if exists kline")
        connection.execute(CREATE.format(table="kline").encode())
    market = Market(folder, database)
    await market.start()
    try:
        engine = Engine(market.ports)
        await engine.connect()
        await engine.begin()
        async with chromium.browser(folder) as page:
            await page.show(f"http://127.0.0.1:{market.port}/", *SIZES[size])
            yield page, market, engine
    finally:
        with trio.CancelScope(shield=True):
            await market.stop()


SAYS_ALL = """document.getElementById('state').textContent === 'live'
    && document.querySelectorAll('#asks .row').length >= 10 && document.querySelectorAll('#bids .row').length >= 10
    && document.querySelectorAll('#trades .row').length >= 10
    && ['last', 'best', 'change', 'mark', 'index', 'high', 'low', 'volume', 'turnover'].every(
        (id) => /\\d/.test(document.getElementById(id).textContent))"""
PAGES_BARS = "JSON.stringify([...bars.values()].map((b) => [b.time, b.open, b.high, b.low, b.close]))"
PAGES_BOOK = "JSON.stringify({ bids: book.sorted('bids'), asks: book.sorted('asks') })"


async def holds_true(page: chromium.Page, engine: Engine) -> None:
    """Until the page has what the engine did; fails if it never has."""
    with trio.move_on_after(20):
        while await differences(page, engine):  # noqa: ASYNC110 - a page has no event for it
            await trio.sleep(0.1)
    assert await differences(page, engine) == []


async def differences(page: chromium.Page, engine: Engine) -> list[str]:
    found = []
    bars = {time: values for time, *values in json.loads(await page.run(PAGES_BARS))}
    for start, bar in engine.bars.items():
        if bars.get(start) != [float(value) for value in bar]:
            found.append(f"the candle of {start}: {bars.get(start)}, not {bar}")
    if min(bars) < min(engine.bars):
        found.append("a candle of before there was any trade")
    last = await page.run("document.querySelector('#trades .row span').textContent")
    if last != engine.last["price"]:
        found.append(f"last {last}, not {engine.last['price']}")
    return found


async def test_the_page_goes_on_over_a_restart(tmp_path: Path, database: str) -> None:
    async with shown(tmp_path, database, "desk") as (page, market, engine):
        await engine.run_for(20)
        await page.until(SAYS_ALL)
        await holds_true(page, engine)
        await market.stop()
        await page.until("document.getElementById('state').textContent !== 'live'")
        await market.start()
        await engine.connect()
        await engine.turn()
        book = engine.book()
        await engine.send("book", [book])
        await page.until(SAYS_ALL)
        await holds_true(page, engine)
        await page.until(
            f"{PAGES_BOOK} === {json.dumps(json.dumps({k: book[k] for k in ('bids', 'asks')}, separators=(',', ':')))}"
        )
        times = json.loads(await page.run("JSON.stringify([...bars.keys()])"))
        assert times == sorted(times)


@pytest.mark.parametrize("size", SIZES)
async def test_the_page_fits_and_nothing_comes_from_elsewhere(
    size: str, tmp_path: Path, database: str
) -> None:
    async with shown(tmp_path, database, size) as (page, _, engine):
        await engine.run_for(20)
        await page.until(SAYS_ALL)
        assert await page.run("document.documentElement.scrollWidth") <= SIZES[size][0]
        cut = """[...document.querySelectorAll('header b, header dd, .row span, #best, nav button')].filter((one) =>
            one.offsetParent && one.scrollWidth > one.clientWidth + 1 && one.clientWidth).map((one) => one.outerHTML)"""
        assert await page.run(cut) == []
        loaded = await page.run(
            "performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)"
        )
        assert set(loaded) <= {await page.run("location.origin")}


async def test_another_interval_and_back(tmp_path: Path, database: str) -> None:
    async with shown(tmp_path, database, "desk") as (page, _, engine):
        await engine.run_for(10)
        await page.until(SAYS_ALL)
        await page.run(
            "[...document.querySelectorAll('nav button')].find((b) => b.textContent === '1h').click()"
        )
        await page.until("bars.size >= 3 && bars.size <= 5")
        hours: dict[int, list[Decimal]] = {}
        for start, bar in engine.bars.items():
            hour = hours.setdefault(start // 3600 * 3600, list(bar))
            hour[1], hour[2], hour[3] = max(hour[1], bar[1]), min(hour[2], bar[2]), bar[3]
        await engine.run_for(0)
        found = {time: values for time, *values in json.loads(await page.run(PAGES_BARS))}
        closed = sorted(hours)[:-1]
        assert {start: found[start] for start in closed} == {
            start: [float(value) for value in hours[start]] for start in closed
        }
        await page.run(
            "[...document.querySelectorAll('nav button')].find((b) => b.textContent === '1m').click()"
        )
        await holds_true(page, engine)


DATAFEED = """(async () => {
    await new Promise((loaded) => {
        const script = document.createElement('script');
        script.src = 'datafeed.js';
        script.onload = loaded;
        document.head.append(script);
    });
    const feed = new RowcastDatafeed(location.origin);
    const config = await new Promise((ready) => feed.onReady(ready));
    const symbol = await new Promise((found, failed) => feed.resolveSymbol('BTCUSDT', found, failed));
    window.told = [];
    feed.subscribeBars(symbol, '1', (bar) => told.push(bar), 'reader', () => {});
    const range = { from: 0, to: Math.floor(Date.now() / 1000) + 60, countBack: 500, firstDataRequest: true };
    const got = await new Promise((found, failed) => feed.getBars(symbol, '1', range, found, failed));
    const unknown = await new Promise((said) => feed.resolveSymbol('NOTHING', () => said(''), said));
    return JSON.stringify({ config, unknown, bars: got.map((b) => [b.time / 1000, b.open, b.high, b.low, b.close]) });
})()"""


async def test_the_datafeed_gives_history_and_what_follows(tmp_path: Path, database: str) -> None:
    async with shown(tmp_path, database, "desk") as (page, _, engine):
        await engine.run_for(5)
        await page.until(SAYS_ALL)
        await holds_true(page, engine)
        got = json.loads(str(await page.run(DATAFEED)))
        assert "1" in got["config"]["supported_resolutions"]
        assert got["unknown"]
        times = [bar[0] for bar in got["bars"]]
        assert times == sorted(set(times))
        closed = sorted(engine.bars)[:-1]
        bars = {time: values for time, *values in got["bars"]}
        assert {start: bars[start] for start in closed} == {
            start: [float(value) for value in engine.bars[start]] for start in closed
        }
        while engine.id % 3 or not await page.run("told.length"):
            await engine.turn()
        await page.until(f"told.at(-1).close === {float(engine.last['price'])}")
        assert await page.run("told.every((bar, i) => !i || bar.time >= told[i - 1].time)")


@pytest.mark.skipif(PICTURES is None, reason="only to make the documentation's pictures")
@pytest.mark.parametrize("size", SIZES)
async def test_make_the_pictures(size: str, tmp_path: Path, database: str) -> None:
    assert PICTURES is not None
    name = "market" if size == "desk" else "market-telephone"
    async with shown(tmp_path, database, size) as (page, _, engine):
        await engine.run_for(100)
        await page.until(SAYS_ALL)
        await page.picture(Path(PICTURES) / f"{name}.png")
