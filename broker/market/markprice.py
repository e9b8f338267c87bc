"""Mark prices: what the product's formula gives, an index of several prices, its mean over time, and funding.

Nothing is invented: what isn't known is null, and what is old is said to be `stale`.  Pure.
"""

from __future__ import annotations

from collections import deque
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from broker.market.calculator import NEVER_MS, SYMBOLS_MAX, Calculator, Due, Row, symbol_of
from broker.market.numbers import BadValue, parse
from broker.market.stream import Publish, Stream
from broker.market.times import time_us

_EXACT: Final = Context(prec=80, rounding=ROUND_HALF_EVEN)
"""Twice the digits of a number, so that sums and products of two are exact."""

FUNDING_PLACES: Final = 6

SAMPLES_MAX: Final = 100_000
"""Index values of a symbol that a mean over time is made of; then the oldest go early."""


class MarkNames:
    """What the columns are called; those that a row hasn't are calculated, or null."""

    def __init__(
        self,
        symbol: str = "symbol",
        mark: str = "mark",
        price: str = "price",
        source: str = "source",
        index: str = "index",
        settle: str = "settle",
        funding: str = "funding",
        next_funding: str = "next_funding",
    ) -> None:
        self.symbol = symbol
        self.mark = mark
        self.price = price
        self.source = source
        self.index = index
        self.settle = settle
        self.funding = funding
        self.next_funding = next_funding


class MarkRules:
    """How it is calculated.

    Args:
        every_ms: how often it is told.
        stale_after_ms: how old an input may be.
        parts: whose prices the index is made of; empty: the rows have it.
        how: `median` or `mean`.
        outlier: a part that is farther from the median than this share of it is left out.
        settle_ms: over how long the settlement price is a mean of the index, each value for as long as it held;
            0: the rows have it.
        funding_ms: how long a funding period is; 0: the rows have it.
        clamp: the highest funding rate, and the lowest with a minus.
    """

    def __init__(
        self,
        every_ms: int,
        stale_after_ms: int,
        parts: list[str],
        how: str,
        outlier: Decimal,
        settle_ms: int,
        funding_ms: int,
        clamp: Decimal,
    ) -> None:
        self.every_ms = every_ms
        self.stale_after_ms = stale_after_ms
        self.parts = parts
        self.how = how
        self.outlier = outlier
        self.settle_ms = settle_ms
        self.funding_ms = funding_ms
        self.clamp = clamp


class Mean:
    """A mean over time: each value counts for as long as it was the newest.

    Args:
        keep_ms: how far back; NEVER_MS until `restart`.
    """

    def __init__(self, keep_ms: int) -> None:
        self.keep_ms = keep_ms
        self._samples: deque[tuple[int, Decimal]] = deque()
        self._area = Decimal(0)
        """Of value × milliseconds, from the oldest sample to the newest."""

    def add(self, at_ms: int, value: Decimal) -> None:
        """The value holds from `at_ms` on, until the next; what is older than the window goes."""
        samples = self._samples
        if samples:
            last_ms, last = samples[-1]
            at_ms = max(at_ms, last_ms)
            self._area = _EXACT.add(self._area, last * (at_ms - last_ms))
        samples.append((at_ms, value))
        while len(samples) > 1 and (samples[1][0] <= at_ms - self.keep_ms or len(samples) > SAMPLES_MAX):
            first_ms, first = samples.popleft()
            self._area = _EXACT.subtract(self._area, first * (samples[0][0] - first_ms))

    def restart(self, at_ms: int) -> None:
        """Forget all but that the newest value holds since `at_ms`."""
        if self._samples:
            last = self._samples[-1][1]
            self._samples.clear()
            self._samples.append((at_ms, last))
            self._area = Decimal(0)

    def at(self, now_ms: int) -> Decimal | None:
        """The mean up to now; None if there was no value."""
        samples = self._samples
        if not samples:
            return None
        first_ms, first = samples[0]
        last_ms, last = samples[-1]
        begin_ms = max(first_ms, now_ms - self.keep_ms)
        if now_ms <= begin_ms or begin_ms >= last_ms:
            return last
        area = _EXACT.add(self._area, last * (now_ms - last_ms))
        area = _EXACT.subtract(area, first * (begin_ms - first_ms))
        return _EXACT.divide(area, Decimal(now_ms - begin_ms))


