"""Public trades, fewer: those of one order at one price become one entry, and entries go out at an interval.  Pure;
compiled.

Invariant: an entry says of all trades from its `first` to its `last`, which are neighbours of one price and side;
each trade is in one entry.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Final

from broker.market.calculator import SYMBOLS_MAX, Calculator, Due, Row
from broker.market.numbers import BadValue, Sum
from broker.market.stream import Publish, Stream
from broker.market.trade import Seen, Trade, TradeNames, trade_of

REMEMBERED_MAX: Final = 1000
"""Entries of a symbol that a slow reader can still be given."""

WAITING_MAX: Final = 10_000
"""Entries of a symbol that wait for the end of the interval; then they go out before it."""


class Fill:
    """An entry, before it goes out."""

    def __init__(self, trade: Trade, id: int, key: str) -> None:
        self.last = id
        self.first_text = self.last_text = _shown(id, trade)
        self.price = trade.price
        self.size = trade.size
        self.sum: Sum | None = None
        """Of the sizes, once there are several."""
        self.side = trade.side
        self.key = key
        self.at_us = trade.at_us

    def takes(self, trade: Trade, id: int, key: str) -> bool:
        """Add a trade if it is the next one, and of the same price, side and key."""
        price = self.price
        if id != self.last + 1 or key != self.key or trade.side != self.side:
            return False
        if trade.price.units != price.units or trade.price.scale != price.scale:
            return False
        self.last = id
        self.last_text = _shown(id, trade)
        total = self.sum
        if total is None:
            total = self.sum = Sum()
            total.add(self.size.units, self.size.scale)
        total.add(trade.size.units, trade.size.scale)
        if trade.at_us > self.at_us:
            self.at_us = trade.at_us
        return True

    def text(self) -> str:
        """The fill as a JSON object."""
        last = self.last_text
        size = self.size.text if self.sum is None else self.sum.text()
        side = f'"side":"{self.side}",' if self.side else ""
        return (
            f'{{"id":{last},"first":{self.first_text},"last":{last},"price":"{self.price.text}",'
            f'"size":"{size}",{side}"ts":{self.at_us // 1000}}}'
        )


def _shown(number: int, trade: Trade) -> str:
    """An id as JSON: a number if it is one."""
    id = trade.id
    if not id:
        return str(number)
    return id if trade.number >= 0 and (id == "0" or not id.startswith("0")) else _as_text(id)


def _as_text(id: str) -> str:
    return id if id.isdigit() and id.isascii() and id[0] != "0" else json.dumps(id)


class Told:
    """A message's entries."""

    def __init__(self, seq: int, texts: list[str]) -> None:
        self.seq = seq
        self.texts = texts


class Tape(Stream):
    """One symbol's entries.

    Args:
        recent_max: entries that a new reader gets.
    """

    def __init__(self, names: dict[str, str], seq: int, recent_max: int) -> None:
        super().__init__(names, seq)
        self.recent_max = recent_max
        self.last: Fill | None = None
        """What the next trade may still be merged into."""
        self.waiting: list[str] = []
        """Texts of those before it."""
        self.seen = Seen()
        self.numbered = 0
        self.published_ms = 0
        self.is_touched = False
        self.waits = False
        self.kept: deque[Told] = deque()
        self.kept_count = 0

    def take(self, trade: Trade, key: str) -> None:
        """Add a trade: to the last line of the tape, if it belongs to that, or as the next one."""
        # Without numbers of theirs, trades get ours.  Ids that are text are in the order in which they come.
        self.numbered += 1
        id = trade.number if trade.number >= 0 else self.numbered
        last = self.last
        if last is not None:
            if last.takes(trade, id, key):
                return
            self.waiting.append(last.text())
        self.last = Fill(trade, id, key)

    def count(self) -> int:
        """Entries that wait."""
        return len(self.waiting) if self.last is None else len(self.waiting) + 1

    def message(self) -> bytes:
        """What waited, as the next message."""
        self.advance()
        texts, self.waiting = self.waiting, []
        if self.last is not None:
            texts.append(self.last.text())
            self.last = None
        self.kept.append(Told(self.seq, texts))
        self.kept_count += len(texts)
        while self.kept_count - len(self.kept[0].texts) >= REMEMBERED_MAX:
            self.kept_count -= len(self.kept.popleft().texts)
        return _array(texts)

    def state(self) -> list[bytes]:
        if not self.recent_max or not self.kept:
            return []
        texts: list[str] = []
        for told in self.kept:
            texts += told.texts
        return [_array(texts[-self.recent_max :])]

    def since(self, seq: int) -> list[bytes]:
        texts: list[str] = []
        for told in self.kept:
            if told.seq > seq:
                texts += told.texts
        return [_array(texts)] if texts else []


