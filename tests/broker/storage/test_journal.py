"""Saves are whole or not at all, one after the other, and nobody waits for more of them than needed."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from support.storage import engine_with, saved_messages

from broker.core.engine import Engine
from broker.storage import journal as journal_module
from broker.storage.journal import Journal
from broker.storage.records import Snapshot, snapshot


class HeldWriter:
    """Makes a journal's writer wait in its thread until it may go on."""

    written = 0

    def __init__(self, journal: Journal) -> None:
        self.is_writing = threading.Event()
        self.may_go_on = threading.Event()
        self._writer = journal._writer
        journal._writer = self  # type: ignore[assignment]

    def write(self, saved: Snapshot, pause_s: float) -> int:
        self.is_writing.set()
        assert self.may_go_on.wait(90)
        return self._writer.write(saved, pause_s)


def taking(engine: Engine) -> Callable[[], Awaitable[Snapshot]]:
    async def take() -> Snapshot:
        await trio.lowlevel.checkpoint()
        return snapshot(engine, 0.0)

    return take


async def test_what_was_saved_is_there_after_opening_again(tmp_path: Path) -> None:
    journal, _ = await Journal.open(tmp_path / "rowcast.db")
    assert await journal.save(taking(engine_with(3)))
    assert await journal.save(taking(engine_with(5)))
    await journal.close()
    assert saved_messages(tmp_path / "rowcast.db") == 5


async def test_whoever_asks_during_a_save_shares_the_next_one(tmp_path: Path) -> None:
    """Hold the first save in its thread; three more ask meanwhile; they get one snapshot, taken afterwards."""
    journal, _ = await Journal.open(tmp_path / "rowcast.db")
    held = HeldWriter(journal)
    taken: list[int] = []

    async def save(messages: int) -> None:
        async def take() -> Snapshot:
            taken.append(messages)
            return await taking(engine_with(messages))()

        assert await journal.save(take)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(save, 1)
        await trio.to_thread.run_sync(held.is_writing.wait)
        for messages in (2, 3, 4):
            nursery.start_soon(save, messages)
        await trio.testing.wait_all_tasks_blocked()
        assert taken == [1]
        held.may_go_on.set()
    assert len(taken) == 2
    await journal.close()
    assert saved_messages(tmp_path / "rowcast.db") == taken[1]


async def test_a_save_that_fails_half_way_leaves_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file may not grow: the disk is full, as far as SQLite can tell."""
    journal, _ = await Journal.open(tmp_path / "rowcast.db")
    assert await journal.save(taking(engine_with(3)))
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    assert not await journal.save(taking(engine_with(5000)))
    assert "database or disk is full. What was saved before is kept." in caplog.text
    assert await journal.save(taking(engine_with(4)))
    await journal.close()
    assert saved_messages(tmp_path / "rowcast.db") == 4


async def test_a_save_that_is_cancelled_while_it_writes_is_finished_all_the_same(tmp_path: Path) -> None:
    journal, _ = await Journal.open(tmp_path / "rowcast.db")
    held = HeldWriter(journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.save, taking(engine_with(3)))
        await trio.to_thread.run_sync(held.is_writing.wait)
        nursery.cancel_scope.cancel()
        held.may_go_on.set()
    await journal.close()
    assert saved_messages(tmp_path / "rowcast.db") == 3


async def test_the_file_shrinks_after_a_flood_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SPARE_PAGES_MAX", 10)
    path = tmp_path / "rowcast.db"
    journal, _ = await Journal.open(path)
    await journal.save(taking(engine_with(3000)))
    flood = path.stat().st_size
    for _ in range(3):
        await journal.save(taking(engine_with(1)))
    assert path.stat().st_size < flood / 3
    await journal.close()
    assert saved_messages(path) == 1