class MarkPriceStream(Stream):
    """One symbol."""

    def __init__(self, names: dict[str, str], seq: int, rules: MarkRules) -> None:
        super().__init__(names, seq)
        self.rules = rules
        self.known: dict[str, str] = {}
        self.known_ms = 0
        self.parts: dict[str, tuple[Decimal, int]] = {}
        self.places = 0
        self.settle = Mean(rules.settle_ms)
        self.premium = Mean(NEVER_MS)
        self.period_ms = 0
        self.text = b""
        self.published_ms = 0
        self.scheduled_ms = NEVER_MS
        self.is_touched = False

    def index(self, now_ms: int) -> Decimal | None:
        """The index of the parts that are fresh and near the others."""
        rules = self.rules
        prices = sorted(
            price for price, at_ms in self.parts.values() if at_ms > now_ms - rules.stale_after_ms
        )
        if not prices:
            return None
        middle = _median(prices)
        near = [price for price in prices if abs(price - middle) <= rules.outlier * abs(middle)] or prices
        found = _median(near) if rules.how == "median" else sum(near, Decimal(0)) / len(near)
        return _rounded(found, self.places)

    def is_stale(self, now_ms: int) -> bool:
        """Whether what it is made of is too old to be believed."""
        rules = self.rules
        if now_ms - self.known_ms > rules.stale_after_ms:
            return True
        if not rules.parts:
            return False
        fresh = [at_ms for _, at_ms in self.parts.values() if at_ms > now_ms - rules.stale_after_ms]
        return len(fresh) < len(rules.parts)

    def message(self, now_ms: int) -> bytes:
        """What is known now, as the next message."""
        self.advance()
        self.text = self._text(now_ms)
        return self.text

    def _text(self, now_ms: int) -> bytes:
        rules, known = self.rules, self.known
        index = known.get("index")
        settle = known.get("settle")
        funding = known.get("funding")
        next_funding = known.get("next_funding")
        value = self.index(now_ms) if rules.parts else None if index is None else Decimal(index)
        if rules.parts:
            index = None if value is None else format(value, "f")
        if value is not None and rules.settle_ms:
            self.settle.add(now_ms, value)
        if rules.settle_ms:
            mean = self.settle.at(now_ms)
            settle = None if mean is None else format(_rounded(mean, self.places), "f")
        if rules.funding_ms:
            next_funding = str(now_ms - now_ms % rules.funding_ms + rules.funding_ms)
            funding = self._funding(known.get("mark"), value, now_ms)
        fields = [("mark", known.get("mark")), ("index", index), ("settle", settle), ("funding", funding)]
        texts = [f'"{name}":' + ("null" if text is None else f'"{text}"') for name, text in fields]
        stale = "true" if self.is_stale(now_ms) else "false"
        return f'{{{",".join(texts)},"next_funding":{next_funding or "null"},"stale":{stale}}}'.encode()

    def _funding(self, mark: str | None, index: Decimal | None, now_ms: int) -> str | None:
        """The mean premium of the mark over the index since the period began, clamped."""
        period_ms = now_ms - now_ms % self.rules.funding_ms
        if period_ms != self.period_ms:
            self.period_ms = period_ms
            self.premium.restart(period_ms)
        if mark is not None and index is not None and index:
            self.premium.add(now_ms, _EXACT.divide(Decimal(mark) - index, index))
        mean = self.premium.at(now_ms)
        if mean is None:
            return None
        clamp = self.rules.clamp
        return format(_rounded(min(max(mean, -clamp), clamp), FUNDING_PLACES), "f")

    def state(self) -> list[bytes]:
        return [self.text] if self.text else []

    def since(self, seq: int) -> list[bytes]:
        return self.state()


