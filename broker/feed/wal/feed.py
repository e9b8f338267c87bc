"""A feed from the write-ahead log: every committed change once, in commit order, as logical replication sends it.

Invariant: a position is confirmed to Postgres only after everything before it was handed to the outlet, the outlet
called it durable, and it was kept in `rowcast.feed`; so what the process loses with its memory, Postgres still has,
and what somebody else takes from the slot is noticed.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed import snapshot
from broker.feed.captured import PUBLISHED, CaptureWatch
from broker.feed.driver.blockers import waiting
from broker.feed.driver.catalog import load_types
from broker.feed.driver.connect import connected, open_connection
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import alone, first_line, is_being_stopped, last_words
from broker.feed.feed_row import ServerIdentity, known_feed, owe, owe_nothing, remember_identity
from broker.feed.gaps import announce
from broker.feed.notices import carried_channels
from broker.feed.outlet import FeedOutlet, Fenced
from broker.feed.placing import Placing
from broker.feed.resuming import Resuming
from broker.feed.status import FeedStatus
from broker.feed.unheard import check_notices, warn_of_unheard
from broker.feed.wal import slots
from broker.feed.wal.confirming import Confirming
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.progress import Progress
from broker.feed.wal.relations import Relations, full_name
from broker.feed.wal.stopping import hold_up_no_stop
from broker.feed.wal.stream import WalStream
from protocol.pgjson import SESSION_SQL, TypeEntry
from protocol.pgoutput import Relation, lsn_text, parse_lsn

logger = logging.getLogger("broker.feed")

STATUS_INTERVAL_S: Final = 1.0
"""A status goes out at least so often, for the server's wal_sender_timeout while a long transaction is read."""

ALARM_INTERVAL_S: Final = 60.0
LOOK_INTERVAL_S: Final = 30.0
"""How soon a table is noticed that is not captured any more, and of which nothing comes."""

CONNECT_PAUSE_S: Final = 1.0
"""Between two attempts to look while the server has no connection to spare."""

SPOOL_PROVEN_S: Final = 60.0
"""How long nothing may fail before a disk that was full counts as cured."""

UNHEARD_INTERVAL_S: Final = 60.0
"""How soon a function is noticed whose notifications do not come here any more."""


