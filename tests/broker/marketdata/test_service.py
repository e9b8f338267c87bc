"""Market data while the process runs: its start, its clock, and what a reload does to sources and histories."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import Intake, KlineConfig, MarketConfig, Tap, TickerConfig
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.feed.status import FeedStatus
from broker.market.calculator import NEVER_MS
from broker.marketdata import service as service_module
from broker.marketdata.history import History
from broker.marketdata.service import MarketService


def intake(name: str, *taps: Tap) -> Intake:
    feed = FeedConfig(name, "", "mqtt", (Source(name, (name,)),), (Route(name, ("{id}",)),))
    return Intake("mqtt", feed, filters=(f"{name}/#",), taps=tuple((None, tap.key) for tap in taps))


KLINES = (
    KlineConfig("s", "a", intervals=("1m",), history="a"),
    KlineConfig("s", "b", intervals=("1m",), history="b"),
)
S, T = (Tap(name, (("kline", 0), ("kline", 1))) for name in "st")
CONFIG = MarketConfig(
    kline=KLINES,
    taps=(S,),
    intakes=(intake("s", S),),
    database=FeedConfig("main", "host=127.0.0.1 port=1"),
)


class Run:
    """A service whose histories are in no database.

    Attributes:
        writing: so many of them are being written.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: MarketConfig = CONFIG) -> None:
        self.writing = 0
        self.restored = 0
        self.failures: list[Exception] = []
        self.feeds_started = 0
        self.statuses: dict[str, FeedStatus] = {}
        monkeypatch.setattr(service_module, "restore", self._restore)
        monkeypatch.setattr(History, "run", self._write)
        self.engine = Engine()
        self.engine.turn.clock = trio.current_time
        self.service = MarketService(config, self.engine, self.statuses, None)
        self.market = self.service.market

    async def _restore(self, *_: object) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.restored += 1

    async def _write(self, *_: object) -> None:
        self.writing += 1
        try:
            await trio.sleep_forever()
        finally:
            self.writing -= 1

    def start_feeds(self, nursery: trio.Nursery) -> None:
        assert self.restored
        self.feeds_started += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.service.run, self.start_feeds)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()

    async def adopt(self, config: MarketConfig) -> None:
        self.service.adopt(config)
        await wait_all_tasks_blocked()

    def rows(self, name: str, *ids: int) -> None:
        """By MQTT."""
        with self.engine.turn:
            for id in ids:
                row = (
                    b'{"symbol":"X","id":"%d","price":"5","size":"1","side":"buy","ts":"1700000000000"}' % id
                )
                self.engine.publish(Publication(name.encode() + b"/x", row, 1))

    def received(self, name: str) -> int:
        return self.statuses[name].received if name in self.statuses else -1


# --- the start


async def test_sources_and_feeds_begin_once_what_was_known_is_known_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    async with run.running():
        assert (run.restored, run.feeds_started, run.writing) == (1, 1, 2)
        run.rows("s", 1)
        assert run.received("s") == 1
        assert [run.received(f"market.{name}") for name in "ab"] == [1, 1]


async def test_it_waits_for_the_history_longer_and_longer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    run = Run(monkeypatch)
    run.failures = [
        psycopg.OperationalError("away"),
        OSError("gone"),
        *[psycopg.OperationalError("away")] * 5,
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.service.run, run.start_feeds)
        await wait_all_tasks_blocked()
        run.rows("s", 1)
        assert (run.feeds_started, run.received("s")) == (0, 0)
        began = trio.current_time()
        while not run.feeds_started:  # noqa: ASYNC110
            await trio.sleep(0.5)
        assert trio.current_time() - began == pytest.approx(1 + 2 + 4 + 8 + 16 + 30 + 30, abs=0.6)
        nursery.cancel_scope.cancel()
    assert "waits for its history: away; trying again in 1 s" in caplog.messages[0]
    assert "waits for its history: gone; trying again in 2 s" in caplog.messages[1]


async def test_what_changes_goes_to_the_history_at_the_end_of_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    async with run.running():
        run.rows("s", 1)
        await wait_all_tasks_blocked()
        waiting = [len(history._waiting) for history in run.service.histories.values()]
        assert waiting == [1, 1]


