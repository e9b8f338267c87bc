"""The price of a symbol in one line: best bid and ask, what lies in the middle, and the last trade.  Pure."""

from __future__ import annotations

from broker.market.book import Book
from broker.market.calculator import Calculator, Row
from broker.market.numbers import Sum, parse, text_of
from broker.market.stream import Publish, Stream


class PriceLine(Stream):
    """One symbol."""

    def __init__(self, symbol: str, seq: int) -> None:
        super().__init__({"symbol": symbol}, seq)
        self.bid = ""
        self.ask = ""
        self.last = ""
        self.time_ms = 0
        self.text = b""

    def message(self) -> bytes:
        """Its body as it is now; `text` keeps it."""
        fields = [("bid", self.bid), ("ask", self.ask), ("mid", self.mid()), ("last", self.last)]
        texts = [f'"{name}":' + (f'"{text}"' if text else "null") for name, text in fields]
        self.text = f'{{{",".join(texts)},"ts":{self.time_ms}}}'.encode()
        return self.text

    def mid(self) -> str:
        """The middle of bid and ask, exactly; "" unless there are both."""
        if not self.bid or not self.ask:
            return ""
        both = Sum()
        for text in (self.bid, self.ask):
            number = parse(text)
            both.add(number.units, number.scale)
        if both.units % 2 == 0:
            return text_of(both.units // 2, both.scale)
        return text_of(both.units * 5, both.scale + 1)

    def state(self) -> list[bytes]:
        return [self.text] if self.text else []

    def since(self, seq: int) -> list[bytes]:
        return self.state()


class Price(Calculator):
    """Made of what other calculators publish: a message whenever one of the numbers changed."""

    def __init__(self, publish: Publish, first_seq: int) -> None:
        super().__init__(publish, first_seq)
        self.lines: dict[str, PriceLine] = {}

    def row(self, row: Row, now_ms: int) -> None:
        raise NotImplementedError

    def commit(self, now_ms: int) -> None:
        pass

    def tick(self, now_ms: int) -> None:
        pass

    def book(self, book: Book) -> None:
        """A book was published."""
        line = self._line(book.names["symbol"])
        bid, ask = _best(book.bids.top(1)), _best(book.asks.top(1))
        if (bid, ask) != (line.bid, line.ask):
            line.bid, line.ask, line.time_ms = bid, ask, book.time_ms
            self._tell(line)

    def traded(self, symbol: str, price: str, time_ms: int) -> None:
        """Trades were published, this price last."""
        line = self._line(symbol)
        if price != line.last:
            line.last, line.time_ms = price, time_ms
            if line.text:
                self._tell(line)

    def streams(self) -> list[Stream]:
        return [line for line in self.lines.values() if line.text]

    def _line(self, symbol: str) -> PriceLine:
        line = self.lines.get(symbol)
        if line is None:
            line = self.lines[symbol] = PriceLine(symbol, self.first_seq)
        return line

    def _tell(self, line: PriceLine) -> None:
        line.advance()
        self.counts.messages += 1
        self.publish(line, line.message())


def _best(levels: list[bytes]) -> str:
    return levels[0][2 : levels[0].index(b'"', 2)].decode() if levels else ""
