"""Order books: rows to the changes that each symbol's readers are told.  Pure; compiled.

Published at commits only, at most every `every_ms` for a symbol, and never while a bid meets an ask, unless that
lasts longer than `crossed_for_ms`.
"""

from __future__ import annotations

from typing import Final

from broker.market.book import Book, Side
from broker.market.calculator import SYMBOLS_MAX, Calculator, Due, Row, is_buy, symbol_of
from broker.market.levels import (
    DepthNames,
    Level,
    Said,
    action_of,
    is_one_level,
    level_of,
    level_said,
    said_of,
)
from broker.market.numbers import BadValue
from broker.market.orders import Event, Orders, event_of
from broker.market.snapshots import differences
from broker.market.stream import Publish, Stream
from broker.market.times import time_us
from broker.market.written import EMPTY, Unread, Written, are_alike, written_from, written_of

LEVELS_MAX: Final = 200_000
"""Of one side of one book.  A row that would make it larger is refused."""

ROW_LEVELS_MAX: Final = 50_000
"""Of one side in one row."""


class Entry:
    """One symbol."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.bids = EMPTY
        self.asks = EMPTY
        """The last snapshot, as `broker.market.snapshots` compares it."""
        self.is_snapshots = True
        """The book is the last snapshot's: no change has come since, and no level of size 0 was in it."""
        self.is_filling = False
        """The last row was a level of a whole book, of which one row is one level."""
        self.orders: Orders | None = None
        self.published_ms = 0
        self.crossed_since_ms = 0
        self.is_touched = False
        self.waits = False
        self.time_ms = 0


