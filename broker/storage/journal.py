"""The one writer of the persistence file: saves in a thread, one after the other, none of them torn.

Whoever asks for a save while one is being written shares the next one with everybody else who asked meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, Self

import trio

from broker.storage.batches import PAUSE_S
from broker.storage.database import open_database
from broker.storage.records import Snapshot
from broker.storage.writing import Writer

logger = logging.getLogger("broker.storage")

SPARE_PAGES_MAX: Final = 4096
"""Unused pages (4 KiB each) that the file may keep for the next save."""


class Journal:
    """An open persistence file.

    Attributes:
        path: of the file.
        saved_s: what the last save took, in seconds; 0.0 before the first.
        problem: why the last save failed; "" if it did not.
        needs_whole: a snapshot that was begun did not reach the file, so the next one must be whole.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, saved: Snapshot) -> None:
        self.path = path
        self.saved_s = 0.0
        self.problem = ""
        self.needs_whole = False
        self._connection = connection
        self._writer = Writer(connection, saved)
        self._turn = trio.Lock()
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
        self, take: Callable[[], Awaitable[Snapshot]], *, hurry: bool = False, announce: bool = True
    ) -> bool:
        """Bring the file to what a snapshot says.

        Args:
            take: takes the snapshot, at the moment when the writer is free; whole if `needs_whole`.
            hurry: without pauses for the loop, because nothing else runs any more.
            announce: say so in the log, as mosquitto does.

        Returns:
            False if it failed, which is logged; the file holds what it held before.
        """
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._answered >= mine:
                return self._succeeded
            answering = self._asked
            try:
                write_it = partial(self._write, await take(), 0.0 if hurry else PAUSE_S, announce)
                self._succeeded = await trio.to_thread.run_sync(write_it)
                self.needs_whole = not self._succeeded
            except BaseException:
                self.needs_whole = True
                raise
            self._answered = answering
            return self._succeeded

    async def close(self) -> None:
        """Let go of the file.  No save may be under way."""
        await trio.to_thread.run_sync(self._connection.close)

    def _write(self, snapshot: Snapshot, pause_s: float, announce: bool) -> bool:
        started = time.monotonic()
        if announce:
            logger.info("Saving in-memory database to %s.", self.path)  # as mosquitto words it
        try:
            rows = self._writer.write(snapshot, pause_s)
        except sqlite3.Error as error:
            self.problem = f"nothing can be saved to {self.path}: {error}"
            logger.error("Error saving to %s: %s. What was saved before is kept.", self.path, error)
            return False
        try:
            self._tidy()
        except sqlite3.Error as error:
            logger.warning("Saved to %s-wal, and not yet to %s itself: %s.", self.path, self.path, error)
        self.saved_s = time.monotonic() - started
        logger.debug("Saved %d rows in %.3f s.", rows, self.saved_s)
        return True

    def _tidy(self) -> None:
        """Move the write-ahead log into the file, and give back what the file does not need any more."""
        connection = self._connection
        spare = connection.execute("PRAGMA freelist_count").fetchone()[0]
        used = connection.execute("PRAGMA page_count").fetchone()[0] - spare
        if spare > max(SPARE_PAGES_MAX, used):
            # As a script, because that goes on until it is done; `execute` would stop after one page.
            connection.executescript(f"PRAGMA incremental_vacuum({spare - used})")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
