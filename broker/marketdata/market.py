"""All calculators of one process: rows to them, their messages to channels, and the clock.  Synchronous.

Rows come by taps, which number what calculators take; `commit` is where a source's transaction ends.  What a row or a
calculator gets wrong costs that row or that message, and is counted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from broker.config.feeds import Route
from broker.config.market import CALCULATORS, PREFIX, MarketConfig, Tap, shown_name
from broker.config.templates import KIND
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.feed.routing.rowtext import Columns, NotARow, columns_of
from broker.feed.routing.templates import DialectTopics, MqttTopics, Unfit
from broker.feed.status import FeedStatus
from broker.links.barrier import barrier
from broker.market.book import Book
from broker.market.calculator import NEVER_MS, Calculator
from broker.market.kline import Kline
from broker.market.markprice import MarkPrice
from broker.market.numbers import BadValue
from broker.market.price import Price
from broker.market.stream import Stream
from broker.market.ticker import Ticker
from broker.market.trades import Tape
from broker.marketdata import build, parts
from broker.marketdata.parts import StreamPart
from broker.marketdata.unread import Readers, readers_of, row_columns

ROW_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one row's text; a longer one is refused unread."""


class Running:
    """One calculator with what belongs to it.

    Attributes:
        status: its counters, as those of a feed.
    """

    def __init__(self, kind: str, names: frozenset[str], routes: list[Route], status: FeedStatus) -> None:
        self.kind = kind
        self.names = names
        self.routes = routes
        self.status = status
        self.calculator: Calculator
        self.parts: dict[Stream, list[StreamPart]] = {}
        self.is_restored = False
        self.is_replayed = False


