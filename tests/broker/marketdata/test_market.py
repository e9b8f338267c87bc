"""Rows to calculators, their messages to channels: what each takes, what a wrong one costs, what a reload keeps."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from support.markets import Faulty

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import (
    DepthConfig,
    IndexConfig,
    KlineConfig,
    MarketConfig,
    MarkPriceConfig,
    Tap,
    TickerConfig,
    TradesConfig,
)
from broker.core import barrier as barriers
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.feed.status import FeedStatus
from broker.market.calculator import NEVER_MS, Calculator, Row
from broker.market.numbers import BadValue
from broker.market.stream import Stream
from broker.marketdata.market import ROW_BYTES_MAX, Market

BOOK = Tap("book", (("depth", 0),))
TRADES = Tap("trades", (("trades", 0), ("kline", 0)))
CONFIG = MarketConfig(
    depth=(DepthConfig("book", shape="levels", every_s=0.0),),
    trades=(TradesConfig("trades", every_s=0.0),),
    kline=(KlineConfig("trades", intervals=("1m",)),),
    taps=(BOOK, TRADES),
    routes=(
        Route("market.depth", ("{symbol}@depth",), target="exchange", body="envelope"),
        Route("market.trades", ("t/{symbol}",), retain=True, qos=2),
    ),
)


class Heard(Receiver):
    """Takes everything but the broker's own."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.messages: list[Publication] = []
        engine.subscribe(self, b"#", 2)
        engine.subscribe(self, b"$ws/#", 2)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.messages.append(publication)

    def topics(self) -> list[bytes]:
        found, self.messages = [one.topic for one in self.messages], []
        return found


class Run:
    def __init__(self, config: MarketConfig = CONFIG) -> None:
        self.engine = Engine()
        self.statuses: dict[str, FeedStatus] = {}
        self.market = Market(config, self.engine, self.statuses)
        self.market.now_ms = lambda: self.now_ms  # type: ignore[method-assign]
        self.now_ms = 1_700_000_000_000
        self.heard = Heard(self.engine)

    def take(self, tap: Tap, *rows: dict[str, Any], is_removed: bool = False) -> None:
        for row in rows:
            self.market.take(tap.key, row, is_removed)
        self.commit()

    def commit(self) -> None:
        with self.engine.turn:
            self.market.commit()

    def adopt(self, config: MarketConfig) -> None:
        with self.engine.turn:
            self.market.adopt(config)

    def one(self, kind: str, index: int = 0) -> Any:
        return self.market.running[kind, index]


def level(price: str = "1", size: str = "2", symbol: str = "X") -> dict[str, Any]:
    return {"symbol": symbol, "side": "bid", "price": price, "size": size}


def trade(id: int, price: str = "5") -> dict[str, Any]:
    return {"symbol": "X", "id": str(id), "price": price, "size": "1", "side": "buy", "ts": "1700000000000"}


# --- rows


def test_a_row_goes_to_all_that_take_its_tap_and_is_told_when_its_transaction_ends() -> None:
    run = Run()
    run.market.take(TRADES.key, trade(1))
    assert [run.one(kind).status.received for kind in ("trades", "kline", "depth")] == [1, 1, 0]
    assert run.heard.topics() == []
    run.commit()
    assert run.heard.topics() == [b"t/X"]
    assert [run.one(kind).status.published for kind in ("trades", "kline")] == [1, 0]  # candles have no route
    run.commit()
    assert run.heard.topics() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"symbol":"X","side":"bid","price":"1","size":"2"}', ""),
        (b"{}", "no_symbol"),
        (b'{"symbol":"X","side":"bid","price":"x","size":"2"}', "not_a_number"),
        (b"[]", "not_json"),
        (b"{", "not_json"),
        (b'{"symbol":"\xff"}', "not_json"),
        (b'{"symbol":"' + b"x" * ROW_BYTES_MAX + b'"}', "too_long"),
    ],
    ids=["good", "empty", "no number", "array", "cut", "not utf-8", "long"],
)
def test_what_is_no_row_costs_itself(text: bytes, reason: str) -> None:
    run = Run()
    run.market.take_text(BOOK.key, text)
    run.market.take_text(BOOK.key, json.dumps(level("3")).encode())
    run.commit()
    assert dict(run.one("depth").status.dropped) == ({reason: 1} if reason else {})
    assert run.heard.topics() == [b"$ws/exchange/X@depth"]