class WalFeed:
    """One slot's transactions to one outlet.  Positions and `once_per` memories survive lost connections."""

    def __init__(self, config: FeedConfig, outlet: FeedOutlet, status: FeedStatus) -> None:
        self._config = config
        self._status = status
        self._outlet = outlet
        self._placing = Placing(outlet, config.name)
        self._resuming = Resuming(outlet)
        self._delivery = Delivery(config, outlet, status)
        self._confirming = Confirming(config, self._delivery, outlet, status, self._resuming.keep_s)
        self._snapshot_due = bool(self._delivery.routes.snapshots)
        self._identity: ServerIdentity | None = None
        self._slot = slots.slot_name(config)
        self._watch = CaptureWatch(config, status, PUBLISHED, slots.publication_names(config))
        self._sender_pid: int | None = None
        self._alarmed_at = -ALARM_INTERVAL_S
        self._was_live = False
        self._slot_is_useless = False
        self._spool_problem = ""
        self._looking = trio.Lock()
        self._awaits = False
        """Whether there are transactions behind whose end a gap has to be announced."""
        self._looked_at = 0
        """Up to where the last look holds."""
        self._unrouted: set[int] = set()
        """Tables described on this connection of which no route wants anything."""

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing.  False while live, and after a stop without database."""
        return self._confirming.is_saved

    @property
    def here(self) -> tuple[int, int]:
        """As `supervise.Feed.here`."""
        progress = self._delivery.progress
        return (progress.open_lsn, progress.count) if progress.in_transaction else (0, 0)

    def adopt(self, config: FeedConfig) -> bool:
        """As `supervise.Feed.adopt`: never, since a new feed begins exactly where this one has stopped."""
        return False

    async def attempt(self) -> None:
        """Connect, check, publish snapshots if they are due, then everything that commits, until it fails.

        Raises:
            psycopg.Error: why it ended; `NotReady` if the database is not as this feed needs it.
        """
        async with self._connect() as connection:
            await slots.check_settings(connection, self._config)
            await slots.check_publication(connection, self._config)
            await check_notices(connection, self._config)
            await warn_of_unheard(connection, self._config, self._status, trio.current_time())
            async with self._connect(replication="database") as replication:
                await self._prepare(connection, await slots.identify(replication))
                if self._snapshot_due:
                    await self._publish_snapshots(connection)
                self._sender_pid = replication.pgconn.backend_pid
                if replication.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII":
                    # Otherwise the server refuses to send a text that is not UTF-8, for ever.
                    await replication.execute("SET client_encoding = SQL_ASCII")
                # What a cluster's log has needs no decoding again.
                lsn = self._delivery.progress.place[0] if self._resuming.log else 0
                await slots.start(replication, self._config, self._slot, lsn)
                await self._replicate(replication, connection)

    def _connect(self, **parameters: str) -> AbstractAsyncContextManager[TrioConnection]:
        return connected(self._config, SESSION_SQL, **parameters)

    # --- before the stream ----------------------------------------------------------------------

    async def _prepare(self, connection: TrioConnection, identity: ServerIdentity) -> None:
        """See that the slot is there and goes on where we stopped, or announce the gap and begin anew."""
        self._slot, slot = await slots.find_slot(connection, self._config)
        # Behind the slot: whoever reads it now keeps its place before it confirms that.
        known = await known_feed(connection, self._config)
        progress = self._delivery.progress
        await self._resuming.reads(connection, identity)
        if not self._was_live:
            # Whoever waited for the slot while another process read from it has missed nothing: as that one kept it.
            progress.resume(*self._resuming.place(known, known.place))
        self._confirming.found(known, is_resumed=not self._was_live)
        reasons = [identity.difference(self._identity or known.identity), known.move, known.owed]
        if known.reaches > identity.wal_lsn and known.reaches > await slots.current_lsn(connection):
            reasons.append("the place in rowcast.feed is behind the end of the server's WAL")
        name = self._slot
        if slot is None:
            reasons.append(f"there was no slot {name}")
        elif slot.lost:
            reasons.append(f"the slot {name} was lost: too much WAL was waiting")
        elif self._slot_is_useless:
            # The server looks the publication up as it was when a row was written.
            reasons.append(f"the publication was made anew, and the slot {name} has rows from before")
        if slot is not None and (slot.lost or self._slot_is_useless):
            await slots.drop_slot(connection, name)
            slot = None
        self._slot_is_useless = False
        if slot is None:
            await owe(connection, self._config, "; ".join(filter(None, reasons)))
            async with waiting(self._config, self._status, connection, f"creating the slot {name}"):
                start_lsn = await slots.create_slot(connection, name)
        else:
            start_lsn = slot.confirmed_lsn
            entitled = isinstance(self._outlet, Fenced) and self._outlet.ends_other_readers
            await slots.end_own_sender(connection, slot, slot.active_pid if entitled else self._sender_pid)
            if self._was_live and start_lsn > max(self._confirming.lsn, progress.safe_lsn):
                reasons.append(f"somebody else has read from the slot {name}")
            elif not self._was_live and known.kept_lsn and start_lsn > known.kept_lsn:
                reasons.append(
                    f"the slot {name} was made anew, moved or read by somebody else while the feed was away"
                )
        delivery = self._delivery
        lost = "" if progress.place[0] >= start_lsn else self._resuming.lost
        if any(reasons):
            self._resuming.begin_anew()
        if any(reasons) or lost:
            self._begin_anew("; ".join(dict.fromkeys(filter(None, [*reasons, lost]))), start_lsn)
            await self._outlet.durable()  # whoever is ended now owes it, and who comes then must not
            await self._confirming.begin_anew(connection, start_lsn)
        await self._resuming.begun(connection, self._config.name, delivery.progress.place)
        self._confirming.stands_at(start_lsn)
        await remember_identity(connection, self._config, identity)
        self._identity = identity
        if any(reasons):
            await owe_nothing(connection, self._config.name)
        await self._check_captured(connection)

    def _begin_anew(self, reason: str, start_lsn: int) -> None:
        delivery = self._delivery
        delivered = parse_lsn(self._delivered() or "0/0")
        # Where rows are read again that were delivered before, what is missing is older, and began somewhere.
        start = lsn_text(delivered) if 0 < delivered <= start_lsn else ""
        announce(self._status, self._outlet, reason, start, lsn_text(start_lsn))
        delivery.progress = Progress()
        delivery.snapshot_lsn = 0
        self._confirming.forget()
        self._snapshot_due = bool(delivery.routes.snapshots)

    def _delivered(self) -> str:
        """The last position known to be delivered, by this process or the one before; "" if unknown."""
        progress = self._delivery.progress
        lsn = progress.safe_lsn or max(progress.place[0], self._confirming.kept_lsn)
        return lsn_text(lsn) if lsn else ""

    async def _check_captured(self, connection: TrioConnection) -> None:
        """Announce a gap for what is not captured, or was not for a while.

        It begins where all was captured still: rows of other tables, which came since then, say nothing of these.
        """
        async with self._looking:  # nobody goes on before what another look finds has been said
            looked_at = await slots.current_lsn(connection)
            found = await self._watch.check(connection, looked_at)
            if found.reason:
                known = [lsn for lsn in (parse_lsn(self._delivered() or "0/0"), found.start) if lsn]
                start = lsn_text(min(known)) if known else ""
                end = lsn_text(await slots.current_lsn(connection))
                announce(self._status, self._outlet, found.reason, start, end, found.tables)
                self._snapshot_due = bool(self._delivery.routes.snapshots)
                await self._outlet.durable()
            await self._watch.keep(connection)
            self._looked_at, self._awaits = looked_at, bool(self._watch.awaited)

    def _is_due(self, commit_lsn: int) -> bool:
        """Whether one of those may have committed before who is awaited."""
        return self._awaits and commit_lsn > self._looked_at

    async def _look_at_capture(self, is_patient: bool = True) -> None:
        """As `_check_captured`, while live.

        Args:
            is_patient: wait for a connection while the server has none to spare, instead of not looking.

        Raises:
            psycopg.OperationalError: to begin again with the snapshots.
        """
        connection = await self._connection_to_spare(is_patient)
        if connection is None:
            return
        try:
            await self._check_captured(connection)
        finally:
            connection.abandon()
        if self._snapshot_due:
            raise psycopg.OperationalError("rows may be missing, so the snapshots are due again")
        if any(map(self._watch.table_of, self._unrouted)):
            # PostgreSQL 15 and older don't describe the tables of a schema anew that has got its name back.
            raise psycopg.OperationalError("a table has got a name back that a route has")

    async def _connection_to_spare(self, is_patient: bool) -> TrioConnection | None:
        """The stream goes on while the server lets nobody in; that it has ended is seen elsewhere."""
        while True:
            try:
                connection = await open_connection(self._config, SESSION_SQL)
            except psycopg.OperationalError as error:
                if not is_patient:
                    return None
                text = f"can't look whether tables and types are as they were: {first_line(error)}"
                self._status.trouble("looking", text)
                await trio.sleep(CONNECT_PAUSE_S)
            else:
                self._status.over("looking")
                return connection

    async def _look_regularly(self, relations: Relations) -> None:
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            await self._look_at_capture()
            await self._look_at_types(relations)

    async def _look_at_types(self, relations: Relations) -> None:
        """Raises: psycopg.OperationalError, to have the tables described again whose types were altered."""
        connection = await self._connection_to_spare(is_patient=True) if relations.own_types else None
        if connection is None:
            return
        try:
            known = relations.own_types
            found = await load_types(connection, known)
        finally:
            connection.abandon()
        # One that is gone is no column's any more.
        if any(found.get(oid, entry) != entry for oid, entry in known.items()):
            raise psycopg.OperationalError("a type of a column was altered, so tables are described again")

    async def _described(self, relation: Relation, is_first: bool) -> str:
        """The server has described a table: for the first time on this connection, or because something changed.

        Returns what the routes call it: whoever is captured under that name has it, whatever it was called meanwhile.
        """
        name, watch = full_name(relation), self._watch
        if not is_first or name not in watch.tables or not watch.table_of(relation.oid):
            await self._look_at_capture()
        elif self._delivery.progress.open_lsn > self._looked_at:
            await self._look_at_capture(is_patient=False)
        if name not in watch.tables:
            name = watch.table_of(relation.oid) or name
            if name not in watch.tables:
                self._unrouted.add(relation.oid)
        return name

    async def _publish_snapshots(self, connection: TrioConnection) -> None:
        delivery = self._delivery
        async with self._connect(replication="database") as replication:
            async with waiting(self._config, self._status, replication, "taking a snapshot"):
                delivery.snapshot_lsn, name = await snapshot.export(replication, self._slot)
            await snapshot.publish(connection, name, delivery.routes.snapshots, self._status, self._outlet)
        self._snapshot_due = False

    # --- the stream -----------------------------------------------------------------------------

    async def _replicate(self, connection: TrioConnection, session: TrioConnection) -> None:
        stream = WalStream(
            connection,
            self._config,
            self._delivery,
            self._outlet,
            self._status,
            self._look_up,
            self._described,
            self._is_due,
            self._look_at_capture,
        )
        if self._was_live:
            self._status.reconnects += 1
        self._was_live = True
        self._unrouted.clear()
        if self._config.recoveries:
            self._placing.at(b"")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._go_live)
                nursery.start_soon(self._confirming.confirm, stream)
                nursery.start_soon(self._report, stream)
                nursery.start_soon(self._confirming.keep_regularly, stream)
                nursery.start_soon(self._look_for_unheard)
                nursery.start_soon(self._look_regularly, stream.relations)
                nursery.start_soon(
                    hold_up_no_stop, session, self._connect, lambda: stream.until_asked(self._confirming.lsn)
                )
                await stream.pull()
        except BaseExceptionGroup as group:
            error = alone(group)
            if isinstance(error, OSError):
                self._spool_problem = first_line(error)
            self._slot_is_useless = isinstance(error, psycopg.errors.UndefinedObject)
            raise error from None
        finally:
            self._placing.nowhere()
            stream.close()
            if is_being_stopped():
                await self._leave(stream)
            self._confirming.close()

    async def _go_live(self) -> None:
        """At once; after a disk was full only when it has been none for a while, so that the state does not flap."""
        if self._spool_problem:
            self._status.enter("recovering", f"a transaction could not be spooled: {self._spool_problem}")
            await trio.sleep(SPOOL_PROVEN_S)
            self._spool_problem = ""
        self._status.enter("live")
        logger.info("feed %s: live on the slot %s", self._config.name, self._slot)

    async def _look_up(self, type_oids: list[int]) -> dict[int, TypeEntry]:
        async with self._connect() as connection:
            return await load_types(connection, type_oids)

    async def _report(self, stream: WalStream) -> None:
        """Show the server that we live, and the world how far behind we are, however long `durable` takes."""
        while True:
            self._measure_lag(stream.wal_end)
            await trio.sleep(STATUS_INTERVAL_S)
            self._confirming.tell(stream)

    async def _leave(self, stream: WalStream) -> None:
        """Keep the exact place, in the middle of a transaction if need be, so that a stop repeats nothing."""
        with last_words():
            await self._confirming.leave(stream)

    async def _look_for_unheard(self) -> None:
        while carried_channels(self._config):
            await trio.sleep(UNHEARD_INTERVAL_S)
            with suppress(psycopg.Error):
                async with self._connect() as connection:
                    now = trio.current_time()
                    await warn_of_unheard(connection, self._config, self._status, now)

    def _measure_lag(self, wal_end: int) -> None:
        status, committed_unix_s = self._status, self._delivery.committed_unix_s
        status.position = lsn_text(max(self._delivery.progress.safe_lsn, self._confirming.lsn))
        status.acknowledged = lsn_text(self._confirming.needless_lsn)
        status.lag_bytes = max(0, wal_end - self._confirming.secured_lsn)
        behind = status.lag_bytes > 0 and committed_unix_s > 0
        status.lag_s = max(0.0, time.time() - committed_unix_s) if behind else 0.0
        alarm_bytes = self._config.replication.lag_alarm_bytes
        if status.lag_bytes > alarm_bytes and trio.current_time() - self._alarmed_at > ALARM_INTERVAL_S:
            self._alarmed_at = trio.current_time()
            text = "feed %s: %d bytes of WAL wait for confirmation, more than lag_alarm_bytes = %d"
            logger.warning(text, self._config.name, status.lag_bytes, alarm_bytes)
