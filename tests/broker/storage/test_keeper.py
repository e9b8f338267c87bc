"""When the state is saved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from support.storage import engine_with, saved_messages
from trio.testing import MockClock

from broker.config.model import Persistence
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.keeper import Keeper, persistence_path
from broker.storage.records import Snapshot


def settings(interval_s: int = 1800, on_changes: bool = False) -> Persistence:
    return Persistence(True, autosave_interval_s=interval_s, autosave_on_changes=on_changes)


class NotedJournal:
    """Notes when it was asked to save, by Trio's clock, and how many retained messages it knows of then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved_s = 0.0
        self.problem = ""
        self.needs_whole = False
        self.works = True
        self.saves: list[float] = []
        self.retained: list[int] = []
        self._topics: set[bytes] = set()

    def begin(self, take: Callable[[], Snapshot], ended: Callable[[bool], None]) -> bool:
        return False

    async def save(
        self,
        take: Callable[[], Awaitable[Snapshot]],
        *,
        hurry: bool = False,
        announce: bool = True,
        close_behind: bool = False,
    ) -> bool:
        await trio.lowlevel.checkpoint()
        self.saves.append(trio.current_time())
        taken = await take()
        if taken.retained_changes is not None:
            self._topics.update(taken.retained_changes)
        elif taken.retained_changed:
            self._topics = {kept.topic for kept in taken.retained}
        self.retained.append(len(self._topics))
        self.needs_whole = not self.works
        return self.works

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def keeping(engine: Engine, persistence: Persistence) -> AsyncIterator[tuple[Keeper, NotedJournal]]:
    """A keeper at work, whose clock starts at 0."""
    journal = NotedJournal(persistence_path(persistence))
    keeper = Keeper(engine, journal, persistence)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper, journal
        nursery.cancel_scope.cancel()
    await keeper.close()


def change(engine: Engine) -> None:
    engine.publish(Publication(b"t", b"x", 1, True))


async def test_every_interval_in_which_something_changed(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=10)) as (_, journal):
        await trio.sleep(25)
        assert journal.saves == []
        change(engine)
        await trio.sleep(0.2)
        assert len(journal.saves) == 1
        change(engine)
        await trio.sleep(9)
        assert len(journal.saves) == 1
        await trio.sleep(1.5)
        assert len(journal.saves) == 2


async def test_after_so_many_changes_and_soon(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=3, on_changes=True)) as (_, journal):
        change(engine)
        change(engine)
        await trio.sleep(100)
        assert journal.saves == []
        change(engine)
        await trio.sleep(0.2)
        assert len(journal.saves) == 1


async def test_close_behind_the_changes_however_long_the_last_save_took(autojump_clock: MockClock) -> None:
    """A rest that grows with the last save lets more gather for the next, which takes longer, and so on."""
    engine = Engine()
    async with keeping(engine, settings(interval_s=1, on_changes=True)) as (_, journal):
        journal.saved_s = 10.0
        for _ in range(1000):
            change(engine)
            await trio.sleep(0.01)
    gaps = [later - earlier for earlier, later in pairwise(journal.saves[:-1])]
    assert len(gaps) > 100
    assert max(gaps) < 0.1


async def test_never_by_itself_with_interval_0_but_at_the_end(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=0)) as (_, journal):
        change(engine)
        await trio.sleep(100)
        assert journal.saves == []
    assert len(journal.saves) == 1


async def test_what_is_asked_for_is_saved_at_once_changed_or_not() -> None:
    async with keeping(Engine(), settings()) as (keeper, journal):
        assert await keeper.save()
    assert len(journal.saves) == 1


async def test_the_end_saves_only_what_is_not_saved_yet() -> None:
    engine = Engine()
    async with keeping(engine, settings()) as (keeper, journal):
        change(engine)
        await keeper.save()
    assert len(journal.saves) == 1


async def test_a_change_while_saving_is_saved_next_time(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings()) as (keeper, journal):
        change(engine)
        save = journal.save

        async def save_slowly(take: Callable[[], Awaitable[Snapshot]], **_: bool) -> bool:
            done = await save(take)
            engine.publish(Publication(b"late", b"x", 1, True))
            return done

        journal.save = save_slowly  # type: ignore[method-assign]
        await keeper.save()
        journal.save = save  # type: ignore[method-assign]
    assert journal.retained == [1, 2]