def test_a_row_as_long_as_may_be_is_read() -> None:
    run = Run()
    text = json.dumps({**level(), "note": ""}).encode()
    text = text[:-2] + b"x" * (ROW_BYTES_MAX - len(text)) + text[-2:]
    run.market.take_text(BOOK.key, text)
    assert not run.one("depth").status.dropped


def test_a_row_for_a_tap_that_is_gone_is_none() -> None:
    run = Run()
    run.market.take_text("gone", b"{}")
    assert not any(one.status.received for one in run.market.running.values())


def test_rows_that_are_there_no_more_are_taken_out() -> None:
    removal = evolve(BOOK, source="gone", is_removal=True)
    run = Run(evolve(CONFIG, taps=(BOOK, removal)))
    books = run.one("depth").calculator
    run.take(BOOK, level("1"), level("2"), level("3"))
    run.take(removal, level("1"))
    run.take(BOOK, level("2"), is_removed=True)
    [book] = books.streams()
    assert json.loads(book.state()[0])["bids"] == [["3", "2"]]


def test_a_part_of_an_index_is_a_price() -> None:
    parts = tuple(Tap(name, (("markprice", 0),), part=name) for name in ("a", "b"))
    mark = MarkPriceConfig("m", every_s=0.0, index=IndexConfig(("a", "b"), "mean"))
    run = Run(
        MarketConfig(markprice=(mark,), taps=parts, routes=(Route("market.markprice", ("m/{symbol}",)),))
    )
    run.take(parts[0], {"symbol": "X", "price": "10.0"}, {"price": "10.0"}, {"symbol": 5, "price": "10.0"})
    run.take(parts[1], {"symbol": "X", "price": "11.0"})
    assert dict(run.one("markprice").status.dropped) == {"no_symbol": 2}
    with run.engine.turn:
        run.now_ms += 1000
        run.market.tick()
    assert json.loads(run.heard.messages[-1].payload)["index"] == "10.5"


class AlwaysDue(Faulty):
    def due_ms(self) -> int:
        return 0


def test_a_bug_costs_its_calculator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    run = Run()
    run.one("trades").calculator = AlwaysDue(lambda stream, text: None, 0)
    run.take(TRADES, trade(1))
    with run.engine.turn:
        run.market.tick()
    run.market.gap("trades")
    assert run.engine.counters.link_bugs == 4
    assert len(run.one("kline").calculator.streams()) == 1
    assert run.one("kline").calculator.counts.resets == 1


# --- the clock


class Clocked(Calculator):
    """Is due when it is told to be."""

    def __init__(self) -> None:
        super().__init__(lambda stream, text: None, 0)
        self.due = NEVER_MS
        self.ticked: list[int] = []

    def row(self, row: Row, now_ms: int) -> None:
        self.due = int(str(row["due"]))

    def commit(self, now_ms: int) -> None: ...

    def tick(self, now_ms: int) -> None:
        self.ticked.append(now_ms)

    def due_ms(self) -> int:
        return self.due

    def streams(self) -> list[Stream]:
        return []


def test_who_is_due_is_told_the_time_and_nobody_else() -> None:
    run = Run()
    clocks = [Clocked(), Clocked()]
    run.one("trades").calculator, run.one("kline").calculator = clocks
    clocks[0].due, clocks[1].due = run.now_ms, run.now_ms + 1
    assert run.market.due_ms() == run.now_ms
    run.market.tick()
    assert [clock.ticked for clock in clocks] == [[run.now_ms], []]


def test_nothing_is_due_where_nothing_is_calculated() -> None:
    assert Run(MarketConfig()).market.due_ms() == NEVER_MS


@pytest.mark.parametrize(("due", "is_earlier"), [(999, True), (1000, False), (1001, False)])
def test_whoever_sleeps_is_woken_where_something_is_due_sooner(due: int, is_earlier: bool) -> None:
    run = Run()
    run.one("depth").calculator = Clocked()
    woken: list[bool] = []
    run.market.on_earlier = lambda: woken.append(True)
    run.market.asleep_until_ms = 1000
    run.take(BOOK, {"due": due})
    assert woken == [True] * is_earlier


def test_the_time_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market(MarketConfig(), Engine(), {})
    times = iter([5.0, 4.0, 5.001])
    monkeypatch.setattr("broker.marketdata.market.time.time", lambda: 2_000_000_000 + next(times))
    assert [market.now_ms() - 2_000_000_000_000 for _ in range(3)] == [5000, 5000, 5001]


# --- gaps


