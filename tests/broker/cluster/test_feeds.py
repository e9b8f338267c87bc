"""A feed of a cluster: read by the node that has its lease, until that is lost, or its rows are another node's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from support.memory_nats import MemoryNats
from support.memory_node import MemoryNode, running
from trio.testing import MockClock

from broker.cluster import feeds as module
from broker.cluster.feeds import PAUSE_S, ElectedFeed
from broker.cluster.lease import LEASE_S
from broker.cluster.link import Unavailable
from broker.cluster.rows import TakenOver
from broker.config.feeds import FeedConfig
from broker.feed.status import STANDBY, FeedStatus

CONFIG = FeedConfig("main", "postgresql://localhost/x")


class Rows:
    """In the place of `RowOutlet`."""

    made: list[Rows]
    epoch: str
    problem: Exception | None

    def __init__(self, *words: Any) -> None:
        self.holder, self.keep_s = words[4], words[6]
        self.taken_over = trio.Event()
        self.ended = False
        Rows.made.append(self)

    async def begin(self) -> None:
        if Rows.problem is not None:
            raise Rows.problem

    async def run(self) -> None:
        try:
            await self.taken_over.wait()
            raise TakenOver
        finally:
            self.ended = True


class Reading:
    """In the place of `Supervisor`."""

    made: list[Reading]

    def __init__(self, config: FeedConfig, outlet: Rows, status: FeedStatus) -> None:
        self.configs = [config]
        self.outlet = outlet
        self.here = "here"
        self.is_reading = False
        self.rows_went_on = False
        Reading.made.append(self)

    def adopt(self, config: FeedConfig) -> None:
        self.configs.append(config)

    async def run(self) -> None:
        self.is_reading = True
        try:
            await trio.sleep_forever()
        finally:
            self.is_reading = False
            self.rows_went_on = not self.outlet.ended


class Electing:
    """A node with the feed `main`."""

    def __init__(self, node: MemoryNode) -> None:
        self.node = node
        self.status = FeedStatus("main")
        self.feed: ElectedFeed = node.node.feed(CONFIG, self.status)
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        with self.scope:
            await self.feed.run()

    @property
    def where(self) -> str:
        return self.node.node.status.feeds["main"]


@asynccontextmanager
async def electing(*names: str) -> AsyncIterator[tuple[MemoryNats, list[Electing]]]:
    server = MemoryNats()
    async with running(server, *names) as nodes, trio.open_nursery() as nursery:
        Rows.epoch = nodes[0].node.reader.epoch
        found = [Electing(node) for node in nodes]
        for one in found:
            nursery.start_soon(one.run)
            await trio.sleep(0.2)
        yield server, found
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    Rows.made, Rows.problem = [], None
    Reading.made = []
    monkeypatch.setattr(module, "RowOutlet", Rows)
    monkeypatch.setattr(module, "Supervisor", Reading)


async def test_one_node_reads_and_the_next_when_that_ends(autojump_clock: MockClock) -> None:
    async with electing("a", "b") as (_, (a, b)):
        (reading,) = Reading.made
        assert reading.is_reading
        assert (a.where, b.where, b.status.state) == ("here", "elsewhere", STANDBY)
        await trio.sleep(3 * LEASE_S)
        assert Reading.made == [reading]
        a.scope.cancel()
        await trio.sleep(1)
        assert not reading.is_reading
        assert b.where == "here"
        assert Reading.made[1].is_reading


async def test_its_last_rows_go_out_before_its_place_is_saved(autojump_clock: MockClock) -> None:
    async with electing("a") as (_, (a,)):
        a.scope.cancel()
        await trio.sleep(1)
        (reading,) = Reading.made
        assert reading.rows_went_on
        assert reading.outlet.ended


async def test_a_lease_that_is_lost_ends_the_reading_and_it_begins_anew_later(
    autojump_clock: MockClock,
) -> None:
    async with electing("a") as (server, (a,)):
        server.drop(a.node.node.link)
        await trio.sleep(LEASE_S)
        assert not Reading.made[0].is_reading
        assert a.where == "elsewhere"
        assert a.status.state == STANDBY
        server.admit(a.node.node.link)
        await trio.sleep(2)
        first, second = Rows.made
        assert second.holder != first.holder, "no two terms have the same"
        assert first.holder == a.node.node.mark + b"/main.1"
        assert second.holder == a.node.node.mark + b"/main.2"
        assert second.keep_s == a.node.config.keep_wal_s
        assert Reading.made[1].is_reading


async def test_rows_of_another_node_end_the_reading(autojump_clock: MockClock) -> None:
    async with electing("a") as (_, (a,)):
        Rows.made[0].taken_over.set()
        await trio.sleep(0.01)
        assert not Reading.made[0].is_reading
        await trio.sleep(1)
        assert len(Reading.made) == 2
        assert a.where == "here"


async def test_a_log_that_was_lost_is_begun_anew_with(autojump_clock: MockClock) -> None:
    async with electing("a") as (_, (a,)):
        listening = len(a.node.node.reader.on_lost)
        for listener in list(a.node.node.reader.on_lost):
            listener()
        await trio.sleep(1)
        assert len(Reading.made) == 2
        assert len(a.node.node.reader.on_lost) == listening, "the first one listens no more"


@pytest.mark.parametrize("problem", [Unavailable("not now"), None], ids=["no answer", "another log"])
async def test_a_term_that_can_t_begin_gives_the_lease_back(
    autojump_clock: MockClock, problem: Exception | None
) -> None:
    """So another node may try, which has seen the log that was made anew."""
    async with electing("a"):
        Rows.problem = problem
        right, Rows.epoch = Rows.epoch, "another"
        Rows.made[0].taken_over.set()
        await trio.sleep(PAUSE_S * 10)
        assert len(Rows.made) >= 3
        assert len(Reading.made) == 1
        Rows.problem, Rows.epoch = None, right
        await trio.sleep(2)
        assert Reading.made[1].is_reading


async def test_other_settings_are_the_next_reader_s_too(autojump_clock: MockClock) -> None:
    other = FeedConfig("main", "postgresql://localhost/y")
    async with electing("a") as (_, (a,)):
        a.feed.adopt(other)
        assert Reading.made[0].configs == [CONFIG, other]
        Rows.made[0].taken_over.set()
        await trio.sleep(2)
        assert Reading.made[1].configs == [other]
        a.scope.cancel()
        await trio.sleep(1)
        a.feed.adopt(CONFIG)
        assert Reading.made[1].configs == [other], "which reads no more"


async def test_whoever_reads_is_asked_where_it_is(autojump_clock: MockClock) -> None:
    async with electing("a") as (_, (a,)):
        outlet: Any = Rows.made[0]
        assert outlet.here() == "here"
        assert a.where == "here"