def _array(texts: list[str]) -> bytes:
    return ("[" + ",".join(texts) + "]").encode()


class Trades(Calculator):
    """The trades of one source.

    Args:
        every_ms: the interval; 0 is every commit.
        merge_by: columns; neighbours with the same values in them, and the same price and side, are merged.  Empty:
            nothing is merged.
        recent_max: entries that a new reader gets.
    """

    def __init__(
        self,
        publish: Publish,
        first_seq: int,
        names: TradeNames,
        every_ms: int,
        merge_by: list[str],
        recent_max: int,
    ) -> None:
        super().__init__(publish, first_seq)
        self.names = names
        self.every_ms = every_ms
        self.merge_by = merge_by
        self.recent_max = min(recent_max, REMEMBERED_MAX)
        self.tapes: list[Tape] = []
        self.index: dict[str, int] = {}
        self.touched: list[int] = []
        self.due = Due()

    def row(self, row: Row, now_ms: int) -> None:
        trade = trade_of(row, self.names, now_ms)
        key = ""
        for name in self.merge_by:
            value = row.get(name)
            text = value if isinstance(value, str) else repr(value)
            key = f"{key}\0{text}" if key else text
        self.trade(trade, key)

    def trade(self, trade: Trade, key: str) -> None:
        """Take a trade, merged with its neighbours of the same `key`. Raises `BadValue` where it can't be."""
        i = self.index.get(trade.symbol, -1)
        if i < 0:
            if len(self.tapes) >= SYMBOLS_MAX:
                raise BadValue("too_many_symbols")
            i = len(self.tapes)
            self.tapes.append(Tape({"symbol": trade.symbol}, self.first_seq, self.recent_max))
            self.index[trade.symbol] = i
        tape = self.tapes[i]
        if tape.seen.is_repeated(trade):
            self.counts.repeated += 1
            return
        self.counts.rows += 1
        if not self.merge_by and tape.last is not None:
            tape.last.key = "-"
        tape.take(trade, key)
        if not tape.is_touched:
            tape.is_touched = True
            self.touched.append(i)

    def commit(self, now_ms: int) -> None:
        touched, self.touched = self.touched, []
        for i in touched:
            tape = self.tapes[i]
            tape.is_touched = False
            at_ms = tape.published_ms + self.every_ms
            if at_ms <= now_ms or tape.count() >= WAITING_MAX:
                self._publish(tape, now_ms)
            elif not tape.waits:
                tape.waits = True
                self.due.add(at_ms, i)

    def tick(self, now_ms: int) -> None:
        while True:
            i = self.due.take(now_ms)
            if i < 0:
                return
            tape = self.tapes[i]
            tape.waits = False
            if not tape.is_touched:  # its transaction is still open
                self._publish(tape, now_ms)

    def due_ms(self) -> int:
        return self.due.next_ms()

    def streams(self) -> list[Stream]:
        return [tape for tape in self.tapes if tape.kept]

    def restore(self, row: Row, now_ms: int) -> None:
        """A trade that was published before: it is known again, and new readers get it.  Raises: BadValue."""
        trade = trade_of(row, self.names, now_ms)
        self.trade(trade, "")
        tape = self.tapes[self.index[trade.symbol]]
        if tape.last is not None:
            tape.message()
        self.touched.clear()
        tape.is_touched = False

    def _publish(self, tape: Tape, now_ms: int) -> None:
        if tape.last is not None:
            tape.published_ms = now_ms
            self.counts.messages += 1
            self.publish(tape, tape.message())
