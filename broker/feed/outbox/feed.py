"""A feed from an outbox table: for servers without `wal_level = logical`.

Triggers write what changed, and each transaction gets a number at its commit, under a lock that is held until
the commit is visible (`sql/outbox.sql`).  So numbers are in the order of commits and become visible in their
order: reading on from the last number skips nothing, however long a transaction stayed open.

Invariant: the position in the database covers only what was handed to the outlet and called durable by it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed import snapshot
from broker.feed.captured import TRIGGERED, CaptureWatch
from broker.feed.driver.connect import connected, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import is_being_stopped, last_words, patient
from broker.feed.feed_row import ServerIdentity, known_feed, owe_nothing, remember_identity, remember_place
from broker.feed.gaps import announce
from broker.feed.outbox.delivery import OutboxDelivery
from broker.feed.outbox.pruning import Pruner
from broker.feed.outbox.queries import (
    LOST,
    NEXT,
    PRUNED,
    REST,
    TEXTSEND,
    captures,
    identify,
    is_overtaken,
    last_number,
    number_prepared,
    one_row,
    saved_position,
    xid_of,
)
from broker.feed.outlet import FeedOutlet
from broker.feed.placing import Placing
from broker.feed.resuming import Resuming
from broker.feed.slices import Slices
from broker.feed.status import FeedStatus
from broker.feed.unheard import check_notices, warn_of_unheard
from protocol.pgjson import SESSION_SQL

logger = logging.getLogger("broker.feed")

CHANNEL: Final = "rowcast_outbox"

TRANSACTIONS_PER_READ: Final = 500
ROWS_PER_READ: Final = 2000
"""After so many the position is saved, even in the middle of a transaction: a crash repeats no more."""

ROW_TIMEOUT_S: Final = 60.0
"""How long the server may take for the next row of a query before it counts as dead."""

FLUSH_ROWS: Final = 100
LOOK_INTERVAL_S: Final = 30.0
"""How soon a table is noticed that is not captured any more, and of which nothing comes."""

SETTINGS: Final = f"{SESSION_SQL}; SET synchronous_commit = off; SET enable_bitmapscan = off"
"""A bitmap has no order, so a part of a transaction would be sorted out of all of it; without
statistics the planner finds that cheap."""


class OutboxFeed:
    """One outbox to one outlet.  Positions and `once_per` memories survive lost connections."""

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        self._config = config
        self._outlet = outlet
        self._placing = Placing(outlet, config.name)
        self._resuming = Resuming(outlet)
        self._status = status
        self._delivery = OutboxDelivery(config, outlet, status)
        self._seq = -1
        self._id = 0
        self._xid = ""
        self._is_cut = True
        """Whether there may be more of the last transaction than was read."""
        self._saved = (0, 0)
        self._here = (0, 0)
        self._identity: ServerIdentity | None = None
        self._snapshot_due = bool(self._delivery.routes.snapshots)
        self._watch = CaptureWatch(config, status, TRIGGERED)
        self._slices = Slices(outlet)
        self._captures = 0
        self._captures_changed = False
        self._look_at = 0.0
        self._pruner = Pruner(config)
        self._woken = False
        self._was_live = False

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing."""
        return self._saved == (self._seq, self._id)

    @property
    def here(self) -> tuple[int, int]:
        """As `supervise.Feed.here`."""
        return self._here

    def adopt(self, config: FeedConfig) -> bool:
        """As `supervise.Feed.adopt`: never, since a new feed begins exactly where this one has stopped."""
        return False

    async def attempt(self) -> None:
        """Connect, check, publish snapshots if they are due, then everything that commits, until it fails.

        Raises:
            psycopg.Error: why it ended; `NotReady` if the database is not as this feed needs it.
        """
        async with connected(self._config, SETTINGS) as connection:
            await self._prepare(connection)
            connection.add_notify_handler(self._take_notify)
            await connection.execute(f"LISTEN {CHANNEL}")
            if self._snapshot_due:
                await self._publish_snapshots(connection)
            try:
                await self._follow(connection)
            finally:
                if is_being_stopped():
                    with last_words():
                        await self._save(connection, patient(self._config).check_timeout_s)

    async def _follow(self, connection: TrioConnection) -> None:
        self._status.enter("recovering")
        while True:
            woken_for_nothing, self._woken = self._woken, False
            await number_prepared(connection)
            while await self._read(connection) or await self._look_at_captures(connection):
                await self._save(connection)
                woken_for_nothing = False
            if woken_for_nothing and (lost := await self._lost_now(connection)):
                raise psycopg.OperationalError(lost)
            await self._save(connection)
            self._go_live()
            now = trio.current_time()
            if await self._pruner.prune(connection, now):
                await warn_of_unheard(connection, self._config, self._status, now)
            await self._wait(connection)

    async def _look_at_captures(self, connection: TrioConnection) -> bool:
        """Whether the triggers were changed, so that there may be more to read; what that means has been said."""
        changed, self._captures_changed = self._captures_changed, False
        if not changed and trio.current_time() < self._look_at:
            return False
        self._captures = await captures(connection)  # first: what changes behind it is seen with the next row
        known = await known_feed(connection, self._config)
        if owed := known.owed or await self._lost_now(connection):
            raise psycopg.OperationalError(owed)
        await self._check_captured(connection)
        self._look_at = trio.current_time() + LOOK_INTERVAL_S
        if self._snapshot_due:
            raise psycopg.OperationalError("rows may be missing, so the snapshots are due again")
        return changed

    # --- before the first row -------------------------------------------------------------------

    async def _prepare(self, connection: TrioConnection) -> None:
        """Take up the position, or announce why it can't be kept."""
        self._captures = await captures(connection)  # first: what changes behind it is seen with the next row
        known = await known_feed(connection, self._config)
        await check_notices(connection, self._config)
        await warn_of_unheard(connection, self._config, self._status, trio.current_time())
        identity = await identify(connection)
        saved_seq, saved_id, pruned_seq = await saved_position(connection, self._config.name)
        await self._resuming.reads(connection, identity)
        if self._seq < 0:
            saved_seq, saved_id = self._resuming.place(known, (saved_seq, saved_id))
        reason = identity.difference(self._identity or known.identity)
        other_numbers = known.owed or known.move
        reason = other_numbers or reason
        if self._seq < 0:
            self._saved = (saved_seq, saved_id)
        last_seq = await last_number(connection)
        reason = reason or await self._lost_commits(connection, last_seq, saved_seq)
        if last_seq < saved_seq:
            saved_seq, saved_id, pruned_seq = last_seq, 0, min(pruned_seq, last_seq)
            await connection.execute("UPDATE rowcast.outbox_pruned SET seq = %s", [pruned_seq])
        if known.owed:
            await self._watch.owed(connection)
        if self._seq < 0 or reason:
            known_seq = self._seq if self._seq >= 0 else saved_seq
            is_here = not known.move and self._xid and await xid_of(connection, self._seq) == self._xid
            # A promoted standby may have what was read last, and not yet that it was saved.
            if not is_here:
                self._seq, self._id, self._xid = saved_seq, saved_id, ""
            if reason:
                self._resuming.begin_anew()
                # What somebody has taken away is behind what was read, up to whatever there was then.
                end = "now" if known.owed else str(self._seq)
                self._announce(reason, "" if other_numbers else str(known_seq), end)
        if pruned_seq > self._seq:
            self._announce(self._resuming.lost or PRUNED, str(self._seq), str(pruned_seq))
            self._seq, self._id, self._xid = pruned_seq, 0, ""
        if reason or self._resuming.lost:
            await self._outlet.durable()
        await self._resuming.begun(connection, self._config.name, (self._seq, self._id))
        await remember_identity(connection, self._config, identity)
        self._identity = identity
        if other_numbers:
            await owe_nothing(connection, self._config.name)
        await self._check_captured(connection)

    async def _check_captured(self, connection: TrioConnection) -> None:
        """Announce a gap for what is not captured, or was not for a while."""
        seq = max(self._seq, 0)
        found = await self._watch.check(connection, seq)
        if found.reason:
            # It begins where all was captured still: what came since then says nothing of what did not.
            start = seq if found.start is None else min(found.start, seq)
            self._announce(found.reason, str(start), "now", found.tables)
            await self._outlet.durable()
        await self._watch.keep(connection)

    async def _lost_now(self, connection: TrioConnection) -> str:
        lost = await self._lost_commits(connection, await last_number(connection))
        return lost or (PRUNED if await is_overtaken(connection, self._seq) else "")

    async def _lost_commits(self, connection: TrioConnection, last_seq: int, saved_seq: int = 0) -> str:
        """Why what was read last, by us or by whoever saved the place, is not what the server has now; "" if it is."""
        xid = await xid_of(connection, self._seq)
        is_other = xid and self._xid and xid != self._xid
        return LOST if is_other or last_seq < max(self._seq, saved_seq) else ""

    def _announce(self, reason: str, start: str, end: str, tables: Sequence[str] = ()) -> None:
        announce(self._status, self._outlet, reason, start, end, tables)
        self._snapshot_due = bool(self._delivery.routes.snapshots)

    async def _publish_snapshots(self, connection: TrioConnection) -> None:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # What this snapshot sees are exactly the transactions up to its highest number.
            (seq,) = await one_row(connection, "SELECT coalesce(max(seq), 0) FROM rowcast.outbox_commit")
            await snapshot.publish_rows(
                connection, self._delivery.routes.snapshots, self._status, self._outlet
            )
        self._delivery.snapshot_seq = seq
        self._snapshot_due = False

    # --- reading --------------------------------------------------------------------------------

    async def _read(self, connection: TrioConnection) -> bool:
        """Publish some of what the next transactions wrote; whether there was any."""
        was_cut, self._is_cut = self._is_cut, True
        count = await self._publish_some(connection, REST) if was_cut else 0
        if not count and not self._captures_changed:
            count = await self._publish_some(connection, NEXT)
        self._is_cut = count == ROWS_PER_READ or self._captures_changed
        self._status.reached(str(self._seq), self._seq - self._is_cut)
        if not count:
            self._status.lag_s = 0.0
        return count > 0

    async def _publish_some(self, connection: TrioConnection, query: str) -> int:
        parameters: dict[str, object] = {
            "seq": self._seq,
            "id": self._id,
            "limit": TRANSACTIONS_PER_READ,
            "rows": ROWS_PER_READ,
            "awaited": self._watch.awaited,
        }
        count = 0
        age_s = 0.0
        ages_s: list[float] = []
        asked_at = trio.current_time()
        with trio.CancelScope(deadline=trio.current_time() + ROW_TIMEOUT_S) as scope:
            if connection.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
                query = TEXTSEND.sub(r"convert_to(\1, 'SQL_ASCII')", query)
            stream = connection.cursor(binary=True).stream(query.encode(), parameters)
            async with aclosing(cast(AsyncGenerator[tuple[Any, ...], None], stream)) as rows:
                async for row in rows:
                    if int(row[11]) != self._captures:
                        # Rows that were not captured may be missing among these: say so first.
                        self._captures_changed = True
                        break
                    self._placing.at(b"%d.%d" % row[:2])
                    self._here = (int(row[0]), int(row[1]))
                    begins = row[0] != self._seq
                    self._delivery.take(row, begins, trio.current_time())
                    self._placing.nowhere()
                    self._here = (0, 0)
                    if begins:
                        ages_s.append(max(row[3], 0.0))
                    self._seq, self._id, self._xid, age_s = row[:4]
                    count += 1
                    if count % FLUSH_ROWS == 0 or self._slices.is_due:
                        self._outlet.flush()
                        await self._slices.breathe()
                        scope.deadline = trio.current_time() + ROW_TIMEOUT_S
        if scope.cancelled_caught:
            raise psycopg.OperationalError(f"the next row did not come within {ROW_TIMEOUT_S:g} s")
        self._outlet.flush()
        self._status.lag_s = max(age_s, 0.0)
        took_s = trio.current_time() - asked_at
        for age in ages_s:
            self._status.latency.observe(age + took_s)
        return count

    async def _save(self, connection: TrioConnection, timeout_s: float | None = None) -> None:
        """Keep the position in the database, once what it covers is durable."""
        position = (self._seq, self._id)
        if position == self._saved:
            return
        await self._outlet.durable()
        with within(timeout_s or self._config.check_timeout_s, "saving the position"):
            await remember_place(connection, self._config.name, *position)
        self._saved = position
        self._status.position = self._status.acknowledged = str(position[0])

    def _go_live(self) -> None:
        if self._status.state == "live":
            return
        if self._was_live:
            self._status.reconnects += 1
        self._was_live = True
        self._status.enter("live")
        logger.info("feed %s: live on the outbox", self._config.name)

    # --- waiting --------------------------------------------------------------------------------

    def _take_notify(self, _: psycopg.Notify) -> None:
        self._woken = True

    async def _wait(self, connection: TrioConnection) -> None:
        """Until a transaction has woken us, or a wake-up may have been missed.

        Raises:
            psycopg.OperationalError: the server is silent and does not answer when asked.
        """
        with trio.move_on_after(self._config.replication.poll_s):
            while not self._woken:
                await connection.wait_readable()
                connection.pgconn.consume_input()
                while connection.pgconn.notifies():
                    self._woken = True
            return
        with within(self._config.check_timeout_s, "a sign of life from the server"):
            await connection.execute("SELECT 1")