class MarkPrice(Calculator):
    """The mark prices of one source, or of one with those that make up its index."""

    def __init__(self, publish: Publish, first_seq: int, names: MarkNames, rules: MarkRules) -> None:
        super().__init__(publish, first_seq)
        self.names = names
        self.rules = rules
        self.marks: list[MarkPriceStream] = []
        self.by_symbol: dict[str, int] = {}
        self.touched: list[int] = []
        self.due = Due()

    def row(self, row: Row, now_ms: int) -> None:
        names = self.names
        symbol = symbol_of(row, names.symbol)
        part = row.get(names.source)
        if isinstance(part, str) and part in self.rules.parts:
            self.part(symbol, part, row.get(names.price), now_ms)
            return
        known: dict[str, str] = {}
        mark_name = names.mark if row.get(names.mark) is not None else names.price
        for field, name in (
            ("mark", mark_name),
            ("index", names.index),
            ("settle", names.settle),
            ("funding", names.funding),
        ):
            value = row.get(name)
            if value is not None:
                known[field] = parse(value).text
        moment = row.get(names.next_funding)
        if moment is not None:
            known["next_funding"] = str(time_us(moment) // 1000)
        parts = [(name, parse(row[name]).text) for name in self.rules.parts if row.get(name) is not None]
        if not known and not parts:
            raise BadValue("missing_price")
        mark = self._touch(symbol)
        mark.known = known
        mark.known_ms = now_ms
        for text in (*known.values(), *(text for _, text in parts)):
            self._count_places(mark, text, known)
        for name, text in parts:
            mark.parts[name] = (Decimal(text), now_ms)

    def part(self, symbol: str, part: str, price: object, now_ms: int) -> None:
        """One of the index' prices.  Raises: BadValue."""
        if price is None:
            raise BadValue("missing_price")
        number = parse(price)
        mark = self._touch(symbol)
        mark.places = max(mark.places, number.scale)
        mark.parts[part] = (Decimal(number.text), now_ms)
        if not mark.known:
            mark.known_ms = now_ms

    def _count_places(self, mark: MarkPriceStream, text: str, known: dict[str, str]) -> None:
        if text != known.get("funding") and text != known.get("next_funding"):
            mark.places = max(mark.places, len(text.partition(".")[2]))

    def _touch(self, symbol: str) -> MarkPriceStream:
        i = self.by_symbol.get(symbol, -1)
        if i < 0:
            if len(self.marks) >= SYMBOLS_MAX:
                raise BadValue("too_many_symbols")
            i = len(self.marks)
            self.marks.append(MarkPriceStream({"symbol": symbol}, self.first_seq, self.rules))
            self.by_symbol[symbol] = i
        self.counts.rows += 1
        mark = self.marks[i]
        if not mark.is_touched:
            mark.is_touched = True
            self.touched.append(i)
        return mark

    def commit(self, now_ms: int) -> None:
        touched, self.touched = self.touched, []
        for i in touched:
            mark = self.marks[i]
            mark.is_touched = False
            if mark.published_ms + self.rules.every_ms <= now_ms:
                self._publish(mark, now_ms)
            self._schedule(i)

    def tick(self, now_ms: int) -> None:
        while True:
            i = self.due.take(now_ms)
            if i < 0:
                return
            mark = self.marks[i]
            mark.scheduled_ms = NEVER_MS
            if not mark.is_touched:  # else its transaction is still open
                self._publish(mark, now_ms)
                self._schedule(i)

    def due_ms(self) -> int:
        return self.due.next_ms()

    def streams(self) -> list[Stream]:
        return [mark for mark in self.marks if mark.text]

    def _publish(self, mark: MarkPriceStream, now_ms: int) -> None:
        mark.published_ms = now_ms
        self.counts.messages += 1
        self.publish(mark, mark.message(now_ms))

    def _schedule(self, i: int) -> None:
        mark = self.marks[i]
        at_ms = mark.published_ms + max(self.rules.every_ms, 1)
        if not self.rules.every_ms:
            at_ms = max(mark.published_ms + 1000, mark.known_ms + self.rules.stale_after_ms + 1)
        if at_ms < mark.scheduled_ms:
            mark.scheduled_ms = at_ms
            self.due.add(at_ms, i)


def _median(prices: list[Decimal]) -> Decimal:
    middle = len(prices) // 2
    if len(prices) % 2:
        return prices[middle]
    return _EXACT.divide(_EXACT.add(prices[middle - 1], prices[middle]), Decimal(2))


def _rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), context=_EXACT)