class Market:
    """The calculators of one process, and what they are told and tell.

    Args:
        config: what is calculated.
        engine: where messages go.
        statuses: the process' feeds by name; each calculator is shown among them.

    Attributes:
        on_earlier: called when something is due sooner than `due_ms` last said.
    """

    def __init__(self, config: MarketConfig, engine: Engine, statuses: dict[str, FeedStatus]) -> None:
        self.config = config
        self.engine = engine
        self.on_earlier: Callable[[], None] = _nothing
        self._now_ms = 0
        self._first_seq = self.now_ms()
        self._statuses = statuses
        self._price: Running | None = None
        self.running: dict[tuple[str, int], Running] = {}
        self._touched: dict[Running, None] = {}
        self._taps: dict[str, tuple[Tap, list[Running], Readers]] = {}
        self._build({})
        self.asleep_until_ms = 0

    def adopt(self, config: MarketConfig) -> None:
        """Another configuration, of which `broker.config.reload_market` has found that it can be taken over."""
        before = {(one.kind, one.status.name): one for one in (*self.running.values(), *self._prices())}
        self.config = config
        self._first_seq = max(self._first_seq, self.now_ms())
        self._build(before)
        kept = {*self.running.values(), *self._prices()}
        for one in before.values():
            if one not in kept:
                self._statuses.pop(one.status.name, None)
                self._touched.pop(one, None)
                for part in itertools.chain(*one.parts.values()):
                    self.engine.parts.discard(part)
        self.on_earlier()

    def _build(self, before: dict[tuple[str, str], Running]) -> None:
        """The calculators and taps of the configuration; those of before go on with their states."""
        self.running = {}
        for kind in CALCULATORS:
            for index, table in enumerate(getattr(self.config, kind)):
                one = before.get((kind, shown_name(kind, index, table)))
                if one is None:
                    self._add(kind, index, table)
                else:
                    self.running[kind, index] = one
                    build.adopt(one.calculator, table)
        self._price = before.get(("price", PREFIX + "price"))
        if not any(route.source == PREFIX + "price" for route in self.config.routes):
            self._price = None
        elif self._price is None:
            self._price = self._start(
                "price", "", "market.price", lambda one: Price(self._publisher(one), self._first_seq)
            )
        for one in before.values():
            self._route(one)
        self._taps = self._taps_of(self.config)

    def _prices(self) -> list[Running]:
        return [] if self._price is None else [self._price]

    def _route(self, one: Running) -> None:
        """Its routes are others, perhaps: its streams' parts are those of the new ones.

        A part that stays what it was is the same one, so that its readers' cursors hold.
        """
        routes = [route for route in self.config.routes if route.source in one.names]
        if _unplaced(routes) == _unplaced(one.routes):
            return
        one.routes = routes
        for stream, old in one.parts.items():
            rest = {part.topic: part for part in old}
            new: list[StreamPart] = []
            for part in self._parts(one, stream):
                same = rest.pop(part.topic, None)
                if same is None:
                    self.engine.parts.add(part)
                    new.append(part)
                else:
                    same.become(part)
                    new.append(same)
            for part in rest.values():
                self.engine.parts.discard(part)
            one.parts[stream] = new

    def _add(self, kind: str, index: int, table: Any) -> None:
        make = getattr(build, f"make_{kind}")
        name = shown_name(kind, index, table)
        self.running[kind, index] = self._start(
            kind, table.name, name, lambda one: make(table, self._publisher(one), self._first_seq)
        )

    def _start(self, kind: str, name: str, shown: str, make: Callable[[Running], Calculator]) -> Running:
        names = frozenset({PREFIX + (name or kind), PREFIX + kind})
        routes = [route for route in self.config.routes if route.source in names]
        status = self._statuses[shown] = FeedStatus(shown)
        status.enter("live")
        one = Running(kind, names, routes, status)
        one.calculator = make(one)
        return one

    def now_ms(self) -> int:
        """UTC in milliseconds; never less than before."""
        self._now_ms = max(self._now_ms, int(time.time() * 1000))
        return self._now_ms

    # --- rows ----------------------------------------------------------------------------------------------

    def _taps_of(self, config: MarketConfig) -> dict[str, tuple[Tap, list[Running], Readers]]:
        found = {}
        for tap in config.taps:
            takers = [self.running[name] for name in tap.calculators]
            found[tap.key] = (tap, takers, readers_of(one.calculator for one in takers))
        return found

    def readers(self, key: str) -> Readers:
        """For rows that go to a tap: see `broker.marketdata.unread`."""
        return self._taps[key][2]

    def take_text(self, key: str, text: bytes) -> None:
        """A row's JSON for a tap; for none, where that has just been taken away."""
        if key not in self._taps:
            return
        tap, takers, readers = self._taps[key]
        if len(text) > ROW_BYTES_MAX:
            self._drop(takers, "too_long", tap)
            return
        try:
            columns = row_columns(text.decode(), readers)
        except (NotARow, UnicodeDecodeError):
            self._drop(takers, "not_json", tap)
            return
        self.take(key, columns)

    def take(self, key: str, columns: Columns, is_removed: bool = False) -> None:
        """A row for a tap; `is_removed` if it is there no more."""
        tap, takers, _ = self._taps[key]
        now_ms = self.now_ms()
        for one in takers:
            self._touched[one] = None
            one.status.received += 1
            with barrier(self.engine.counters, one.status.name):
                try:
                    self._give(one, tap, columns, now_ms, is_removed or tap.is_removal)
                except BadValue as error:
                    one.status.drop(error.reason, f"source {tap.source}", self.engine.now)

    def _give(self, one: Running, tap: Tap, columns: Columns, now_ms: int, is_removed: bool) -> None:
        calculator = one.calculator
        if is_removed:
            calculator.removed(columns, now_ms)
        elif tap.part:
            assert isinstance(calculator, MarkPrice)
            price = columns.get(calculator.names.price)
            symbol = columns.get(calculator.names.symbol)
            if not isinstance(symbol, str):
                raise BadValue("no_symbol")
            calculator.part(symbol, tap.part, price, now_ms)
        else:
            calculator.row(columns, now_ms)

    def _drop(self, takers: list[Running], reason: str, tap: Tap) -> None:
        for one in takers:
            one.status.drop(reason, f"source {tap.source}", self.engine.now)

    def commit(self) -> None:
        """The transaction of the rows so far is complete.  Within a turn."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        now_ms = self.now_ms()
        for one in touched:
            with barrier(self.engine.counters, one.status.name):
                one.calculator.commit(now_ms)
            self._note(one)
        if self.due_ms() < self.asleep_until_ms:
            self.on_earlier()

    def tick(self) -> None:
        """Time has passed.  Within a turn."""
        now_ms = self.now_ms()
        for one in self.running.values():
            if one.calculator.due_ms() <= now_ms:
                with barrier(self.engine.counters, one.status.name):
                    one.calculator.tick(now_ms)
                self._note(one)

    def due_ms(self) -> int:
        """When `tick` has something to do."""
        return min((one.calculator.due_ms() for one in self.running.values()), default=NEVER_MS)

    def gap(self, feed: str) -> None:
        """Rows of a feed may be missing: every reader of what is made of them gets the state anew."""
        now_ms = self.now_ms()
        own = {source.name for source in self.config.database.sources} if self.config.database else set()
        for tap, takers, _ in self._taps.values():
            if tap.source == feed or (
                tap.source in own and self.config.database and self.config.database.name == feed
            ):
                for one in takers:
                    with barrier(self.engine.counters, one.status.name):
                        one.calculator.reset(now_ms)
                    self._note(one)

    def caught_up(self) -> None:
        """What is known from before is known; rows come live from now on.

        Candles that weren't brought up to now by a replay wait for a minute's silence before the clock closes them,
        since the engine may have kept for us what happened meanwhile.
        """
        for one in self.running.values():
            if isinstance(one.calculator, Ticker) or (isinstance(one.calculator, Kline) and one.is_replayed):
                one.calculator.caught_up(self.now_ms())
            for stream in one.calculator.streams():
                self._parts_of(one, stream)  # so that whoever subscribes is given it

    # --- messages ------------------------------------------------------------------------------------------

    def _publisher(self, one: Running) -> Callable[[Stream, bytes], None]:
        return lambda stream, text: self._publish(one, stream, text)

    def _publish(self, one: Running, stream: Stream, text: bytes) -> None:
        for part in self._parts_of(one, stream):
            part.seq = stream.seq
            part.prev = stream.prev
            publication = Publication(part.topic, part.render(text), part.qos, False)
            publication.part = part
            self.engine.publish(publication)
            one.status.published += 1
        price = self._price
        if price is not None and isinstance(price.calculator, Price):
            if isinstance(stream, Book):
                price.calculator.book(stream)
            elif isinstance(stream, Tape):
                last = columns_of('{"a":' + text.decode() + "}")["a"][-1]
                price.calculator.traded(stream.names["symbol"], last["price"], int(last["ts"]))

    def _parts_of(self, one: Running, stream: Stream) -> list[StreamPart]:
        found = one.parts.get(stream)
        if found is None:
            found = one.parts[stream] = self._parts(one, stream)
            for part in found:
                self.engine.parts.add(part)
        return found

    def _parts(self, one: Running, stream: Stream) -> list[StreamPart]:
        found = []
        columns: Columns = {**stream.names, KIND: one.kind}
        for route in one.routes:
            topics = MqttTopics(route) if route.target == "mqtt" else DialectTopics(route)
            try:
                for topic, channel in topics.fill(columns):
                    render = _render(one.kind, route, channel, stream.names["symbol"])
                    found.append(StreamPart(topic, route.qos, route.retain, stream, render))
            except (Unfit, KeyError) as error:
                one.status.drop(getattr(error, "reason", "missing_column"), route.where, self.engine.now)
        return found

    def _note(self, one: Running) -> None:
        status, counts = one.status, one.calculator.counts
        status.repeated = counts.repeated
        more = status.more
        more["crossed"], more["late"], more["resets"] = counts.crossed, counts.late, counts.resets


def _render(kind: str, route: Route, channel: str, symbol: str) -> parts.Render:
    if route.target == "canton" and kind in ("depth", "price"):
        return parts.as_canton_book(symbol) if kind == "depth" else parts.as_canton_price(symbol)
    if route.target == "exchange" and route.body == "envelope":
        return parts.as_event(channel)
    return parts.as_envelope(channel) if route.body == "envelope" else parts.as_it_is


def _unplaced(routes: list[Route]) -> list[Route]:
    """Without the lines on which they stand."""
    return [evolve(route, where="") for route in routes]


def _nothing() -> None:
    pass