@pytest.mark.parametrize(
    ("feed", "database", "resets"),
    [
        ("book", None, [1, 0]),
        ("trades", None, [0, 1]),
        ("main", FeedConfig("main", "", "wal", (Source("book", ()),)), [1, 0]),
        ("main", FeedConfig("other", "", "wal", (Source("book", ()),)), [0, 0]),
        ("other", None, [0, 0]),
    ],
)
def test_a_gap_is_of_those_that_take_rows_of_its_source(
    feed: str, database: FeedConfig | None, resets: list[int]
) -> None:
    run = Run(evolve(CONFIG, database=database))
    run.market.gap(feed)
    assert [run.one(kind).calculator.counts.resets for kind in ("depth", "kline")] == resets
    assert [run.one(kind).status.more.get("resets", 0) for kind in ("depth", "kline")] == resets


# --- messages


def test_each_route_s_message_is_one_of_its_own_part() -> None:
    run = Run()
    run.take(BOOK, level("1"))
    run.take(BOOK, level("3"))
    first, second = run.heard.messages
    part = first.part
    assert part is second.part
    assert part is not None
    assert run.engine.parts.of(b"$ws/exchange/X@depth") == [part]
    assert (part.seq, part.prev) == (
        json.loads(second.payload)["data"]["seq"],
        json.loads(first.payload)["data"]["seq"],
    )
    run.heard.topics()
    run.take(TRADES, trade(1))
    [message] = run.heard.messages
    assert (message.qos, message.retain) == (2, False), "what is kept is the state"
    assert message.part is not None
    assert message.part.retain


@pytest.mark.parametrize(
    ("route", "start"),
    [
        (Route("market.depth", ("d",)), b'{"type":"snapshot"'),
        (Route("market.depth", ("d",), target="exchange", body="envelope"), b'{"event":"d","data":{"type"'),
        (Route("market.depth", ("d",), target="econia", body="envelope"), b'{"channel":"d","data":{"type"'),
        (Route("market.depth", ("d",), target="exchange"), b'{"type":"snapshot"'),
        (Route("market.depth", ("d",), target="canton"), b'{"type":"orderbook_update","symbol":"X"'),
        (Route("market.price", ("d",), target="canton"), b'{"type":"price_update","symbol":"X"'),
        (Route("market.price", ("d",)), b'{"bid":"1","ask":null'),
    ],
)
def test_a_body_is_as_its_route_wants_it(route: Route, start: bytes) -> None:
    run = Run(evolve(CONFIG, routes=(route,)))
    run.take(BOOK, level("1"))
    assert run.heard.messages[-1].payload.startswith(start)


def test_a_route_that_can_t_be_filled_costs_itself_and_is_counted() -> None:
    routes = (
        Route("market.depth", ("{symbol}/{interval}",), where="c.toml:1"),
        Route("market.depth", ("{symbol}",), where="c.toml:2"),
    )
    run = Run(evolve(CONFIG, routes=routes))
    run.take(BOOK, level("1", symbol="a/b"), level("1", symbol="X"))
    assert run.heard.topics() == [b"X"]
    assert dict(run.one("depth").status.dropped) == {"missing_column": 2, "unsafe_value": 1}


def test_the_price_is_of_books_and_trades() -> None:
    run = Run(evolve(CONFIG, routes=(Route("market.price", ("p/{symbol}",)),)))
    run.take(BOOK, level("1"))
    run.take(TRADES, trade(1, "5.0"), trade(2, "6.0"))
    bodies = [json.loads(message.payload) for message in run.heard.messages]
    assert [(body["bid"], body["last"]) for body in bodies] == [("1", None), ("1", "6.0")]
    assert run.statuses["market.price"].published == 2


def test_whoever_subscribes_gets_what_was_known_before_the_first_message() -> None:
    run = Run()
    run.one("trades").calculator.recent_max = 10
    run.one("trades").calculator.restore(trade(1), run.now_ms)
    assert run.engine.parts.of(b"t/X") == []
    run.market.caught_up()
    assert len(run.engine.parts.of(b"t/X")) == 1
    assert run.heard.topics() == []


def test_a_calculator_says_what_it_left_out() -> None:
    run = Run()
    run.take(TRADES, trade(1), trade(1))
    assert run.one("kline").status.repeated == 1
    assert run.one("kline").status.more == {"crossed": 0, "late": 0, "resets": 0}


# --- another configuration


