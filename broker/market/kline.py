"""Candles: trades to open, high, low, close of every interval.  Pure; compiled."""

from __future__ import annotations

from broker.market.calculator import NEVER_MS, SYMBOLS_MAX, Calculator, Due, Pace, Row
from broker.market.candle import Candle
from broker.market.numbers import BadValue
from broker.market.series import Series
from broker.market.stream import Publish, Stream
from broker.market.times import Interval
from broker.market.trade import Seen, Trade, TradeNames, trade_of


class Entry:
    """One symbol."""

    def __init__(self, symbol: str, series: list[Series]) -> None:
        self.symbol = symbol
        self.series = series
        self.seen = Seen()
        self.pace = Pace()
        self.published_ms = 0
        self.is_touched = False
        self.scheduled_ms = NEVER_MS
        self.is_dirty = False
        """There is something to tell."""
        self.has_news = False
        """See `Series`."""
        self.newest_us = -1
        self.newest_id = -1
        self.gathered: Candle | None = None
        """Trades that no candle has yet.  They lie in the open candle of every series, behind all others."""
        self.open_from_ms = NEVER_MS
        self.open_until_ms = 0
        """Where a trade lies within the open candle of every series."""
        self.closes_ms = NEVER_MS
        """When the first of the open candles closes."""

    def add(self, trade: Trade, at_ms: int) -> int:
        """Count a trade; for how many series it comes too late."""
        at_us, number = trade.at_us, trade.number
        is_newest = at_us > self.newest_us or (at_us == self.newest_us and number >= self.newest_id)
        if is_newest:
            self.newest_us, self.newest_id = at_us, number
        self.is_dirty = True
        if is_newest and self.open_from_ms <= at_ms < self.open_until_ms:
            gathered = self.gathered
            if gathered is None:
                gathered = self.gathered = Candle(0, 0, trade.price)
            gathered.add(trade)
            return 0
        self.settle()
        late = 0
        for series in self.series:
            if not series.add(trade, at_ms):
                late += 1
        self.look()
        return late

    def settle(self) -> None:
        """Give the candles what was gathered for them."""
        gathered = self.gathered
        if gathered is not None:
            self.gathered = None
            for series in self.series:
                series.merge(gathered)

    def look(self) -> None:
        """Candles have been opened or closed."""
        self.open_from_ms, self.open_until_ms, self.closes_ms = 0, NEVER_MS, NEVER_MS
        self.has_news = False
        for series in self.series:
            self.has_news = self.has_news or series.has_news
            last = series.open_candle()
            if last is None:
                self.open_from_ms = NEVER_MS
            else:
                self.open_from_ms = max(self.open_from_ms, last.start_ms)
                self.open_until_ms = min(self.open_until_ms, last.end_ms)
                self.closes_ms = min(self.closes_ms, last.end_ms + series.late_ms)


