"""The feed of kind `listen`: notifications of existing triggers, and what was missed read again by key.

One connection listens; a second one reads what was missed and is closed again; a third one reads, where that was
ever needed, the rows of which only a key was notified.  All LISTENs are on one connection, so that the order of
notifications survives.

Invariant: whenever the outlet has a row of a table with a `recover`, the row's mark is at least at its key, but for
rows of before there was a mark: their table was not there when the process began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import alone, is_being_stopped, last_words
from broker.feed.fast.learning import FAST_PATH, Learner
from broker.feed.fast.notified import FastRows
from broker.feed.gaps import announce, tell
from broker.feed.listen.attention import Attention
from broker.feed.listen.away import say_who_is_away
from broker.feed.listen.gap_words import GONE, LOST, UNFETCHED, UNTOLD, announce_tables, unrecovered
from broker.feed.listen.kept_marks import SAVE_INTERVAL_S, FoundMarks, KeptMarks
from broker.feed.listen.keyed_rows import Line
from broker.feed.listen.listener import Listener
from broker.feed.listen.mark import Key, Mark
from broker.feed.listen.marks import Marks
from broker.feed.listen.recovery import begin_snapshot, missed_rows
from broker.feed.listen.telling import Telling
from broker.feed.outlet import FeedOutlet, TakesRuns
from broker.feed.routing.routes import Router, Row
from broker.feed.row_barrier import RowBarrier
from broker.feed.slices import Slices
from broker.feed.status import FeedStatus
from protocol.notifications import Notification

logger = logging.getLogger("broker.feed")

SEND_ROWS: Final = 250
"""Notifications after which their receivers get what there is, while more is being read: so they work meanwhile."""

LOOK_INTERVAL_S: Final = 30.0
"""How soon a trigger is noticed that does not notify any more."""

Held = tuple[Row, Mark]
"""A row that was notified while recovery reads: it may be among what is read."""


class ListenFeed:
    """One database's notifications to an outlet.  Marks, `once_per` memories and the line outlive a connection."""

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        self._config = config
        self._outlet = outlet
        self._status = status
        self._router = Router(config, status)
        self._marks = Marks(config.recoveries)
        self._telling = Telling(config.recoveries)
        self._kept = KeptMarks(config, self._marks, self._telling)
        self._forget_looks()
        self._line = Line(config, self._router, status)
        self._channels = [channel for source in config.sources for channel in source.listen]
        self._was_live = False
        self._unheard = ""
        self._slices = Slices(outlet)
        self._rows = RowBarrier(status)
        self._clock: Callable[[], float] = trio.current_time

    @property
    def here(self) -> tuple[int, int]:
        """As `supervise.Feed.here`: notifications have none."""
        return (0, 0)

    def adopt(self, config: FeedConfig) -> bool:
        """As `supervise.Feed.adopt`: other routes, at once; what is waiting or notified meanwhile takes them, too."""
        if self._config.adopting(config) != config:
            return False
        self._config = config
        self._router.adopt(config)
        self._forget_looks()
        return True

    def _forget_looks(self) -> None:
        """What is known of rows' looks is learned anew."""
        publish_run = self._outlet.publish_run if isinstance(self._outlet, TakesRuns) else None
        self._fast = FastRows(self._outlet.publish, self._deliver_carefully, publish_run)
        self._learner = Learner(self._fast, self._config.fetches)

    async def attempt(self) -> None:
        """As `supervise.Feed.attempt`."""
        self._clock = trio.lowlevel.current_clock().current_time  # `trio.current_time` is two more calls
        async with connected(self._config) as connection:
            await self._prepare_line(connection)
            listener = Listener(connection, self._config)
            await listener.listen(self._channels)
            self._status.enter("recovering")
            try:
                await self._let_leave()
                if self._marks:
                    await self._catch_up(listener)
                self._go_live()
                await self._stay_live(listener)
            finally:
                self._line.close()

    async def _prepare_line(self, connection: TrioConnection) -> None:
        missed = await self._line.prepare(connection)
        announce_tables(self._status, self._outlet, {UNFETCHED: missed})

    async def _stay_live(self, listener: Listener) -> None:
        attention = Attention(
            self._outlet, listener, self._deliver_few, partial(self._deliver_arrivals, listener)
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_marks)
                nursery.start_soon(self._look_regularly)
                nursery.start_soon(listener.watch)
                while True:
                    await attention.wait()
                    if self._slices.is_due:
                        await self._slices.breathe()
                    self._deliver_arrivals(listener)
                    if self._slices.is_due:
                        await self._slices.breathe()
                    if self._line:
                        with listener.set_aside():
                            await self._let_leave()
        except BaseExceptionGroup as group:
            raise alone(group) from None
        finally:
            attention.close()
            self._deliver(listener.rest())
            self._outlet.flush()
            if is_being_stopped():
                with last_words():
                    await self._let_leave()
                with last_words():
                    await self._kept.save_last(self._outlet)

    async def _keep_marks(self) -> None:
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            with suppress(psycopg.Error):  # then listening will fail, too
                await self._kept.save(self._outlet)

    async def _look_regularly(self) -> None:
        """Raises: psycopg.OperationalError, to read by key what triggers may not have told, or could not be read."""
        while self._marks or self._line.is_short:
            await trio.sleep(LOOK_INTERVAL_S)
            silenced: list[str] = []
            changed: list[str] = []
            with suppress(psycopg.Error):  # then listening will fail, too, or we look again
                async with connected(self._config) as connection:
                    silenced = self._telling.silenced(await self._telling.look(connection))
                    changed = await self._marks.changed(connection)
                    if self._line.is_short:
                        await self._prepare_line(connection)
            if silenced:
                raise psycopg.OperationalError(f"{', '.join(silenced)}: {UNTOLD}")
            if changed:
                raise psycopg.OperationalError(f"{', '.join(changed)}: not there any more, or there again")

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing."""
        return self._kept.is_saved

    def _go_live(self) -> None:
        status = self._status
        if self._was_live:
            status.reconnects += 1
        if self._unheard:
            self._announce_gap(self._unheard)
        self._was_live, self._unheard = True, "the connection was lost"
        status.enter("live")
        logger.info("feed %s: live on %s", status.name, ", ".join(self._channels))

    async def _catch_up(self, listener: Listener) -> None:
        """Publish what was missed, then what was notified meanwhile, each row once.

        Whatever the snapshot holds was notified before `until_now`.  So only the rows that came until then can
        also be among those that are read, and nothing else needs to be remembered.
        """
        async with connected(self._config) as reader:
            await begin_snapshot(reader)
            await self._find_place(reader)
            held = self._publish_unmarked(await listener.until_now())
            await self._let_leave()
            already = await self._publish_missed(reader, held)
        for row, mark in held:
            key = mark.key_of(row.columns)
            if key is not None and (mark, key) in already:
                self._status.repeated += 1
            else:
                self._line.join(row)
        await self._let_leave()

    async def _find_place(self, reader: TrioConnection) -> None:
        """Behind what the marks say, be they of another process; a gap for the tables in which they say nothing."""
        is_first = not self._marks.is_settled
        kept = await self._kept.load() if is_first else FoundMarks()
        triggers = await self._telling.look(reader)
        were_away = set(self._marks.away)
        lost = await self._marks.settle(reader, kept.marks)
        # From here on nothing can fail before it is announced: the marks are as they will be now.
        away = {one.table: why for one, why in self._marks.away.items()}
        say_who_is_away(away, self._status)
        untold = self._telling.take(triggers)
        if kept.marks is not None:
            self._unheard = "Rowcast was not running"
        if lost or were_away - self._marks.away.keys():
            self._forget_looks()  # they know the marks of before, or none
        if kept.reason:
            announce(self._status, self._outlet, kept.reason, "", "now")
        else:
            begins_anew = is_first and kept.marks is None
            gone: Collection[str] = () if begins_anew else away
            announce_tables(self._status, self._outlet, {LOST: lost, GONE: gone, UNTOLD: untold})
        if is_first or lost or untold:
            await self._kept.save(self._outlet)

    async def _let_leave(self) -> None:
        """Publish the rows of the line, after those have been read of which there is only a key.

        Raises:
            psycopg.Error, OSError: one can't be read now; it remains, with those behind it.
        """
        while self._line:
            announce_tables(self._status, self._outlet, {UNFETCHED: self._line.give_up()})
            await self._line.fetch()
            now = trio.current_time()
            for row in self._line.leave():
                with self._rows.of("kind", row.kind, now):
                    self._publish(row, now)
            self._outlet.flush()
            await self._slices.breathe()
            await trio.lowlevel.checkpoint()

    def _publish_unmarked(self, notifications: Iterable[Notification]) -> list[Held]:
        """Put the rows in line that nobody reads again; what is left is to be held until the reading is done."""
        held: list[Held] = []
        now = trio.current_time()
        for channel, text in notifications:
            self._status.received += 1
            with self._rows.of("channel", channel, now):
                row = self._router.notification(channel, text, now)
                if row is None:
                    continue
                mark = self._marks.get(row.source.config.name, row.kind)
                if mark is None:
                    self._line.join(row)
                else:
                    held.append((row, mark))
        return held

    async def _publish_missed(self, reader: TrioConnection, held: list[Held]) -> set[tuple[Mark, Key | None]]:
        """Read and publish.  Returns the keys of held rows that were among it."""
        awaited = {(mark, mark.key_of(row.columns)) for row, mark in held}
        already: set[tuple[Mark, Key | None]] = set()
        for source, kind, mark in self._marks.readable():
            async with aclosing(missed_rows(reader, mark)) as pages:
                async for page in pages:
                    already |= awaited & await self._publish_page(page, source, kind, mark)
        return already

    async def _publish_page(
        self, page: list[bytes], source: str, kind: str, mark: Mark
    ) -> set[tuple[Mark, Key | None]]:
        now = trio.current_time()
        keys = set()
        for text in page:
            with self._rows.of("kind", kind, now):
                row = self._router.row(source, kind, text, now)
                if row is not None:
                    self._status.recovered += 1
                    self._publish(row, now)
                    keys.add((mark, mark.key_of(row.columns)))
            if self._slices.is_due:
                self._outlet.flush()
                await self._slices.breathe()
        self._outlet.flush()
        return keys

    def _deliver(self, notifications: list[Notification]) -> bool:
        """Whether all of them are done with; if not, the rest is in line."""
        status = self._status
        status.received += len(notifications)
        now = self._clock()
        taken = 0
        if not self._line:
            taken = self._deliver_fast(notifications, now)
            if taken == len(notifications):
                return True
        for channel, text in notifications[taken:]:
            with self._rows.of("channel", channel, now):
                row = self._router.notification(channel, text, now)
                if row is not None:
                    self._line.join(row)
        return False

    def _deliver_arrivals(self, listener: Listener) -> bool:
        """Whether there is nothing to be waited for.  If readers are, what has come is handed out afterwards."""
        unsent = 0
        for some in listener.arrivals():
            self._deliver(some)
            unsent += len(some)
            if unsent >= SEND_ROWS or self._slices.is_due:
                self._outlet.flush()
                unsent = 0
                if self._slices.is_due:
                    return False
        self._outlet.flush()
        return not self._line

    def _deliver_few(self, notifications: list[Notification]) -> bool:
        """As `Attention` wants it."""
        return self._deliver(notifications) and not self._slices.is_due

    def _deliver_fast(self, notifications: list[Notification], now: float) -> int:
        """How many were published or dropped; the one behind them can't be published now."""
        taken = 0
        while taken < len(notifications):
            rest = notifications[taken:] if taken else notifications
            with self._rows.of("channels of", self._status.name, now):
                count, published, repeated = self._fast.deliver(rest, now)
                self._status.published += published
                self._status.repeated += repeated
                return taken + count
            taken += self._fast.at + 1  # that one is dropped
        return taken

    def _deliver_carefully(self, channel: bytes, text: bytes, now: float) -> bool:
        """As `FastRows` wants it: False, and nothing has been done, for a row that has to be read first."""
        row = self._router.notification(channel, text, now)
        if row is not None:
            if self._line.table_for(row) is not None:
                return False
            if FAST_PATH.is_on:
                self._learner.learn(channel, row, self._marks.get(row.source.config.name, row.kind))
            self._publish(row, now)
        return True

    def _publish(self, row: Row, now: float) -> None:
        mark = self._marks.get(row.source.config.name, row.kind)
        if mark is not None and not mark.advance(row.columns):
            what = f"no key in column {', '.join(mark.recovery.key)}, so it can't be recovered"
            self._status.warn(what, f"kind {row.kind}", now)
        outgoing = self._router.publications(row, now)
        for publication in outgoing:
            self._outlet.publish(*publication)
        self._status.published += len(outgoing)

    def _announce_gap(self, why: str) -> None:
        lost = unrecovered(self._config)
        if lost:
            reason = f"{why}, and no [[recover]] reads again {'; '.join(lost)}"
            self._status.gap(reason)
            logger.warning(
                "feed %s: rows notified while %s are lost: %s (a [[recover]] prevents it)",
                self._status.name,
                why,
                "; ".join(lost),
            )
            tell(self._status, self._outlet, reason, "", "now")