def test_calculators_come_go_and_stay_by_their_names() -> None:
    run = Run()
    run.take(TRADES, trade(1))
    kline = run.one("kline")
    woken: list[bool] = []
    run.market.on_earlier = lambda: woken.append(True)
    named = TickerConfig("trades", name="mine")
    taps = (Tap("trades", (("kline", 0), ("ticker", 0))),)
    run.adopt(evolve(CONFIG, depth=(), trades=(), ticker=(named,), taps=taps, routes=()))
    assert run.one("kline") is kline
    assert sorted(run.statuses) == ["market.kline", "market.mine"]
    assert run.statuses["market.mine"].state == "live"
    assert run.engine.parts.of(b"t/X") == []
    assert woken == [True]
    run.take(taps[0], trade(2))
    assert run.one("ticker").status.received == 1
    run.market.take_text(BOOK.key, b"{}")  # a row that was on its way


def test_a_calculator_that_goes_is_told_of_no_commit_any_more() -> None:
    run = Run()
    run.market.take(BOOK.key, level())
    run.adopt(evolve(CONFIG, depth=(), taps=(TRADES,)))
    run.commit()
    assert run.heard.topics() == []


def test_the_order_of_the_tables_is_no_matter_where_they_have_names() -> None:
    one, other = TickerConfig("trades", name="one"), TickerConfig("trades", name="other")
    run = Run(MarketConfig(ticker=(one, other)))
    before = [run.one("ticker", number) for number in (0, 1)]
    run.adopt(MarketConfig(ticker=(other, one)))
    assert [run.one("ticker", number) for number in (1, 0)] == before


def test_settings_that_are_of_no_state_are_taken_over() -> None:
    run = Run()
    run.adopt(evolve(CONFIG, kline=(evolve(CONFIG.kline[0], every_s=3.0),)))
    assert run.one("kline").calculator.every_ms == 3000


def test_a_part_stays_the_same_where_its_topic_does() -> None:
    run = Run()
    run.take(TRADES, trade(1))
    [part] = run.engine.parts.of(b"t/X")
    moved = tuple(evolve(route, where="c.toml:9") for route in CONFIG.routes)
    run.adopt(evolve(CONFIG, routes=moved))
    run.adopt(evolve(CONFIG, routes=(evolve(moved[1], topics=("t/{symbol}", "u/{symbol}"), qos=0),)))
    assert run.engine.parts.of(b"t/X") == [part]
    assert part.qos == 0
    assert len(run.engine.parts.of(b"u/X")) == 1
    run.heard.topics()
    run.take(TRADES, trade(2))
    assert run.heard.topics() == [b"t/X", b"u/X"]
    run.adopt(evolve(CONFIG, routes=(Route("market.trades", ("u/{symbol}",)),)))
    assert run.engine.parts.of(b"t/X") == []
    run.take(TRADES, trade(3))
    assert run.heard.topics() == [b"u/X"]


def test_the_price_comes_and_goes_with_its_route_and_keeps_its_numbers() -> None:
    wanted = evolve(CONFIG, routes=(Route("market.price", ("p/{symbol}",)),))
    run = Run()
    run.take(BOOK, level("1"))
    run.adopt(wanted)
    run.take(BOOK, level("2"))
    run.adopt(evolve(wanted, page=False))
    run.take(BOOK, level("2", "9"))  # the best price is the same
    assert [topic for topic in run.heard.topics() if topic == b"p/X"] == [b"p/X"]
    assert "market.price" in run.statuses
    run.adopt(CONFIG)
    assert "market.price" not in run.statuses
    assert run.engine.parts.of(b"p/X") == []
    run.take(BOOK, level("3"))
    assert b"p/X" not in run.heard.topics()


@pytest.mark.parametrize("source", ["market.depth", "market.mine"])
def test_routes_name_a_calculator_by_its_kind_or_by_its_name(source: str) -> None:
    named = evolve(CONFIG.depth[0], name="mine")
    run = Run(evolve(CONFIG, depth=(named,), routes=(Route(source, ("{$kind}/{symbol}",)),)))
    run.take(BOOK, level())
    assert run.heard.topics() == [b"depth/X"]


def test_what_a_calculator_refuses_is_counted_under_its_reason() -> None:
    class Refusing(Clocked):
        def row(self, row: Row, now_ms: int) -> None:
            raise BadValue("bad_side")

    run = Run()
    run.one("depth").calculator = Refusing()
    run.take(BOOK, level())
    assert dict(run.one("depth").status.dropped) == {"bad_side": 1}
