"""The one writer of the persistence file: saves one after the other, none of them torn.

Whoever asks for a save while one is being written shares the next one with everybody else who asked meanwhile.

A save that is large is written by a thread.  One of the many small ones that keep the file close behind the broker is
written by the loop, a millisecond at a time, and only its commit waits for the disk in a thread: beside a busy loop a
thread gets the interpreter for a statement once in 5 ms, and 1000 rows would take it seconds.  Where somebody waits for
it, `begin` does the first millisecond at once, which as a rule is all, and no task has to be woken before or after.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Final, Self

import trio

from broker.storage.database import open_database
from broker.storage.disk_thread import DiskThread
from broker.storage.log_room import make_room
from broker.storage.records import Snapshot
from broker.storage.writing import PAUSE_S, Writer

logger = logging.getLogger("broker.storage")

SPARE_PAGES_MAX: Final = 4096
"""Unused pages (4 KiB each) that the file may keep for the next save."""

LOOK_AT_SPARE_S: Final = 0.1
"""Of saves that come closer together, not each looks how many pages are unused."""

SLICE_S: Final = 0.001
SLICE_S_MAX: Final = 0.01
"""The loop writes for this long in one go, or for as long as all else took since the last time: where there is more to
do than time for it, saving gets half, and what it has to save no longer grows."""


class Journal:
    """An open persistence file.

    Attributes:
        path: of the file.
        saved_s: what the last save took, in seconds; 0.0 before the first.
        problem: why the last save failed; "" if it did not.
        disk: waits for commits; may be watched.
        needs_whole: a snapshot that was begun did not reach the file, so the next one must be whole.
        keeps_room: the log is to stay as long as it gets, because somebody waits for what is saved.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, saved: Snapshot) -> None:
        self.path = path
        self.saved_s = 0.0
        self.problem = ""
        self.needs_whole = False
        self.keeps_room = False
        self._connection = connection
        self._writer = Writer(connection, saved)
        self.disk = DiskThread()
        self._looked_at = 0.0
        """When it was last seen how many pages are spare."""
        self._free = trio.Semaphore(1)
        self._asked = 0
        self._answered = 0
        self._succeeded = True

    @classmethod
    async def open(cls, path: Path) -> tuple[Self, Snapshot]:
        """Open or make the file; also what was saved to it last.

        Raises:
            StorageError: the file can't be used.
        """
        connection, saved = await trio.to_thread.run_sync(open_database, path)
        return cls(path, connection, saved), saved

    async def save(
        self,
        take: Callable[[], Awaitable[Snapshot]],
        *,
        hurry: bool = False,
        announce: bool = True,
        close_behind: bool = False,
    ) -> bool:
        """Bring the file to what a snapshot says.

        Args:
            take: takes the snapshot, at the moment when the writer is free; whole if `needs_whole`.
            hurry: without pauses for the loop, because nothing else runs any more.
            announce: say so in the log, as mosquitto does.
            close_behind: one of many, which nothing that others do may hold up.

        Returns:
            False if it failed, which is logged; the file holds what it held before.
        """
        self._asked += 1
        mine = self._asked
        async with self._free:
            if self._answered >= mine:
                return self._succeeded
            answering = self._asked
            try:
                snapshot = await take()
                if close_behind and not snapshot.is_whole:
                    self._succeeded = await self._write_here(snapshot, announce)
                else:
                    write_it = partial(self._write, snapshot, 0.0 if hurry else PAUSE_S, announce)
                    self._succeeded = await trio.to_thread.run_sync(write_it)
                self.needs_whole = not self._succeeded
            except BaseException:
                self.needs_whole = True
                raise
            self._answered = answering
            return self._succeeded

    def begin(self, take: Callable[[], Snapshot], ended: Callable[[bool], None]) -> bool:
        """Save what `take` returns, if nothing else is being saved and the next one need not be whole.

        Args:
            ended: told whether it succeeded; a failure is logged, and the file holds what it held before.

        Returns:
            False if nothing was begun.
        """
        if self.needs_whole:
            return False
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            return False
        started = time.monotonic()
        end = partial(self._end, started, ended)
        try:
            steps = self._writer.steps(take())
            for _ in steps:
                if time.monotonic() - started >= SLICE_S:
                    trio.lowlevel.spawn_system_task(self._go_on, steps, end)
                    return True
        except sqlite3.Error as error:
            end(error)
        except BaseException:
            self._give_up()
            raise
        else:
            self.disk.submit(self._writer.commit, end)
        return True

    def tell(self) -> None:
        """Say in the log that a save has begun, as mosquitto words it."""
        logger.info("Saving in-memory database to %s.", self.path)

    async def make_room(self) -> None:
        """Move the log into the file; if `keeps_room`, there is room for what follows."""
        async with self._free:
            await trio.to_thread.run_sync(self._tidy_up)

    async def close(self) -> None:
        """Let go of the file, when what is being saved is saved.  No other save may follow."""
        await self._free.acquire()
        self.disk.close()
        await trio.to_thread.run_sync(self._connection.close)

    async def _go_on(self, steps: Generator[None], end: Callable[[BaseException | None], None]) -> None:
        """The rest of one that was begun and turned out not to be so small."""
        try:
            await self._in_slices(steps)
        except sqlite3.Error as error:
            end(error)
        except BaseException:
            self._give_up()
            raise
        else:
            self.disk.submit(self._writer.commit, end)

    def _give_up(self) -> None:
        """What was begun does not reach the file."""
        self.needs_whole = True
        self._free.release()

    def _end(self, started: float, ended: Callable[[bool], None], error: BaseException | None) -> None:
        """What was begun is on disk, or has failed."""
        if error is not None:
            self._give_up()
            if not isinstance(error, sqlite3.Error):
                raise error
            ended(self._failed(error))
            return
        self._succeed(started)
        if self._must_tidy_up(started):
            self.disk.submit(self._tidy_up, lambda _: self._free.release())
        else:
            self._free.release()
        ended(True)

    async def _write_here(self, snapshot: Snapshot, announce: bool) -> bool:
        """Write in the loop's own turns, and let a thread wait for the disk."""
        started = time.monotonic()
        if announce:
            self.tell()
        with trio.CancelScope(shield=True):
            try:
                await self._in_slices(self._writer.steps(snapshot))
                # The commit itself moves the log into the file when it has grown to 4 MB, SQLite's measure for that.
                await self.disk.run(self._writer.commit)
                if self._must_tidy_up(started):
                    await self.disk.run(self._tidy_up)
            except sqlite3.Error as error:
                return self._failed(error)
        self._succeed(started)
        return True

    async def _in_slices(self, steps: Generator[None]) -> None:
        until = time.monotonic() + SLICE_S
        for _ in steps:
            now = time.monotonic()
            if now >= until:
                await trio.lowlevel.checkpoint()
                again = time.monotonic()
                until = again + min(max(again - now, SLICE_S), SLICE_S_MAX)

    def _must_tidy_up(self, now: float) -> bool:
        """Whether the file has too many unused pages; one save in so many looks."""
        if now - self._looked_at < LOOK_AT_SPARE_S:
            return False
        self._looked_at = now
        return self._spare_pages() > 0

    def _write(self, snapshot: Snapshot, pause_s: float, announce: bool) -> bool:
        started = time.monotonic()
        if announce:
            self.tell()
        try:
            self._writer.write(snapshot, pause_s)
        except sqlite3.Error as error:
            return self._failed(error)
        self._tidy_up()
        self._succeed(started)
        return True

    def _failed(self, error: sqlite3.Error) -> bool:
        self.problem = f"nothing can be saved to {self.path}: {error}"
        logger.error("Error saving to %s: %s. What was saved before is kept.", self.path, error)
        return False

    def _succeed(self, started: float) -> None:
        self.problem = ""
        self.saved_s = time.monotonic() - started
        logger.debug("Saved %d rows in %.3f s.", self._writer.written, self.saved_s)

    def _spare_pages(self) -> int:
        """How many pages the file should give back."""
        spare: int = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        used: int = self._connection.execute("PRAGMA page_count").fetchone()[0] - spare
        return spare - used if spare > max(SPARE_PAGES_MAX, used) else 0

    def _tidy_up(self) -> None:
        """Move the write-ahead log into the file, and give back what the file does not need any more."""
        try:
            spare = self._spare_pages()
            if spare > 0:
                # As a script, because that goes on until it is done; `execute` would stop after one page.
                self._connection.executescript(f"PRAGMA incremental_vacuum({spare})")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("Saved to %s-wal, and not yet to %s itself: %s.", self.path, self.path, error)
            return
        if self.keeps_room:
            try:
                make_room(self._connection)
            except sqlite3.Error as error:
                logger.warning("Saves may take longer: no room was made in %s-wal: %s.", self.path, error)
