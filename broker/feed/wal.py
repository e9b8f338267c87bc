"""A feed from the write-ahead log: every committed change once, in commit order, as logical replication sends it.

Invariant: a position is confirmed to Postgres only after everything before it was handed to the sink and the
sink called it durable; so what the process loses with its memory, Postgres still has.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from broker.config.feeds import FeedConfig
from broker.feed import slots, snapshot
from broker.feed.catalog import load_types
from broker.feed.connect import connected
from broker.feed.failures import alone, is_being_stopped, last_words
from broker.feed.gaps import announce
from broker.feed.pgdrive import TrioConnection
from broker.feed.position import Progress
from broker.feed.relations import OPERATIONS, Relations
from broker.feed.slots import Identity
from broker.feed.spool import Spools
from broker.feed.sqlpublish import PREFIX, Unpublishable, parse_publish
from broker.feed.status import FeedSink, FeedStatus
from broker.feed.tables import TableRoutes
from protocol import pgoutput
from protocol.pgjson import SESSION_OPTIONS
from protocol.pgoutput import (
    Begin,
    Commit,
    KeepAlive,
    LogicalMessage,
    Message,
    Relation,
    RowChange,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
    lsn_text,
)

_LOG = logging.getLogger("broker.feed")

BUSY_S_MAX: Final = 0.005
"""How long decoding may keep the other tasks from running."""

CONFIRM_INTERVAL_S: Final = 0.05
"""Between two confirmations: what a crash repeats at most, beside what is in flight."""

STATUS_INTERVAL_S: Final = 1.0
"""A status goes out at least so often, for the server's wal_sender_timeout while a long transaction is read."""

ALARM_INTERVAL_S: Final = 60.0


