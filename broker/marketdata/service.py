"""Market data while the process runs: first what was known before, then sources, the clock and the history."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import psycopg
import trio

from broker.config.market import Intake, MarketConfig
from broker.core.engine import Engine
from broker.core.positions import Positions
from broker.feed.driver.failures import first_line
from broker.feed.status import FeedStatus
from broker.market.calculator import NEVER_MS
from broker.market.kline import Kline
from broker.marketdata.history import History
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.intake.running import RunningIntake
from broker.marketdata.market import Market
from broker.marketdata.outlet import MarketOutlet
from broker.marketdata.restoring import restore

if TYPE_CHECKING:
    from broker.storage.keeper import Keeper

logger = logging.getLogger("broker.market")

PAUSE_S_MAX: Final = 30.0
SLEEP_S_MAX: Final = 3600.0


class MarketService:
    """Market data of one process, from the start to the end.

    Args:
        config: what is calculated, from what.
        engine: where messages go.
        statuses: the process' feeds by name; intakes and calculators are shown among them.
        keeper: see `EngineOutlet`.

    Attributes:
        ports: of the tcp and udp sources that are open, by name.
    """

    def __init__(
        self, config: MarketConfig, engine: Engine, statuses: dict[str, FeedStatus], keeper: Keeper | None
    ) -> None:
        self.config = config
        self.engine = engine
        self.market = Market(config, engine, statuses)
        self.outlet = MarketOutlet(engine, keeper, self.market)
        self._keeper = keeper
        self.ports: dict[str, list[int]] = {}
        self.histories: dict[int, History] = {}
        self._statuses = statuses
        self._sooner = trio.Event()
        self._nursery: trio.Nursery | None = None
        for index, kline in enumerate(config.kline):
            if kline.history and config.database is not None:
                status = self.market.running["kline", index].status
                self.histories[index] = History(kline.history, config.database, status)
        self._intakes = {intake.feed.name: self._running_of(intake) for intake in config.intakes}
        self._writers: dict[int, trio.CancelScope] = {}

    def feed_outlet(self, positions: Positions) -> MarketOutlet:
        """One feed's way to the calculators and into the engine."""
        return MarketOutlet(self.engine, self._keeper, self.market, positions)

    def _running_of(self, intake: Intake) -> RunningIntake:
        name = intake.feed.name
        status = self._statuses[name] = FeedStatus(name)
        rows = IntakeRows(intake, self.market, self.outlet, status)
        return RunningIntake(rows, self.market, self.ports.setdefault(name, []))

    def adopt(self, config: MarketConfig) -> None:
        """Another configuration, which `broker.config.reload_market` has found to be one that can be taken over."""
        if config == self.config:
            return
        known = {tap.key: tap.calculators for tap in self.config.taps}
        of_before = {id(self.market.running["kline", index]): one for index, one in self.histories.items()}
        kept_before = set(self.market.running.values())
        self.config = config
        with self.engine.turn:
            self.market.adopt(config)
            # Before the turn ends, when each is given what its calculator has changed.
            self.histories = {
                index: of_before[id(one)]
                for (kind, index), one in self.market.running.items()
                if kind == "kline" and id(one) in of_before
            }
        writing = {id(history) for history in self.histories.values()}
        for number in [number for number in self._writers if number not in writing]:
            self._writers.pop(number).cancel()
        wanted = {intake.feed.name: intake for intake in config.intakes}
        for name in [name for name in self._intakes if name not in wanted]:
            self._intakes.pop(name).end()
            self._statuses.pop(name, None)
        new = {
            tap.key
            for tap in config.taps
            if tap.key not in known
            or not {self.market.running[one] for one in tap.calculators} <= kept_before
        }
        for name, intake in wanted.items():
            if name in self._intakes:
                with self.engine.turn:
                    self._intakes[name].adopt(intake, new)
            else:
                self._intakes[name] = self._running_of(intake)
                if self._nursery is not None:
                    self._nursery.start_soon(self._intakes[name].run)

    async def run(self, start_feeds: Callable[[trio.Nursery], None]) -> None:
        """Serve until cancelled.

        Args:
            start_feeds: starts those of the database, once what was known before is known again.
        """
        self.market.on_earlier = self._wake
        async with trio.open_nursery() as nursery:
            await self._restore()
            self._nursery = nursery
            for index, history in self.histories.items():
                calculator = self.market.running["kline", index].calculator
                assert isinstance(calculator, Kline)
                nursery.start_soon(self._write, history, calculator)
            self.engine.turn.on_batch_end(self._keep)
            nursery.start_soon(self._tick)
            start_feeds(nursery)
            for one in self._intakes.values():
                nursery.start_soon(one.run)

    async def _write(self, history: History, calculator: Kline) -> None:
        """Until the calculator is taken away; what it has by then is written."""
        with trio.CancelScope() as self._writers[id(history)]:
            await history.run(calculator.untold)

    async def _restore(self) -> None:
        """Until it has succeeded: a candle that began without what came before it would be wrong."""
        pause_s = 1.0
        while True:
            try:
                await restore(self.market, self.histories, self.config.database)
                return
            except (psycopg.Error, OSError) as error:
                problem = first_line(error)
            logger.warning("market data waits for its history: %s; trying again in %g s", problem, pause_s)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _keep(self) -> None:
        """At the end of a turn: what has changed is to be written."""
        for index, history in self.histories.items():
            calculator = self.market.running["kline", index].calculator
            if isinstance(calculator, Kline) and calculator.changed:
                history.take(calculator.unsaved())

    async def _tick(self) -> None:
        while True:
            due_ms = self.market.due_ms()
            self.market.asleep_until_ms = due_ms
            now_ms = self.market.now_ms()
            wait_s = math.inf if due_ms == NEVER_MS else (due_ms - now_ms) / 1000
            with trio.move_on_after(max(0.0, min(wait_s, SLEEP_S_MAX))):
                await self._sooner.wait()
            self._sooner = trio.Event()
            await trio.lowlevel.checkpoint()
            with self.engine.turn:
                self.market.tick()

    def _wake(self) -> None:
        self._sooner.set()
