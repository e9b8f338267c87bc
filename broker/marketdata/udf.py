"""TradingView's UDF: `/udf/config`, `symbols`, `search`, `history`, `time`, from the history and the candles in memory.

Numbers go out as JSON numbers with the digits that they have.  Source: TradingView's "Universal Data Feed" page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import psycopg
import trio

from broker.market.candle import Candle
from broker.market.kline import Entry, Kline
from broker.market.series import Series
from broker.marketdata.history import History
from broker.marketdata.service import MarketService

RESOLUTIONS: Final = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "1h": "60",
    "2h": "120",
    "4h": "240",
    "6h": "360",
    "8h": "480",
    "12h": "720",
    "1d": "1D",
    "1w": "1W",
    "1M": "1M",
}
BARS_MAX: Final = 5000
SEARCH_MAX: Final = 1000
SEARCH_DEFAULT: Final = 30
QUERIES_MAX: Final = 4
"""At the same time."""
SECONDS_MAX: Final = 2**37
"""No candle is of a time so late, and Postgres knows of it."""

Bar = tuple[str, str, str, str, str]
"""Open, high, low, close, volume."""


class Udf:
    """Answers from the candles of one process."""

    def __init__(self, service: MarketService) -> None:
        self._service = service
        self._slots = trio.CapacityLimiter(QUERIES_MAX)

    async def answer(self, what: str, query: Mapping[str, str]) -> str | None:
        """The JSON for `/udf/WHAT`; None if there is no such thing."""
        if what == "time":
            return str(int(time.time()))
        if what == "config":
            return json.dumps(self._config())
        if what == "symbols":
            return json.dumps(self._symbol(query.get("symbol", "")))
        if what == "search":
            return json.dumps(self._search(query))
        if what == "history":
            return await self._history(query)
        return None

    def _klines(self) -> list[tuple[int, Kline]]:
        found = []
        for (kind, index), one in self._service.market.running.items():
            if kind == "kline" and isinstance(one.calculator, Kline):
                found.append((index, one.calculator))
        return found

    def _resolutions(self) -> list[str]:
        names = {interval.name for _, kline in self._klines() for interval in kline.intervals}
        return [resolution for name, resolution in RESOLUTIONS.items() if name in names]

    def _config(self) -> dict[str, Any]:
        return {
            "supported_resolutions": self._resolutions(),
            "supports_search": True,
            "supports_group_request": False,
            "supports_marks": False,
            "supports_timescale_marks": False,
            "supports_time": True,
        }

    def _entry(self, symbol: str) -> Entry | None:
        for _, kline in self._klines():
            index = kline.index.get(symbol, -1)
            if index >= 0:
                entry = kline.entries[index]
                entry.settle()
                return entry
        return None

    def _symbol(self, text: str) -> dict[str, Any]:
        entry = self._entry(text) or self._entry(text.rpartition(":")[2])
        if entry is None:
            return {"s": "error", "errmsg": "unknown_symbol"}
        scale, volume_scale = 0, 0
        for series in entry.series:
            for candle in list(series.candles)[-10:]:
                scale = max(scale, candle.close.scale, candle.high.scale, candle.low.scale)
                volume_scale = max(volume_scale, candle.volume.scale)
        resolutions = self._resolutions()
        return {
            "name": entry.symbol,
            "ticker": entry.symbol,
            "description": entry.symbol,
            "type": "crypto",
            "session": "24x7",
            "timezone": "Etc/UTC",
            "exchange": "",
            "listed_exchange": "",
            "format": "price",
            "minmov": 1,
            "pricescale": 10**scale,
            "volume_precision": volume_scale,
            "has_intraday": any(one.isdigit() for one in resolutions),
            "has_daily": "1D" in resolutions,
            "has_weekly_and_monthly": bool({"1W", "1M"} & set(resolutions)),
            "supported_resolutions": resolutions,
            "data_status": "streaming",
        }

    def _search(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = query.get("query", "").upper()
        number = query.get("limit", "")
        limit = min(int(number), SEARCH_MAX) if number.isdecimal() and len(number) < 10 else SEARCH_DEFAULT
        names = sorted(
            {entry.symbol for _, kline in self._klines() for entry in kline.entries if entry.series}
        )
        found = [name for name in names if wanted in name.upper()][:limit]
        return [
            {
                "symbol": name,
                "full_name": name,
                "description": name,
                "exchange": "",
                "ticker": name,
                "type": "crypto",
            }
            for name in found
        ]

    async def _history(self, query: Mapping[str, str]) -> str:
        symbol = query.get("symbol", "")
        resolution = {"D": "1D", "W": "1W", "M": "1M"}.get(
            query.get("resolution", ""), query.get("resolution", "")
        )
        name = next((name for name, one in RESOLUTIONS.items() if one == resolution), "")
        found = self._series(symbol, name)
        if found is None:
            return _error("unknown_symbol" if name else "unknown resolution")
        try:
            from_s, to_s = int(query.get("from", "0")), int(query.get("to", str(int(time.time()) + 1)))
            countback = max(0, int(query.get("countback", "0")))
        except ValueError:
            return _error("from, to and countback must be whole numbers")
        history, series = found
        count = min(countback or BARS_MAX, BARS_MAX)
        bars: dict[int, Bar] = {}
        try:
            bars = await self._stored(history, symbol, name, 0 if countback else from_s, to_s, count)
        except (psycopg.Error, OSError):
            return _error("the history can't be read now")
        for candle in series.candles:
            start_s = candle.start_ms // 1000
            if (countback or start_s >= from_s) and start_s < to_s:
                bars[start_s] = _bar(candle)
        times = sorted(bars)[-count:]
        if not times:
            return json.dumps({"s": "no_data"})
        columns = {letter: [bars[at][i] for at in times] for i, letter in enumerate("ohlcv")}
        texts = ",".join(f'"{letter}":[{",".join(values)}]' for letter, values in columns.items())
        return f'{{"s":"ok","t":[{",".join(map(str, times))}],{texts}}}'

    async def _stored(
        self, history: History | None, symbol: str, name: str, from_s: int, to_s: int, count: int
    ) -> dict[int, Bar]:
        if history is None or to_s <= 0 or from_s >= SECONDS_MAX:
            return {}
        async with self._slots:
            # A chart asks for what was before 1970, too.
            rows = await history.bars(symbol, name, max(0, from_s), min(to_s, SECONDS_MAX), count)
        return {row[0]: (row[1], row[2], row[3], row[4], row[5]) for row in rows}

    def _series(self, symbol: str, interval: str) -> tuple[History | None, Series] | None:
        for index, kline in self._klines():
            at = kline.index.get(symbol, -1)
            if at >= 0:
                for series in kline.entries[at].series:
                    if series.interval.name == interval:
                        return self._service.histories.get(index), series
        return None


def _bar(candle: Candle) -> Bar:
    return (candle.open.text, candle.high.text, candle.low.text, candle.close.text, candle.volume.text())


def _error(message: str) -> str:
    return json.dumps({"s": "error", "errmsg": message})
