"""The public side of the exchange's demo: the engine's trades by TCP, a client of every public channel, and the account
of what it saw, held against the database.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import trio
import trio_websocket

from broker import Broker
from broker.demo.clients import HOST
from broker.feed.driver.connection import TrioConnection

SOURCE: Final = "trades"
KINDS: Final = ("depth", "trades", "kline_1m", "ticker", "markprice")
SETTLED_TIMEOUT_S: Final = 10.0

CANDLES: Final = """
select symbol, (extract(epoch from date_bin('1 minute', ts, 'epoch')) * 1000)::bigint as start,
    ((array_agg(price order by ts, id))[1])::text, max(price)::text, min(price)::text,
    ((array_agg(price order by ts desc, id desc))[1])::text, sum(size)::text, sum(price * size)::text, count(*)
from exchange.trades group by 1, 2 order by 1, 2"""


class Engine:
    """The matching engine's connection to the broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._stream: trio.SocketStream | None = None

    async def tell(self, rows: Sequence[str]) -> None:
        """Send the trades of a transaction that is committed."""
        if self._stream is None:
            market = self._broker.app.market
            assert market is not None
            while not market.ports.get(SOURCE):  # noqa: ASYNC110 - opened by a task of the broker's
                await trio.sleep(0.01)
            self._stream = await trio.open_tcp_stream(HOST, market.ports[SOURCE][0])
        lines = [" ".join(row.split()) for row in rows]
        await self._stream.send_all("".join(line + "\n" for line in lines).encode())


class MarketWatcher:
    """A client of all public channels of some symbols, and what it knows.

    Attributes:
        faults: what must never happen, in words.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols
        self.faults: list[str] = []
        self.messages = dict.fromkeys(KINDS, 0)
        self._seq: dict[str, int] = {}
        self._books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
        self._last_id: dict[str, int] = {}
        self._traded: dict[str, tuple[Decimal, Decimal]] = {}
        self._bars: dict[tuple[str, int], dict[str, Any]] = {}
        self._closed: set[tuple[str, int]] = set()

    async def run(self, url: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        async with trio_websocket.open_websocket_url(url, message_queue_size=256) as websocket:
            for symbol in self.symbols:
                for kind in KINDS:
                    request = {"op": "subscribe", "channel": f"{symbol}@{kind}"}
                    await websocket.send_message(json.dumps(request))
            task_status.started()
            while True:
                message = json.loads(await websocket.get_message())
                if "event" in message:
                    symbol, _, kind = message["event"].partition("@")
                    self.messages[kind] += 1
                    self.take(symbol, kind, message["data"])
                elif message.get("result") is not True:
                    self.faults.append(f"refused: {message}")

    def take(self, symbol: str, kind: str, data: Any) -> None:
        """One message."""
        if kind == "depth":
            self._take_depth(symbol, data)
        elif kind == "trades":
            self._take_trades(symbol, data)
        elif kind == "kline_1m":
            self._take_bar(symbol, data)

    def _take_depth(self, symbol: str, data: Any) -> None:
        if data["type"] == "snapshot":
            self._books[symbol] = {"bids": {}, "asks": {}}
        elif data["prev"] != self._seq.get(symbol):
            self.faults.append(f"{symbol}@depth: {data['prev']} does not follow {self._seq.get(symbol)}")
        self._seq[symbol] = data["seq"]
        book = self._books.setdefault(symbol, {"bids": {}, "asks": {}})
        for side, levels in book.items():
            for price, size in data[side]:
                if size == "0":
                    levels.pop(Decimal(price), None)
                else:
                    levels[Decimal(price)] = Decimal(size)
        if book["bids"] and book["asks"] and max(book["bids"]) >= min(book["asks"]):
            self.faults.append(f"{symbol}@depth: a bid meets an ask")

    def _take_trades(self, symbol: str, data: Any) -> None:
        size, turnover = self._traded.get(symbol, (Decimal(0), Decimal(0)))
        for entry in data:
            if entry["first"] <= self._last_id.get(symbol, -1) or entry["last"] < entry["first"]:
                self.faults.append(f"{symbol}@trades: {entry['first']} came twice")
            self._last_id[symbol] = entry["last"]
            size += Decimal(entry["size"])
            turnover += Decimal(entry["size"]) * Decimal(entry["price"])
        self._traded[symbol] = (size, turnover)

    def _take_bar(self, symbol: str, bar: Any) -> None:
        key = (symbol, bar["start"])
        if bar["closed"] and not bar["rev"]:
            if key in self._closed:
                self.faults.append(f"{symbol}@kline_1m: {bar['start']} was closed twice")
            self._closed.add(key)
        self._bars[key] = bar

    async def audit(self, connection: TrioConnection) -> dict[str, Any]:
        """Hold what is known against the database, once all has had time to arrive."""
        wrong: list[str] = []
        with trio.move_on_after(SETTLED_TIMEOUT_S):
            while wrong := await self._differences(connection):  # noqa: ASYNC110 - arrivals have no event
                await trio.sleep(0.1)
        return {"messages": self.messages, "faults": self.faults, "differences": wrong}

    def is_exact(self, found: dict[str, Any]) -> bool:
        """Whether what clients saw of the market is what the database says."""
        return not found["faults"] and not found["differences"]

    async def _differences(self, connection: TrioConnection) -> list[str]:
        found = []
        cursor = await connection.execute("select symbol, side, price, size from exchange.levels")
        books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
        for symbol, side, price, size in await cursor.fetchall():
            books.setdefault(symbol, {"bids": {}, "asks": {}})[f"{side}s"][price] = size
        found += [f"the book of {symbol}" for symbol in books if books[symbol] != self._books.get(symbol)]
        cursor = await connection.execute(
            "select symbol, sum(size), sum(size * price) from exchange.trades group by 1"
        )
        for symbol, size, turnover in await cursor.fetchall():
            if self._traded.get(symbol) != (size, turnover):
                found.append(f"the trades of {symbol}")
        cursor = await connection.execute(CANDLES)
        for symbol, start, *values in await cursor.fetchall():
            bar = self._bars.get((symbol, start), {})
            names = ("open", "high", "low", "close", "volume", "turnover", "trades")
            if [bar.get(name) for name in names] != values:
                found.append(f"the candle of {symbol} at {start}: {bar}, not {values}")
        return found
