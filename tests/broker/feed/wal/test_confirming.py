"""What the server is told to forget was durable, and kept, before."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.feeds import Collector, running
from support.installed import connect, sql
from support.polling import until
from trio.testing import MockClock, wait_all_tasks_blocked

from broker.config.feeds import FeedConfig
from broker.feed.feed_row import Known
from broker.feed.status import FeedStatus
from broker.feed.wal.confirming import CONFIRM_INTERVAL_S, KEEP_INTERVAL_S, PLACE_INTERVAL_S, Confirming
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.kept_place import STEP_BYTES, KeptPlace, Standing


@pytest.mark.usefixtures("short_pauses", "fast_path")
async def test_position_is_confirmed_only_when_durable(config: FeedConfig) -> None:
    async with running(config) as feed:
        held = trio.Event()
        feed.outlet.durable = held.wait  # type: ignore[method-assign]
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        await trio.sleep(0.2)
        confirmed = (
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()"
        )
        with connect(config.dsn) as connection:
            before = connection.execute(confirmed).fetchone()
            held.set()
            await until(lambda: connection.execute(confirmed).fetchone() != before)


class Kept(KeptPlace):
    """In no database, and not while `fails`."""

    def __init__(self, config: FeedConfig, status: FeedStatus) -> None:
        super().__init__(config, status)
        self.fails = False
        self.written: list[Standing] = []

    async def _keep(self, now: Standing, config: FeedConfig) -> bool:
        if self.fails:
            return False
        self.written.append(now)
        self._kept = now
        return True


class Run:
    """What the server is told of transactions that come when a test says so."""

    def __init__(self, keep_s: float = 0.0) -> None:
        config, status = FeedConfig("main", "", "wal"), FeedStatus("main")
        self.outlet = Collector()
        self.delivery = Delivery(config, self.outlet, status)
        self.confirming = Confirming(config, self.delivery, self.outlet, status, keep_s)
        self.kept = self.confirming._kept = Kept(config, status)
        self.news = trio.Event()
        self.told: list[int] = []

    def send_status(self, confirmed_lsn: int) -> None:
        self.told.append(confirmed_lsn)

    @property
    def stream(self) -> Any:
        """Of it only what is asked of a `WalStream` here."""
        return self

    def begin(self, lsn: int) -> None:
        self.delivery.begin(lsn)
        self.delivery.progress.is_new()

    def commit(self, lsn: int) -> None:
        self.begin(lsn)
        self.delivery.commit(lsn + 1, 0)
        self.news.set()

    def idle(self, lsn: int) -> None:
        self.delivery.progress.idle_until(lsn)
        self.news.set()

    def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.confirming.confirm, self.stream)
        nursery.start_soon(self.confirming.keep_regularly, self.stream)


async def test_the_server_is_told_what_was_durable_and_kept(autojump_clock: MockClock) -> None:
    run = Run()
    is_durable = trio.Event()
    run.outlet.durable = is_durable.wait  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        run.start(nursery)
        run.commit(100)
        await trio.sleep(1)
        assert (run.told, run.kept.written, run.confirming.secured_lsn) == ([], [], 0)
        is_durable.set()
        await trio.sleep(1)
        assert run.told[-1] == run.confirming.lsn == run.confirming.kept_lsn == 101
        assert [one.lsn for one in run.kept.written] == [101]
        assert run.confirming.secured_lsn == 101
        nursery.cancel_scope.cancel()


async def test_what_could_not_be_kept_is_not_confirmed_and_tried_again(autojump_clock: MockClock) -> None:
    run = Run()
    async with trio.open_nursery() as nursery:
        run.start(nursery)
        run.kept.fails = True
        run.commit(100)
        await trio.sleep(3 * KEEP_INTERVAL_S)
        assert set(run.told) == {0}
        assert run.confirming.secured_lsn == 101
        assert not run.confirming.is_saved
        run.kept.fails = False
        await trio.sleep(KEEP_INTERVAL_S + 0.1)
        assert (run.told[-1], run.confirming.is_saved) == (101, True)
        nursery.cancel_scope.cancel()


async def test_a_burst_is_confirmed_and_kept_now_and_then(autojump_clock: MockClock) -> None:
    run = Run()
    async with trio.open_nursery() as nursery:
        run.start(nursery)
        await wait_all_tasks_blocked()
        for number in range(1, 201):
            run.commit(number * 10)
            await trio.sleep(0.01)
        await trio.sleep(2)
        assert run.told[-1] == 2001
        assert 2.0 / CONFIRM_INTERVAL_S - 5 < len(run.told) < 2.0 / CONFIRM_INTERVAL_S + 10
        assert len(run.kept.written) <= 2.0 / KEEP_INTERVAL_S + 2
        nursery.cancel_scope.cancel()


async def test_wal_without_a_row_is_kept_in_steps(autojump_clock: MockClock) -> None:
    run = Run()
    async with trio.open_nursery() as nursery:
        run.start(nursery)
        run.commit(100)
        await trio.sleep(2)
        run.idle(101 + STEP_BYTES - 1)
        await trio.sleep(2)
        assert len(run.kept.written) == 1
        assert run.confirming.needless_lsn == 100 + STEP_BYTES, "nothing of ours is in it"
        run.idle(101 + STEP_BYTES)
        await trio.sleep(2)
        assert (len(run.kept.written), run.told[-1]) == (2, 101 + STEP_BYTES)
        nursery.cancel_scope.cancel()


async def test_rows_that_are_not_kept_are_needed(autojump_clock: MockClock) -> None:
    run = Run()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.confirming.confirm, run.stream)
        run.commit(100)
        await trio.sleep(1)
        assert (run.confirming.secured_lsn, run.confirming.needless_lsn) == (101, 0)
        nursery.cancel_scope.cancel()


async def test_inside_of_a_long_transaction_the_place_is_kept(autojump_clock: MockClock) -> None:
    run = Run()
    async with trio.open_nursery() as nursery:
        run.start(nursery)
        await trio.sleep(1)
        run.begin(100)
        await trio.sleep(PLACE_INTERVAL_S - 2)
        assert run.kept.written == []
        await trio.sleep(2)
        assert [(one.lsn, one.place) for one in run.kept.written] == [(0, (100, 1))]
        assert set(run.told) == {0}
        nursery.cancel_scope.cancel()


async def test_a_stop_keeps_the_exact_place() -> None:
    run = Run()
    run.commit(100)
    run.begin(200)
    assert not run.confirming.is_saved
    await run.confirming.leave(run.stream)
    assert run.kept.written[-1].place == (200, 1)
    assert (run.told, run.confirming.is_saved, run.outlet.flushes) == ([101], True, 1)


async def test_what_may_be_wanted_again_stays_with_the_server_for_a_while(autojump_clock: MockClock) -> None:
    run = Run(keep_s=60.0)
    run.commit(100)
    await run.confirming.leave(run.stream)
    assert run.told == [0]
    await trio.sleep(61)
    run.confirming.tell(run.stream)
    assert run.told == [0, 101]


@pytest.mark.parametrize("is_resumed", [True, False])
async def test_a_process_goes_on_from_what_was_kept(is_resumed: bool) -> None:
    run = Run()
    run.delivery.progress.resume(100, 0)
    run.confirming.found(Known(place=(100, 0), kept_lsn=120), is_resumed)
    assert (run.confirming.kept_lsn, run.confirming.is_saved) == (120, is_resumed)
    run.confirming.stands_at(90)
    run.confirming.stands_at(80)
    assert (run.confirming.lsn, run.confirming.secured_lsn) == (90, 90)


async def test_another_server_s_positions_begin_anew() -> None:
    run = Run()
    run.commit(100)
    await run.confirming.leave(run.stream)
    run.confirming.stands_at(500)
    run.confirming.forget()
    assert (run.confirming.lsn, run.confirming.secured_lsn) == (0, 0)
    run.confirming.tell(run.stream)
    assert run.told[-1] == 0