class Depth(Calculator):
    """The books of one source.

    Args:
        shape: `snapshot` (a row is a whole book), `levels` (a row is a level) or `diffs` (a row has levels).
        depth: levels a side that are published.
        source_depth: levels a side that a source of `diffs` tells of; what falls behind them is forgotten.  0: all.
    """

    def __init__(
        self,
        publish: Publish,
        first_seq: int,
        names: DepthNames,
        shape: str,
        every_ms: int,
        depth: int,
        checksum: bool,
        crossed_for_ms: int,
        source_depth: int = 0,
    ) -> None:
        super().__init__(publish, first_seq)
        self.names = names
        self.shape = shape
        self.every_ms = every_ms
        self.depth = depth
        self.checksum = checksum
        self.crossed_for_ms = crossed_for_ms
        self.source_depth = source_depth
        self.entries: list[Entry] = []
        self.index: dict[str, int] = {}
        self.touched: list[int] = []
        self.due = Due()

    # --- rows ----------------------------------------------------------------------------------------------

    def row(self, row: Row, now_ms: int) -> None:
        names = self.names
        action = action_of(row, names) if names.actions is not None or self.shape == "diffs" else "set"
        if action == "ignore":
            return
        symbol = symbol_of(row, names.symbol)
        at_ms = time_us(row.get(names.time)) // 1000 if names.time else now_ms
        if self.shape == "levels":
            self._level_row(symbol, row, action, at_ms)
            return
        bids, asks = row.get(names.bids), row.get(names.asks)
        if self.shape == "diffs":
            if names.whole_bids and (
                row.get(names.whole_bids) is not None or row.get(names.whole_asks) is not None
            ):
                bids, asks, action = row.get(names.whole_bids), row.get(names.whole_asks), "whole"
            if bids is None and asks is None:
                self._changes_row(symbol, row, action, at_ms)
                return
            bids, asks = [] if bids is None else bids, [] if asks is None else asks
        elif action == "set":
            action = "whole"
        if isinstance(bids, Unread) or isinstance(asks, Unread):
            if action == "whole" and names.is_plain and self._set_unread(symbol, bids, asks, at_ms):
                return
            bids, asks = _read(bids), _read(asks)
        if not isinstance(bids, list) or not isinstance(asks, list):
            raise BadValue("no_levels")
        _check_length(bids)
        _check_length(asks)
        if not names.is_plain or action == "remove":
            levels = [said_of(one, names, 1) for one in bids]
            levels += [said_of(one, names, -1) for one in asks]
            self._said_levels(symbol, levels, action, at_ms)
        elif action == "whole":
            self.set_book(symbol, bids, asks, at_ms)
        else:
            self.change_book(symbol, bids, asks, at_ms)

    def _level_row(self, symbol: str, row: Row, action: str, at_ms: int) -> None:
        """A row that is one level, or one order.  Raises: BadValue."""
        names = self.names
        if names.is_plain and names.actions is None and action == "set":
            self.set_level(symbol, row.get(names.side), row.get(names.price), row.get(names.size), at_ms)
            return
        said = said_of(row, names, 0)
        if names.id:
            self._orders(symbol, [event_of(said, action)], False, at_ms)
            return
        level = level_said(said, action)
        i = self._index_of(symbol)
        entry = self.entries[i]
        self._check_room(entry.book.bids if said.side > 0 else entry.book.asks, 1)
        if action == "whole" and not entry.is_filling:
            entry.book.stage_whole([], [])
        entry.book.stage(said.side > 0, level[0], level[1])
        entry.is_filling = action == "whole"
        self._touch(i, at_ms)

    def _changes_row(self, symbol: str, row: Row, action: str, at_ms: int) -> None:
        """A row that has both sides' levels in one list.  Raises: BadValue."""
        names = self.names
        changes = row.get(names.changes)
        if not isinstance(changes, list):
            raise BadValue("no_levels")
        _check_length(changes)
        if is_one_level(changes):
            changes = [changes]
        elif names.are_lists_whole:
            action = "whole"
        self._said_levels(symbol, [said_of(change, names, 0) for change in changes], action, at_ms)

    def _said_levels(self, symbol: str, levels: list[Said], action: str, at_ms: int) -> None:
        """Levels, or orders, that a row says.  Raises: BadValue."""
        if self.names.id:
            events = [event_of(said, action) for said in levels]
            self._orders(symbol, events, action == "whole", at_ms)
            return
        bids: list[object] = []
        asks: list[object] = []
        for said in levels:
            if not said.side:
                raise BadValue("bad_side")
            (bids if said.side > 0 else asks).append([said.price, "0" if action == "remove" else said.size])
        if action == "whole":
            self.set_book(symbol, bids, asks, at_ms)
        else:
            self.change_book(symbol, bids, asks, at_ms)

    def _orders(self, symbol: str, events: list[Event], is_whole: bool, at_ms: int) -> None:
        """What happens to orders; their levels are the sums.  Raises: BadValue."""
        i = self._index_of(symbol)
        entry = self.entries[i]
        orders = entry.orders
        if orders is None:
            orders = entry.orders = Orders()
        orders.check(events, is_whole)
        self._check_room(entry.book.bids, len(events))
        self._check_room(entry.book.asks, len(events))
        if is_whole:
            orders.forget()
        for event in events:
            orders.apply(event)
        for pile in orders.touched():
            entry.book.stage(pile.side > 0, pile.price, pile.size())
        self._touch(i, at_ms)

    def unread(self) -> list[str]:
        names = self.names
        is_whole = self.shape == "snapshot" and names.is_plain and names.actions is None
        return [names.bids, names.asks] if is_whole else []

    def removed(self, row: Row, now_ms: int) -> None:
        symbol = symbol_of(row, self.names.symbol)
        if self.shape == "levels":
            self._level_row(symbol, row, "remove", now_ms)
        elif self.shape == "snapshot":
            self.set_book(symbol, [], [], now_ms)

    def set_level(self, symbol: str, side: object, price: object, size: object, at_ms: int) -> None:
        """One level has this size from now on.  Raises: BadValue."""
        is_bid = is_buy(side, self.names.sides)
        level = level_of(price, size)
        i = self._index_of(symbol)
        book = self.entries[i].book
        self._check_room(book.bids if is_bid else book.asks, 1)
        book.stage(is_bid, level[0], level[1])
        self._touch(i, at_ms)

    def change_book(self, symbol: str, bids: list[object], asks: list[object], at_ms: int) -> None:
        """These levels have these sizes from now on.  Raises: BadValue."""
        bid_levels = [self._pair(pair) for pair in bids]
        ask_levels = [self._pair(pair) for pair in asks]
        i = self._index_of(symbol)
        book = self.entries[i].book
        self._check_room(book.bids, len(bids))
        self._check_room(book.asks, len(asks))
        self.entries[i].is_snapshots = False
        for bid in bid_levels:
            book.stage(True, bid[0], bid[1])
        for ask in ask_levels:
            book.stage(False, ask[0], ask[1])
        if self.source_depth:
            book.bids.stage_best_only(self.source_depth)
            book.asks.stage_best_only(self.source_depth)
        self._touch(i, at_ms)

    def set_book(self, symbol: str, bids: list[object], asks: list[object], at_ms: int) -> None:
        """The book is this from now on.  Raises: BadValue."""
        i = self._index_of(symbol)
        names = self.names
        self._set_written(
            i, written_from(bids, names.price, names.size), written_from(asks, names.price, names.size), at_ms
        )

    def _set_unread(self, symbol: str, bids: object, asks: object, at_ms: int) -> bool:
        """The same; False if they must be read, to do it or to say what is wrong.  Raises: BadValue."""
        i = self._index_of(symbol)
        if not isinstance(bids, Unread) or not isinstance(asks, Unread):
            return False
        entry, names = self.entries[i], self.names
        try:
            written_bids = written_of(bids, entry.bids.form, names.price, names.size)
            written_asks = written_of(asks, entry.asks.form, names.price, names.size)
            if written_bids.has_more_than(ROW_LEVELS_MAX) or written_asks.has_more_than(ROW_LEVELS_MAX):
                return False
            self._set_written(i, written_bids, written_asks, at_ms)
        except BadValue:
            return False
        return True

    def _set_written(self, i: int, bids: Written, asks: Written, at_ms: int) -> None:
        """Raises: BadValue, and then nothing has changed."""
        entry = self.entries[i]
        if not entry.is_snapshots or not self._stage_differences(entry, bids, asks):
            self._stage_whole(entry, bids, asks)
        entry.bids, entry.asks = bids, asks
        self._touch(i, at_ms)

    def _stage_differences(self, entry: Entry, bids: Written, asks: Written) -> bool:
        """What leads from the last snapshot to this one; False if it takes the whole.  Raises: BadValue."""
        if not are_alike(entry.bids, bids) or not are_alike(entry.asks, asks):
            return False
        of_bids = differences(entry.bids, bids)
        of_asks = differences(entry.asks, asks)
        if of_bids.has_zero or of_asks.has_zero:
            return False
        entry.book.stage_differences(of_bids, of_asks)
        return True

    def _stage_whole(self, entry: Entry, written_bids: Written, written_asks: Written) -> None:
        """All of a snapshot, whatever the book was before.  Raises: BadValue."""
        bids = [written_bids.form.level(price, size) for price, size in written_bids.pairs()]
        asks = [written_asks.form.level(price, size) for price, size in written_asks.pairs()]
        entry.book.check_distinct(bids)
        entry.book.check_distinct(asks)
        sized_bids = [level for level in bids if level[1].units]
        sized_asks = [level for level in asks if level[1].units]
        entry.book.stage_whole(sized_bids, sized_asks)
        entry.is_snapshots = len(sized_bids) == len(bids) and len(sized_asks) == len(asks)

    def _pair(self, pair: object) -> Level:
        if isinstance(pair, list) and len(pair) >= 2:
            return level_of(pair[0], pair[1])
        if isinstance(pair, dict):
            return level_of(pair.get(self.names.price), pair.get(self.names.size))
        raise BadValue("bad_level")

    def _check_room(self, side: Side, count: int) -> None:
        if len(side.levels) + len(side.staged) + count > LEVELS_MAX:
            raise BadValue("book_too_large")

    def _index_of(self, symbol: str) -> int:
        i = self.index.get(symbol, -1)
        if i < 0:
            if len(self.entries) >= SYMBOLS_MAX:
                raise BadValue("too_many_symbols")
            i = len(self.entries)
            self.entries.append(Entry(Book({"symbol": symbol}, self.first_seq, self.depth, self.checksum)))
            self.index[symbol] = i
        return i

    def _touch(self, i: int, at_ms: int) -> None:
        self.counts.rows += 1
        entry = self.entries[i]
        entry.time_ms = at_ms
        if not entry.is_touched:
            entry.is_touched = True
            self.touched.append(i)

    # --- messages ------------------------------------------------------------------------------------------

    def commit(self, now_ms: int) -> None:
        touched, self.touched = self.touched, []
        for i in touched:
            entry = self.entries[i]
            entry.is_touched = False
            at_ms = entry.published_ms + self.every_ms
            if at_ms <= now_ms:
                self._publish(i, now_ms)
            else:
                self._wait(i, at_ms)

    def tick(self, now_ms: int) -> None:
        while True:
            i = self.due.take(now_ms)
            if i < 0:
                return
            self.entries[i].waits = False
            if self.entries[i].is_touched:
                self._wait(i, now_ms + 1)  # its transaction is still open
                return
            self._publish(i, now_ms)

    def due_ms(self) -> int:
        return self.due.next_ms()

    def reset(self, now_ms: int) -> None:
        super().reset(now_ms)
        for i in range(len(self.entries)):
            entry = self.entries[i]
            if entry.book.seq != self.first_seq:
                entry.book.is_fresh = True
                self._publish(i, now_ms)

    def streams(self) -> list[Stream]:
        return [entry.book for entry in self.entries if entry.book.seq != self.first_seq]

    def _wait(self, i: int, at_ms: int) -> None:
        entry = self.entries[i]
        if not entry.waits:
            entry.waits = True
            self.due.add(at_ms, i)

    def _publish(self, i: int, now_ms: int) -> None:
        entry = self.entries[i]
        book = entry.book
        if not book.has_staged() and not book.is_fresh:
            return
        if book.is_crossed():
            if not entry.crossed_since_ms:
                entry.crossed_since_ms = now_ms
                self.counts.crossed += 1
            until_ms = entry.crossed_since_ms + self.crossed_for_ms
            if now_ms < until_ms:
                self._wait(i, until_ms)
                return
        else:
            entry.crossed_since_ms = 0
        message = book.apply(entry.time_ms)
        if message:
            entry.published_ms = now_ms
            self.counts.messages += 1
            self.publish(book, message)


def _read(levels: object) -> object:
    """Raises: BadValue."""
    return levels.levels() if isinstance(levels, Unread) else levels


def _check_length(levels: list[object]) -> None:
    if len(levels) > ROW_LEVELS_MAX:
        raise BadValue("book_too_large")
