"""When the broker's state is saved: every so often, after so many changes, on demand, and at the end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import trio

from broker.config.model import Persistence
from broker.core.engine import Engine
from broker.core.histogram import Histogram
from broker.core.saving import Redirecting, Saving
from broker.links.bell import Bell
from broker.links.pump import Pump
from broker.storage.journal import Journal
from broker.storage.records import Snapshot, collect, restore

logger = logging.getLogger("broker.storage")

LOOK_INTERVAL_S: Final = 0.1
"""How soon it is noticed that a save is due by the clock."""

CHANGES_LOOK_INTERVAL_S: Final = 0.02
"""And where changes are counted."""

REST: Final = 3.0
"""The next save waits so many times as long as the last one took, so that saving takes a quarter of the time at most,
as long as that is not too long a wait."""

REST_S_MAX: Final = 0.02
"""A longer rest would let more changes gather, which take the next save longer, and so on without end."""

ANNOUNCE_INTERVAL_S: Final = 1.0
"""Of saves that follow on changes, the log tells of so many."""

RETRY_INTERVAL_S: Final = 10.0
"""After a save that failed."""

PROMISED_RETRY_INTERVAL_S: Final = 1.0
"""And where clients wait for it."""


SLOW_S: Final = 1.0
"""A save that clients wait for is said to be slow when it takes longer."""


def persistence_path(settings: Persistence) -> Path:
    """The file that the settings name."""
    return settings.persistence_location / settings.persistence_file


class Keeper:
    """Keeps one engine's state in one journal.

    Args:
        engine: already restored from it.
        journal: open.
        settings: autosave_interval and its like; the journal's path is fixed.
    """

    def __init__(self, engine: Engine, journal: Journal, settings: Persistence) -> None:
        self._engine = engine
        self._journal = journal
        self._settings = settings
        self._wanted = trio.Event()
        self._saved_changes = engine.kept_changes()
        self._saved_at = trio.current_time()
        self._collected_retained = -1
        """`RetainedStore.changes` at the snapshot before."""
        self._not_before = 0.0
        self._announced_at = -math.inf
        self.saves = Histogram()
        """What saves took, in seconds, fsync included."""
        self.failures = 0
        self.is_lost = False
        """The last save of all failed: what changed since the one before is gone with the process."""
        self.problem = ""
        """Why the last save failed; "" if it did not."""
        self._saving_since: float | None = None
        self._begun_since: float | None = None
        """As that, of the save that a turn's end began."""
        self._promise()

    @classmethod
    async def open(cls, engine: Engine, settings: Persistence) -> Self:
        """Open the persistence file and bring a fresh engine to the state that it holds.

        Raises:
            StorageError: the file can't be used; the engine is as it was.
        """
        journal, saved = await Journal.open(persistence_path(settings))
        engine.turn.clock = trio.current_time
        with engine.turn:
            restore(engine, saved, time.time())
        if saved.sessions or saved.retained:
            logger.info(
                "Restored %d sessions and %d retained messages from %s.",
                len(saved.sessions),
                len(saved.retained),
                journal.path,
            )
        keeper = cls(engine, journal, settings)
        if journal.keeps_room:
            await journal.make_room()
        return keeper

    def watch(self, pump: Pump) -> None:
        """Let this pump tell that the disk is done, from now on.

        What is begun at the end of its turns then has all of a turn in it: call this when the pump is made.
        """
        disk = self._journal.disk
        disk.is_watched = True
        Bell(pump, disk.fileno(), disk.collect, disk.unwatch).hang()
        if self._engine.saving is not None:
            self._begin_at_ends()

    def trouble(self) -> str:
        """Why what clients are promised may not get on disk now; "" if all is well."""
        since = self._saving_since if self._begun_since is None else self._begun_since
        if self.problem or since is None or self._engine.saving is None:
            return self.problem
        took = trio.current_time() - since
        return f"a save takes {took:.1f} s so far, and clients wait for it" if took > SLOW_S else ""

    def adopt(self, settings: Persistence) -> None:
        """Take over new settings, after SIGHUP.  Another file, or none, takes a restart."""
        if settings.retained_persistence != self._settings.retained_persistence:
            self._collected_retained = -1
            self._engine.retained.forget_changed()
            self._saved_changes = -1
        self._settings = settings
        self._promise()

    async def run(self) -> None:
        """Save when it is due, for ever."""
        while True:
            counts = self._settings.autosave_on_changes or self._engine.saving is not None
            if not self._is_promised_now():
                with trio.move_on_after(CHANGES_LOOK_INTERVAL_S if counts else LOOK_INTERVAL_S):
                    await self._wanted.wait()
            self._wanted = trio.Event()
            now = trio.current_time()
            if self._is_due(now):
                await self.save(announce=not counts or self._is_announced(now), close_behind=counts)

    async def save(self, *, hurry: bool = False, announce: bool = True, close_behind: bool = False) -> bool:
        """Save now; False if that failed, which is logged.

        Args:
            hurry: nothing else runs any more that would want its turns.
            announce: say so in the log.
            close_behind: the next one follows soon; see `Journal.save`.
        """
        taken = self._saved_changes

        async def take() -> Snapshot:
            nonlocal taken
            with self._engine.turn:
                taken = self._engine.kept_changes()
            return await self._collected()

        began = trio.current_time()
        if self._saving_since is None:
            self._saving_since = began
        try:
            succeeded = await self._journal.save(
                take, hurry=hurry, announce=announce, close_behind=close_behind
            )
        finally:
            self._saving_since = None
        self._ended(began, taken, succeeded)
        return succeeded

    def _turn_ended(self) -> None:
        """Begin a save at once where somebody waits for one."""
        saving = self._engine.saving
        if saving is None or self._begun_since is not None or not saving.waiting() or self.problem:
            return
        began = self._begun_since = trio.current_time()
        taken = self._engine.kept_changes()

        def ended(succeeded: bool) -> None:
            self._begun_since = None
            self._ended(began, taken, succeeded)

        if not self._journal.begin(self._collected_at_once, ended):
            self._begun_since = None
            self._wanted.set()
        elif self._is_announced(began):
            self._journal.tell()

    def _is_announced(self, now: float) -> bool:
        """Whether the log is to tell of this one of many saves."""
        if now - self._announced_at < ANNOUNCE_INTERVAL_S:
            return False
        self._announced_at = now
        return True

    async def _collected(self) -> Snapshot:
        saved, steps = self._begun()
        for _ in steps:
            # A message that moves from its publisher's session to a subscriber's must not be in both, or in
            # neither: where that is promised, nothing else runs until all of one moment is collected.
            if self._engine.saving is None:
                await trio.lowlevel.checkpoint()
        return saved

    def _collected_at_once(self) -> Snapshot:
        saved, steps = self._begun()
        for _ in steps:
            pass
        return saved

    def _begun(self) -> tuple[Snapshot, Iterator[None]]:
        """A snapshot of this moment, and the steps that fill it."""
        engine = self._engine
        unix_now = time.time()
        is_whole = self._journal.needs_whole
        saved = Snapshot(unix_now, unix_now - engine.now, is_whole=is_whole)
        saved.retained_changed = is_whole or engine.retained.changes != self._collected_retained
        self._collected_retained = engine.retained.changes
        return saved, collect(engine, saved, retained=self._settings.retained_persistence)

    def _ended(self, began: float, taken: int, succeeded: bool) -> None:
        took_s = trio.current_time() - began
        if self._engine.saving is not None and took_s > SLOW_S:
            logger.warning("Saving to %s took %.1f s, and clients waited.", self._journal.path, took_s)
        if succeeded:
            self._saved(began, taken)
        else:
            self._failed()

    def _saved(self, began: float, taken: int) -> None:
        now = trio.current_time()
        saving = self._engine.saving
        self._saved_changes = max(self._saved_changes, taken)
        self._saved_at = now
        self._not_before = now + min(REST * max(self._journal.saved_s, now - began), REST_S_MAX)
        self.saves.observe(self._journal.saved_s)
        self.problem = ""
        if saving is not None:
            with self._engine.turn:
                saving.reached(self._saved_changes)

    def _failed(self) -> None:
        promised = self._engine.saving is not None
        pause_s = PROMISED_RETRY_INTERVAL_S if promised else RETRY_INTERVAL_S
        self._not_before = trio.current_time() + pause_s
        self.failures += 1
        self.problem = self._journal.problem

    async def settle(self) -> None:
        """Return when everything that changed before this call is saved, however many saves have to fail first.

        Saves are paced, as those that follow on changes.  There may be several in a second, so the log does not tell.
        """
        wanted = self._engine.kept_changes()
        while self._saved_changes < wanted:
            await trio.sleep_until(self._not_before)
            await self.save(announce=False, close_behind=True)

    async def close(self) -> None:
        """Save what is not saved yet, and let go of the file, whatever is being cancelled."""
        self._journal.keeps_room = False  # nothing follows
        with trio.CancelScope(shield=True):
            with self._engine.turn:
                self._engine.replaying.leave_all(self._engine.sessions.values())
            if self._engine.kept_changes() != self._saved_changes:
                self.is_lost = not await self.save(hurry=True)
            await self._journal.close()

    def _promise(self) -> None:
        """Let acknowledgements wait for saves, or no longer."""
        engine = self._engine
        self._journal.keeps_room = self._settings.acknowledge == "saved"
        if self._settings.acknowledge == "saved":
            if engine.saving is None:
                engine.saving = Saving(engine, self._saved_changes)
                with engine.turn:
                    engine.slicing.begin(Redirecting(engine))
            engine.saving.on_wanted = self._want
            self._begin_at_ends()
        elif engine.saving is not None:
            saving, engine.saving = engine.saving, None
            engine.turn.forget(self._turn_ended)
            with engine.turn:
                saving.give_up()
                engine.slicing.begin(Redirecting(engine))

    def _begin_at_ends(self) -> None:
        """Look for who waits at the end of each turn, behind all others who do something then."""
        turn = self._engine.turn
        turn.forget(self._turn_ended)
        turn.on_settled(self._turn_ended)

    def _want(self) -> None:
        """Something begins to wait for the next save."""
        if not self._engine.turn.is_under_way:
            self._wanted.set()

    def _is_promised_now(self) -> bool:
        """Whether something began to wait for the next save while the last one was being written."""
        saving = self._engine.saving
        return saving is not None and saving.waiting() > 0 and self._is_due(trio.current_time())

    def _is_due(self, now: float) -> bool:
        """As mosquitto counts, but not when there is nothing new; and at once where somebody waits for it."""
        if self._begun_since is not None:
            return False
        saving = self._engine.saving
        if saving is not None and saving.waiting():
            return not self.problem or now >= self._not_before
        changes = self._engine.kept_changes() - self._saved_changes
        interval = self._settings.autosave_interval_s
        if interval <= 0 or changes == 0 or now < self._not_before:
            return False
        if self._settings.autosave_on_changes:
            return changes >= interval
        return now - self._saved_at >= interval