class WalFeed:
    """One slot's transactions to one sink.  Positions and `once_per` memories survive lost connections."""

    def __init__(self, config: FeedConfig, sink: FeedSink, status: FeedStatus) -> None:
        self._config = config
        self._status = status
        self._sink = sink
        self._routes = TableRoutes(config, status)
        self._progress = Progress()
        self._confirmed_lsn = 0
        self._snapshot_lsn = 0
        self._snapshot_due = bool(self._routes.snapshots)
        self._identity: Identity | None = None
        self._sender_pid: int | None = None
        self._wal_end = 0
        self._committed_unix_s = 0.0
        self._alarmed_at = -ALARM_INTERVAL_S
        self._was_live = False
        self._saved_place = (0, 0)

    @property
    def is_saved(self) -> bool:
        """Whether the next process would repeat nothing.  False while live, and after a stop without database."""
        return self._saved_place == self._progress.place

    async def attempt(self) -> None:
        """Connect, check, publish snapshots if they are due, then everything that commits, until it fails.

        Raises:
            psycopg.Error: why it ended; `NotReady` if the database is not as this feed needs it.
        """
        async with self._connect() as connection:
            await slots.check_settings(connection, self._config)
            await slots.check_publication(connection, self._config)
            async with self._connect(replication="database") as replication:
                await self._prepare(connection, await slots.identify(replication))
                if self._snapshot_due:
                    await self._publish_snapshots(connection)
                version = replication.pgconn.server_version
                self._sender_pid = replication.pgconn.backend_pid
                await replication.execute(slots.start_replication(self._config, version))
                connection.abandon()
                await self._replicate(replication)

    def _connect(self, **parameters: str) -> AbstractAsyncContextManager[TrioConnection]:
        given = conninfo_to_dict(self._config.dsn).get("options") or ""
        return connected(self._config, options=f"{given} {SESSION_OPTIONS}", **parameters)

    # --- before the stream ----------------------------------------------------------------------

    async def _prepare(self, connection: TrioConnection, identity: Identity) -> None:
        """See that the slot is there and goes on where we stopped, or announce the gap and begin anew."""
        known = self._identity or await slots.known_identity(connection, self._config.name)
        reasons = [identity.difference(known)]
        name = slots.slot_name(self._config)
        slot = await slots.find_slot(connection, name)
        if slot is not None and slot.lost:
            reasons.append(f"the slot {name} was lost: too much WAL was waiting")
            await slots.drop_slot(connection, name)
        if slot is None:
            reasons.append(f"there was no slot {name}")
        if slot is None or slot.lost:
            start_lsn = await slots.create_slot(connection, name)
        else:
            start_lsn = slot.confirmed_lsn
            await slots.end_own_sender(connection, slot, self._sender_pid)
            if self._confirmed_lsn and start_lsn > self._confirmed_lsn:
                reasons.append(f"somebody else has read from the slot {name}")
        if any(reasons):
            self._begin_anew("; ".join(filter(None, reasons)), start_lsn)
        elif self._identity is None:
            self._progress.resume(*await slots.known_place(connection, self._config.name))
            self._saved_place = self._progress.place
        await slots.remember_identity(connection, self._config, identity)
        self._identity = identity

    def _begin_anew(self, reason: str, start_lsn: int) -> None:
        delivered = lsn_text(self._progress.safe_lsn) if self._progress.safe_lsn else ""
        announce(self._status, self._sink, reason, delivered, lsn_text(start_lsn))
        self._progress = Progress()
        self._confirmed_lsn = 0
        self._snapshot_lsn = 0
        self._snapshot_due = bool(self._routes.snapshots)

    async def _publish_snapshots(self, connection: TrioConnection) -> None:
        async with self._connect(replication="database") as replication:
            self._snapshot_lsn, name = await snapshot.export(replication, slots.slot_name(self._config))
            await snapshot.publish(connection, name, self._routes.snapshots, self._status, self._sink)
        self._snapshot_due = False

    # --- the stream -----------------------------------------------------------------------------

    async def _replicate(self, connection: TrioConnection) -> None:
        stream = _Stream(connection)
        self._progress.connected()
        if self._was_live:
            self._status.reconnects += 1
        self._was_live = True
        self._status.enter("live")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._confirm, stream)
                await self._receive(stream)
        except BaseExceptionGroup as group:
            raise alone(group) from None
        finally:
            stream.spools.close()
            if is_being_stopped():
                await self._leave(stream)

    async def _receive(self, stream: _Stream) -> None:
        pgconn = stream.connection.pgconn
        while True:
            stream.now = trio.current_time()
            while True:
                size, frame = pgconn.get_copy_data(1)
                if size == 0:
                    break
                if size < 0:
                    raise psycopg.OperationalError(_reason_of_end(pgconn))
                waiting = self._take_frame(stream, bytes(frame))
                if waiting is not None:
                    await self._take_waiting(stream, waiting)
                if trio.current_time() - stream.now > BUSY_S_MAX:
                    await self._rest(stream)
            await self._rest(stream)
            await self._wait_for_bytes(stream)
            pgconn.consume_input()

    async def _rest(self, stream: _Stream) -> None:
        self._sink.flush()
        await trio.lowlevel.checkpoint()
        stream.now = trio.current_time()

    async def _wait_for_bytes(self, stream: _Stream) -> None:
        """Raises: psycopg.OperationalError, if the server is silent and does not answer when asked."""
        with trio.move_on_after(self._config.check_interval_s):
            await stream.connection.wait_readable()
            return
        self._send_status(stream, reply_requested=True)
        with trio.move_on_after(self._config.check_timeout_s):
            await stream.connection.wait_readable()
            return
        silent_s = self._config.check_interval_s + self._config.check_timeout_s
        raise psycopg.OperationalError(f"the server has been silent for {silent_s:g} s")

    def _take_frame(self, stream: _Stream, data: bytes) -> Message | None:
        """Do what a frame says; its message, if that has to wait for something."""
        frame = pgoutput.decode_frame(data)
        self._wal_end = frame.wal_end
        if isinstance(frame, KeepAlive):
            self._keep_alive(stream, frame)
            return None
        if stream.streamed_xid:
            self._take_streamed(stream, frame.data)
            return None
        return self._take(stream, pgoutput.decode(frame.data))

    def _keep_alive(self, stream: _Stream, frame: KeepAlive) -> None:
        if not self._progress.in_transaction and not stream.streamed_xid:
            self._progress.idle_until(frame.wal_end)
            stream.news.set()
        if frame.reply_requested:
            stream.reply_now = True
            stream.news.set()

    def _take_streamed(self, stream: _Stream, data: bytes) -> None:
        """Between StreamStart and StreamStop: keep it, unread, until its transaction commits."""
        if data[0] == 0x45:
            stream.streamed_xid = 0
            self._status.spooled_bytes = stream.spools.size_bytes
        else:
            stream.spools.of(stream.streamed_xid).add(data)

    def _take(self, stream: _Stream, message: Message) -> Message | None:
        match message:
            case RowChange():
                if self._progress.is_new():
                    self._publish_row(stream, message)
            case Begin():
                self._progress.begin(message.commit_lsn)
            case Commit():
                self._commit(stream, message.end_lsn, message.commit_time_us)
            case LogicalMessage():
                self._take_logical_message(message)
            case Relation() | StreamCommit():
                return message
            case StreamStart():
                stream.streamed_xid = message.xid
            case StreamAbort():
                stream.spools.abort(message.xid, message.subxid)
                self._status.spooled_bytes = stream.spools.size_bytes
            case StreamStop():
                raise pgoutput.MalformedMessage("StreamStop without StreamStart")
            case _:
                pass  # Origin, Type, Truncate: nothing to publish
        return None

    async def _take_waiting(self, stream: _Stream, message: Message) -> None:
        if isinstance(message, Relation):
            await self._learn(stream, message)
        elif isinstance(message, StreamCommit):
            await self._replay(stream, message)

    async def _replay(self, stream: _Stream, committed: StreamCommit) -> None:
        """A transaction that was streamed while it ran has committed: deliver what was spooled."""
        spool = stream.spools.take(committed.xid)
        try:
            self._progress.begin(committed.commit_lsn)
            for data in spool.messages():
                waiting = self._take(stream, pgoutput.decode(data, in_stream=True))
                if waiting is not None:
                    await self._take_waiting(stream, waiting)
                if trio.current_time() - stream.now > BUSY_S_MAX:
                    await self._rest(stream)
            self._commit(stream, committed.end_lsn, committed.commit_time_us)
        finally:
            spool.close()
            self._status.spooled_bytes = stream.spools.size_bytes

    async def _learn(self, stream: _Stream, relation: Relation) -> None:
        found = {}
        if unknown := stream.relations.unknown_types(relation):
            async with self._connect() as connection:
                found = await load_types(connection, unknown)
        stream.relations.learn(relation, found)

    def _publish_row(self, stream: _Stream, change: RowChange) -> None:
        table = stream.relations.table(change.relation_oid)
        text, columns = table.render(change)
        status = self._status
        status.received += 1
        for outgoing in self._routes.publications(
            table.name,
            OPERATIONS[change.operation],
            text,
            stream.now,
            self._progress.open_lsn < self._snapshot_lsn,
            columns,
        ):
            self._sink.publish(*outgoing)
            status.published += 1

    def _take_logical_message(self, message: LogicalMessage) -> None:
        if not message.transactional or message.prefix != PREFIX or not self._progress.is_new():
            return
        self._status.received += 1
        try:
            self._sink.publish(*parse_publish(message.content))
            self._status.published += 1
        except Unpublishable as error:
            self._status.drop("unpublishable", f"rowcast.publish(): {error}", trio.current_time())

    def _commit(self, stream: _Stream, end_lsn: int, commit_time_us: int) -> None:
        self._progress.commit(end_lsn)
        self._committed_unix_s = commit_time_us / 1e6 + pgoutput.EPOCH_UNIX_S
        stream.news.set()

    # --- positions ------------------------------------------------------------------------------

    async def _confirm(self, stream: _Stream) -> None:
        """Tell the server what it may forget, and the status how far behind we are."""
        while True:
            with trio.move_on_after(STATUS_INTERVAL_S):
                await stream.news.wait()
            stream.news = trio.Event()
            lsn = self._progress.safe_lsn
            if lsn > self._confirmed_lsn:
                self._sink.flush()
                await self._sink.durable()
                self._confirmed_lsn = lsn
            self._send_status(stream, reply_requested=False)
            self._measure_lag()
            if not stream.reply_now:
                await trio.sleep(CONFIRM_INTERVAL_S)
            stream.reply_now = False

    async def _leave(self, stream: _Stream) -> None:
        """Keep the exact place, in the middle of a transaction if need be, so that a stop repeats nothing."""
        with last_words():
            self._sink.flush()
            await self._sink.durable()
            self._confirmed_lsn = max(self._confirmed_lsn, self._progress.safe_lsn)
            self._send_status(stream, reply_requested=False)
            async with self._connect() as connection:
                await slots.remember_place(connection, self._config.name, *self._progress.place)
            self._saved_place = self._progress.place

    def _send_status(self, stream: _Stream, reply_requested: bool) -> None:
        pgconn = stream.connection.pgconn
        written = max(self._progress.safe_lsn, self._confirmed_lsn)
        now_us = int((time.time() - pgoutput.EPOCH_UNIX_S) * 1e6)
        pgconn.put_copy_data(pgoutput.encode_status(written, self._confirmed_lsn, now_us, reply_requested))
        pgconn.flush()

    def _measure_lag(self) -> None:
        status = self._status
        status.position = lsn_text(self._progress.safe_lsn)
        status.acknowledged = lsn_text(self._confirmed_lsn)
        status.lag_bytes = max(0, self._wal_end - self._confirmed_lsn)
        behind = status.lag_bytes > 0 and self._committed_unix_s > 0
        status.lag_s = max(0.0, time.time() - self._committed_unix_s) if behind else 0.0
        alarm_bytes = self._config.replication.lag_alarm_bytes
        if status.lag_bytes > alarm_bytes and trio.current_time() - self._alarmed_at > ALARM_INTERVAL_S:
            self._alarmed_at = trio.current_time()
            _LOG.warning(
                "feed %s: %d bytes of WAL wait for confirmation, more than lag_alarm_bytes = %d",
                self._config.name,
                status.lag_bytes,
                alarm_bytes,
            )


class _Stream:
    """What belongs to one replication connection."""

    def __init__(self, connection: TrioConnection) -> None:
        self.connection = connection
        self.relations = Relations()
        self.spools = Spools()
        self.streamed_xid = 0
        self.now = trio.current_time()
        self.news = trio.Event()
        self.reply_now = False


def _reason_of_end(pgconn: pq.abc.PGconn) -> str:
    result = pgconn.get_result()
    message = result.error_message if result is not None else b""
    return message.decode(errors="replace").strip() or "the server ended the replication"