class Kline(Calculator):
    """The candles of one source.

    Args:
        every_ms: how often at most an open candle is told anew.
        late_ms: how long after its end a candle is closed if no trade comes that is later.
        keep_ms: how long closed candles are kept, so that a late trade can correct them.
        fills: see `Series`.
        keeps_history: whether `unsaved` is asked for.
    """

    def __init__(
        self,
        publish: Publish,
        first_seq: int,
        names: TradeNames,
        intervals: list[Interval],
        every_ms: int,
        late_ms: int,
        keep_ms: int,
        fills: bool,
        keeps_history: bool,
    ) -> None:
        super().__init__(publish, first_seq)
        self.names = names
        self.intervals = intervals
        self.every_ms = every_ms
        self.late_ms = late_ms
        self.keep_ms = keep_ms
        self.fills = fills
        self.keeps_history = keeps_history
        self.entries: list[Entry] = []
        self.index: dict[str, int] = {}
        self.touched: list[int] = []
        self.due = Due()
        self.changed: list[tuple[str, str, Candle]] = []

    def row(self, row: Row, now_ms: int) -> None:
        self.trade(trade_of(row, self.names, now_ms), now_ms)

    def trade(self, trade: Trade, now_ms: int) -> None:
        """Take a trade into its candles. Raises `BadValue` where it can't be taken."""
        i = self._index_of(trade.symbol)
        entry = self.entries[i]
        if entry.seen.is_repeated(trade):
            self.counts.repeated += 1
            return
        self.counts.rows += 1
        at_ms = trade.at_us // 1000
        entry.pace.heard(at_ms, now_ms)
        self.counts.late += entry.add(trade, at_ms)
        if not entry.is_touched:
            entry.is_touched = True
            self.touched.append(i)

    def commit(self, now_ms: int) -> None:
        touched, self.touched = self.touched, []
        for i in touched:
            entry = self.entries[i]
            entry.is_touched = False
            if entry.has_news or entry.published_ms + self.every_ms <= now_ms:
                self._publish(entry, now_ms)
            self._schedule(i, now_ms)

    def tick(self, now_ms: int) -> None:
        while True:
            i = self.due.take(now_ms)
            if i < 0:
                return
            entry = self.entries[i]
            entry.scheduled_ms = NEVER_MS
            if entry.is_touched:
                continue  # its transaction is still open, and its commit will schedule it
            time_ms = entry.pace.time_ms(now_ms)
            entry.settle()
            for series in entry.series:
                series.tick(time_ms)
            entry.look()
            if entry.has_news or entry.published_ms + self.every_ms <= now_ms:
                self._publish(entry, now_ms)
            self._schedule(i, now_ms)

    def due_ms(self) -> int:
        return self.due.next_ms()

    def streams(self) -> list[Stream]:
        return [series for entry in self.entries for series in entry.series if series.seq != self.first_seq]

    def unsaved(self) -> list[tuple[str, str, Candle]]:
        """Symbol, interval and candle of all that was told anew since this was last asked."""
        changed, self.changed = self.changed, []
        for _, _, candle in changed:
            candle.is_unsaved = False
        return changed

    def untold(self) -> list[tuple[str, str, Candle]]:
        """The same of what has changed and could not be told yet; for the last time."""
        changed: list[tuple[str, str, Candle]] = []
        for entry in self.entries:
            entry.settle()
            for series in entry.series:
                for candle in series.dirty:
                    if candle.is_unsaved:
                        changed.append((entry.symbol, series.interval.name, candle))
        return changed

    def restore(self, symbol: str, interval: str, candle: Candle, now_ms: int) -> None:
        """A candle from before a restart; those of a series come in their order."""
        entry = self.entries[self._index_of(symbol)]
        for series in entry.series:
            if series.interval.name == interval:
                series.restore(candle)
        if candle.trades and (candle.close_us, candle.close_id) > (entry.newest_us, entry.newest_id):
            entry.newest_us, entry.newest_id = candle.close_us, candle.close_id
        entry.seen.know_until(candle.last_id)
        newest_ms = candle.close_us // 1000 if candle.trades else candle.start_ms
        if newest_ms > entry.pace.newest_ms:
            entry.pace.heard(newest_ms, now_ms)

    def restored(self, now_ms: int) -> None:
        """All has been restored: `tick` tells the newest of it to who is here already, and closes what ended."""
        for i in range(len(self.entries)):
            entry = self.entries[i]
            for series in entry.series:
                series.tell_newest()
            entry.is_dirty = True
            entry.look()
            self._schedule(i, now_ms)

    def caught_up(self, now_ms: int) -> None:
        """Trades come live from now on."""
        for i in range(len(self.entries)):
            pace = self.entries[i].pace
            if pace.behind_ms < 86_400_000:
                pace.behind_ms = 0
            self._schedule(i, now_ms)

    def _index_of(self, symbol: str) -> int:
        i = self.index.get(symbol, -1)
        if i < 0:
            if len(self.entries) >= SYMBOLS_MAX:
                raise BadValue("too_many_symbols")
            i = len(self.entries)
            series = [
                Series(
                    {"symbol": symbol, "interval": interval.name},
                    self.first_seq,
                    interval,
                    self.late_ms,
                    self.keep_ms,
                    self.fills,
                )
                for interval in self.intervals
            ]
            self.entries.append(Entry(symbol, series))
            self.index[symbol] = i
        return i

    def _publish(self, entry: Entry, now_ms: int) -> None:
        entry.settle()
        entry.is_dirty = entry.has_news = False
        for series in entry.series:
            if not series.dirty:
                continue
            entry.published_ms = now_ms
            for candle in series.take_dirty():
                if self.keeps_history and (candle.is_closed or candle.is_unsaved):
                    self.changed.append((entry.symbol, series.interval.name, candle))
                else:
                    candle.is_unsaved = False
                self.counts.messages += 1
                self.publish(series, series.message(candle))

    def _schedule(self, i: int, now_ms: int) -> None:
        entry = self.entries[i]
        at_ms = entry.published_ms + self.every_ms if entry.is_dirty else NEVER_MS
        if entry.closes_ms != NEVER_MS:
            at_ms = min(at_ms, entry.pace.when_ms(entry.closes_ms, now_ms))
        if at_ms < entry.scheduled_ms:
            entry.scheduled_ms = at_ms
            self.due.add(at_ms, i)