@pytest.mark.parametrize(
    "config",
    [evolve(CONFIG, database=None), evolve(CONFIG, kline=tuple(evolve(one, history="") for one in KLINES))],
    ids=["no database", "no history"],
)
def test_without_a_table_there_is_no_history(config: MarketConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Run(monkeypatch, config).service.histories == {}


# --- the clock


class Clock:
    """What is due, by Trio's clock, and when it was told."""

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due_ms = NEVER_MS
        self.ticks: list[int] = []
        monkeypatch.setattr(run.market, "due_ms", lambda: self.due_ms)
        monkeypatch.setattr(run.market, "now_ms", self.now_ms)
        monkeypatch.setattr(run.market, "tick", self.tick)

    def now_ms(self) -> int:
        return round(trio.current_time() * 1000)

    def tick(self) -> None:
        self.ticks.append(self.now_ms())
        self.due_ms = NEVER_MS


async def test_what_is_due_is_told_when_it_is(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    run = Run(monkeypatch)
    clock = Clock(run, monkeypatch)
    now_ms = clock.now_ms()
    clock.due_ms = now_ms + 2500
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.service.run, run.start_feeds)
        await trio.sleep(10)
        assert clock.ticks == [now_ms + 2500]
        assert run.market.asleep_until_ms == NEVER_MS
        clock.due_ms = clock.now_ms() + 1000
        run.market.on_earlier()
        await trio.sleep(0.001)
        del clock.ticks[:]
        clock.due_ms = clock.now_ms() + 1000
        run.market.on_earlier()
        await trio.sleep(0.001)
        assert len(clock.ticks) == 1, "woken, it looks at once"
        nursery.cancel_scope.cancel()


async def test_however_far_off_the_next_is_the_clock_is_looked_at_now_and_then(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    run = Run(monkeypatch)
    clock = Clock(run, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.service.run, run.start_feeds)
        await trio.sleep(service_module.SLEEP_S_MAX + 1)
        assert len(clock.ticks) == 1
        nursery.cancel_scope.cancel()


# --- another configuration


async def test_sources_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    async with run.running():
        await run.adopt(evolve(CONFIG, intakes=(intake("s", S), intake("t", T)), taps=(S, T)))
        run.rows("s", 1)
        run.rows("t", 2)
        assert (run.received("s"), run.received("t")) == (1, 1)
        await run.adopt(evolve(CONFIG, intakes=(intake("t", T),), taps=(T,)))
        assert "s" not in run.statuses
        run.rows("s", 3)
        run.rows("t", 4)
        assert run.received("t") == 2
        assert run.received("market.a") == 3


async def test_a_source_that_came_before_the_start_runs_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    run.service.adopt(evolve(CONFIG, intakes=(intake("s", S), intake("t"))))
    async with run.running():
        run.rows("t", 1)
        assert run.received("t") == 1


async def test_the_same_configuration_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    async with run.running():
        before = run.service.config
        await run.adopt(evolve(CONFIG))
        assert run.service.config is before


async def test_histories_stay_with_their_calculators_wherever_these_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch)
    async with run.running():
        await run.adopt(evolve(CONFIG, kline=KLINES[::-1], taps=(Tap("s", (("kline", 1), ("kline", 0))),)))
        assert {index: one.name for index, one in run.service.histories.items()} == {0: "b", 1: "a"}
        assert run.writing == 2
        await run.adopt(evolve(CONFIG, kline=KLINES[1:], taps=(Tap("s", (("kline", 0),)),)))
        assert {index: one.name for index, one in run.service.histories.items()} == {0: "b"}
        assert run.writing == 1
        run.rows("s", 1)
        await wait_all_tasks_blocked()
        assert len(run.service.histories[0]._waiting) == 1


@pytest.mark.parametrize(
    ("calculators", "is_new"),
    [((("kline", 0), ("kline", 1)), False), ((("kline", 0),), False), ((("kline", 0), ("ticker", 0)), True)],
)
async def test_a_source_is_told_which_of_its_taps_have_calculators_that_know_nothing(
    calculators: tuple[tuple[str, int], ...], is_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch)
    told: list[set[str]] = []
    way = run.service._intakes["s"]
    monkeypatch.setattr(way, "adopt", lambda intake, new: told.append(new))
    tap = Tap("s", calculators)
    run.service.adopt(evolve(CONFIG, taps=(tap,), ticker=(TickerConfig("s"),)))
    assert told == [{tap.key} if is_new else set()]
    other = Tap("s", (("kline", 0),), kind="x")
    run.service.adopt(evolve(CONFIG, taps=(tap, other), ticker=(TickerConfig("s"),)))
    assert told[1] == {other.key}, "a tap that is new has told nobody anything"