async def test_a_failed_save_is_tried_again_after_a_while(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=1, on_changes=True)) as (keeper, journal):
        journal.works, journal.problem = False, "the disk is full"
        change(engine)
        await trio.sleep(9)
        assert len(journal.saves) == 1
        assert (keeper.problem, keeper.failures) == ("the disk is full", 1)
        journal.works = True
        await trio.sleep(2)
        assert len(journal.saves) == 2
        assert (keeper.problem, keeper.failures, keeper.saves.count()) == ("", 1, 1)
        await trio.sleep(100)
        assert len(journal.saves) == 2


async def test_retained_messages_stay_out_if_so_configured() -> None:
    engine = Engine()
    change(engine)
    async with keeping(engine, Persistence(True, retained_persistence=False)) as (keeper, journal):
        await keeper.save()
    assert journal.retained == [0]


async def test_new_settings_hold_at_once(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=0)) as (keeper, journal):
        change(engine)
        keeper.adopt(settings(interval_s=1, on_changes=True))
        await trio.sleep(0.2)
        assert len(journal.saves) == 1


async def test_the_end_saves_though_everything_is_being_cancelled(tmp_path: Path) -> None:
    engine = Engine()
    with trio.CancelScope() as scope:
        keeper = await Keeper.open(engine, Persistence(True, tmp_path))
        session, _ = engine.open_session(b"away", False)
        engine.subscribe_session(session, b"t", 1)
        change(engine)
        scope.cancel()
        await keeper.close()
    assert saved_messages(tmp_path / "rowcast.db") == 1


async def test_settle_returns_when_earlier_changes_are_saved_and_not_before(
    autojump_clock: MockClock,
) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=0)) as (keeper, journal):
        await keeper.settle()
        assert journal.saves == []
        change(engine)
        journal.works = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.settle)
            await trio.sleep(25)
            assert len(journal.saves) == 3
            assert nursery.child_tasks
            journal.works = True
        assert len(journal.saves) == 4


async def test_settle_paces_its_saves(autojump_clock: MockClock) -> None:
    engine = Engine()
    async with keeping(engine, settings(interval_s=0)) as (keeper, journal):
        journal.saved_s = 0.01
        for _ in range(3):
            change(engine)
            await keeper.settle()
    assert [round(saved - journal.saves[0], 3) for saved in journal.saves[:3]] == [0, 0.02, 0.04]


async def test_whether_retained_messages_are_kept_may_change(tmp_path: Path) -> None:
    engine = Engine()
    keeper = await Keeper.open(engine, Persistence(True, tmp_path))
    engine.publish(Publication(b"t", b"x", 1, True))
    for keeps, count in ((True, 1), (False, 0), (True, 1)):
        keeper.adopt(Persistence(True, tmp_path, retained_persistence=keeps))
        await keeper.settle()
        assert keeper._journal._connection.execute("SELECT count(*) FROM retained").fetchone() == (count,)
    await keeper.close()


async def test_what_a_failed_save_should_have_written_is_in_the_next_one(tmp_path: Path) -> None:
    """The file may not grow for one save: the disk is full, as far as SQLite can tell."""
    engine = engine_with(3)
    keeper = await Keeper.open(Engine(), Persistence(True, tmp_path))
    keeper._engine = engine
    assert await keeper.save()
    connection = keeper._journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(1000):
        engine.publish(Publication(b"t", b"%d" % number, 1))
    assert not await keeper.save()
    connection.execute(f"PRAGMA max_page_count = {100 * pages}")
    engine.publish(Publication(b"t", b"last", 1))
    assert await keeper.save()
    await keeper.close()
    assert saved_messages(tmp_path / "rowcast.db") == 1004


@pytest.mark.parametrize(("asked", "told"), [("save", True), ("settle", False)])
async def test_the_log_tells_of_saves_but_not_of_those_that_feeds_wait_for(
    asked: str, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = Engine()
    keeper = await Keeper.open(engine, Persistence(True, tmp_path))
    change(engine)
    await getattr(keeper, asked)()
    assert ("Saving in-memory database" in caplog.text) == told
    await keeper.close()


async def test_a_last_save_that_fails_is_known_to_whoever_ends_the_process(autojump_clock: MockClock) -> None:
    for works in (True, False):
        engine = Engine()
        async with keeping(engine, settings(interval_s=0)) as (keeper, journal):
            change(engine)
            journal.works = works
        assert keeper.is_lost is not works
