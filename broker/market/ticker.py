"""The last 24 hours of each symbol, told at an interval, also while nobody trades.  Pure; compiled."""

from __future__ import annotations

from typing import Final

from broker.market.calculator import NEVER_MS, SYMBOLS_MAX, Calculator, Due, Pace, Row
from broker.market.candle import Candle
from broker.market.numbers import BadValue, Number, Sum, percent
from broker.market.stream import Publish, Stream
from broker.market.times import MINUTE_MS
from broker.market.trade import Seen, Trade, TradeNames, trade_of
from broker.market.window import RollingWindow, minute_of

PERCENT_PLACES: Final = 2


class Quote(Stream):
    """One symbol."""

    def __init__(self, names: dict[str, str], seq: int, minutes: int) -> None:
        super().__init__(names, seq)
        self.window = RollingWindow(minutes)
        self.seen = Seen()
        self.pace = Pace()
        self.text = b""
        self.is_touched = False
        self.published_ms = 0
        self.scheduled_ms = NEVER_MS

    def message(self, time_ms: int) -> bytes:
        """The numbers at this time, as the next message."""
        self.window.slide(time_ms)
        self.advance()
        self.text = self._text(time_ms)
        return self.text

    def _text(self, time_ms: int) -> bytes:
        window = self.window
        last, size = window.last_price, window.last_size
        assert last is not None
        assert size is not None
        kept = window.kept
        opening = kept[0].open if kept else last
        high = window.highs[0].high if kept else last
        low = window.lows[0].low if kept else last
        change = Sum()
        change.add(last.units, last.scale)
        change.add(-opening.units, opening.scale)
        part = "null" if not opening.units else f'"{percent(change, opening, PERCENT_PLACES)}"'
        return (
            f'{{"open":"{opening.text}","high":"{high.text}","low":"{low.text}","last":"{last.text}",'
            f'"last_size":"{size.text}","volume":"{window.volume.text()}","quota":"{window.turnover.text()}",'
            f'"change":"{change.text()}","change_percent":{part},"trades":{window.trades},'
            f'"from":{window.first * MINUTE_MS},"to":{time_ms}}}'
        ).encode()

    def state(self) -> list[bytes]:
        return [self.text] if self.text else []

    def since(self, seq: int) -> list[bytes]:
        return self.state()


class Ticker(Calculator):
    """The windows of one source.

    Args:
        every_ms: how often they are told: at this interval, whether anybody trades or not; 0 is every commit and
            every minute.
        minutes: the window's length.
    """

    def __init__(
        self, publish: Publish, first_seq: int, names: TradeNames, every_ms: int, minutes: int
    ) -> None:
        super().__init__(publish, first_seq)
        self.names = names
        self.every_ms = every_ms
        self.minutes = minutes
        self.quotes: list[Quote] = []
        self.index: dict[str, int] = {}
        self.touched: list[int] = []
        self.due = Due()

    def row(self, row: Row, now_ms: int) -> None:
        self.trade(trade_of(row, self.names, now_ms), now_ms)

    def trade(self, trade: Trade, now_ms: int) -> None:
        """Take a trade into its symbol's window. Raises `BadValue` where it can't be taken."""
        i = self.index.get(trade.symbol, -1)
        if i < 0:
            if len(self.quotes) >= SYMBOLS_MAX:
                raise BadValue("too_many_symbols")
            i = len(self.quotes)
            self.quotes.append(Quote({"symbol": trade.symbol}, self.first_seq, self.minutes))
            self.index[trade.symbol] = i
        quote = self.quotes[i]
        if quote.seen.is_repeated(trade):
            self.counts.repeated += 1
            return
        self.counts.rows += 1
        at_ms = trade.at_us // 1000
        quote.pace.heard(at_ms, now_ms)
        window = quote.window
        if at_ms // MINUTE_MS - window.minutes + 1 > window.first:
            window.slide(max(at_ms, quote.pace.time_ms(now_ms)))
        if not window.add(trade):
            self.counts.late += 1
        if not quote.is_touched:
            quote.is_touched = True
            self.touched.append(i)

    def commit(self, now_ms: int) -> None:
        touched, self.touched = self.touched, []
        for i in touched:
            quote = self.quotes[i]
            quote.is_touched = False
            if quote.published_ms + self.every_ms <= now_ms:
                self._publish(quote, now_ms)
            self._schedule(i, now_ms)

    def tick(self, now_ms: int) -> None:
        while True:
            i = self.due.take(now_ms)
            if i < 0:
                return
            quote = self.quotes[i]
            quote.scheduled_ms = NEVER_MS
            if not quote.is_touched:  # else its transaction is still open
                self._publish(quote, now_ms)
                self._schedule(i, now_ms)

    def due_ms(self) -> int:
        return self.due.next_ms()

    def streams(self) -> list[Stream]:
        return [quote for quote in self.quotes if quote.text]

    def restore(self, symbol: str, candle: Candle, last_size: Number, now_ms: int) -> None:
        """A minute's candle from before a restart; those of a symbol come in their order."""
        i = self.index.get(symbol, -1)
        if i < 0:
            i = len(self.quotes)
            self.quotes.append(Quote({"symbol": symbol}, self.first_seq, self.minutes))
            self.index[symbol] = i
            self.quotes[i].window.slide(now_ms)
        quote = self.quotes[i]
        quote.window.restore(minute_of(candle))
        quote.window.last_price, quote.window.last_size = candle.close, last_size
        quote.window.last_us, quote.window.last_id = candle.close_us, candle.close_id
        quote.seen.know_until(candle.last_id)

    def caught_up(self, now_ms: int) -> None:
        """Trades come live from now on."""
        for i in range(len(self.quotes)):
            pace = self.quotes[i].pace
            if pace.behind_ms < 86_400_000:
                pace.behind_ms = 0
            if self.quotes[i].window.last_price is None:
                continue
            self._publish(self.quotes[i], now_ms)
            self._schedule(i, now_ms)

    def _publish(self, quote: Quote, now_ms: int) -> None:
        quote.published_ms = now_ms
        self.counts.messages += 1
        self.publish(quote, quote.message(quote.pace.time_ms(now_ms)))

    def _schedule(self, i: int, now_ms: int) -> None:
        quote = self.quotes[i]
        every_ms = self.every_ms if self.every_ms else MINUTE_MS  # the window slides while nobody trades
        at_ms = quote.published_ms + every_ms
        if at_ms < quote.scheduled_ms:
            quote.scheduled_ms = at_ms
            self.due.add(at_ms, i)
