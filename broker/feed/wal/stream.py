"""One replication connection: frames to messages, messages to `Delivery`; streamed transactions wait in spools.

Nothing here outlives the connection.  `pull` reads; the other calls are for the tasks beside it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
import trio

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.fast.columns import FastChanges, Read
from broker.feed.outlet import FeedOutlet
from broker.feed.slices import Slices
from broker.feed.status import FeedStatus
from broker.feed.wal import tables as fast_tables
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.relations import Relations
from broker.feed.wal.spool import Spool, Spools
from protocol import pgoutput
from protocol.pgjson import TypeEntry
from protocol.pgoutput import (
    FRAME_HEAD_BYTES,
    XLOG_DATA,
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
)

BUSY_S_MAX: Final = 0.005
"""How long decoding may keep the other tasks from running."""

LOOK_FRAMES: Final = 32
"""How often the clock is looked at."""

STREAM_STOP: Final = 0x45

Described = Callable[[Relation, bool], Awaitable[str]]
"""Told of each table that the server describes, and whether for the first time on this connection; says its name."""

Due = Callable[[int], bool]
"""Whether somebody has to look before the transaction that committed there is delivered."""

LookUp = Callable[[list[int]], Awaitable[dict[int, TypeEntry]]]


class WalStream:
    """What comes over a connection on which START_REPLICATION has been answered.

    Attributes:
        news: set when there may be something to confirm, or when the server asks for a status.
        wal_end: the server's end of WAL, as last heard.
        relations: the tables that the server has described.
    """

    def __init__(
        self,
        connection: TrioConnection,
        config: FeedConfig,
        delivery: Delivery,
        outlet: FeedOutlet,
        status: FeedStatus,
        look_up: LookUp,
        described: Described,
        is_due: Due,
        look: Callable[[], Awaitable[None]],
    ) -> None:
        self._connection = connection
        self._config = config
        self._delivery = delivery
        self._outlet = outlet
        self._status = status
        self._look_up = look_up
        self._described = described
        self._is_due = is_due
        self._look = look
        self._slices = Slices(outlet)
        self.relations = Relations()
        self._spools = Spools()
        self._fast = FastChanges(delivery.progress, delivery.snapshot_lsn, outlet.publish)
        self._streamed_xid = 0
        self._now = trio.current_time()
        self.news = trio.Event()
        self._asked = trio.Event()
        self.wal_end = 0
        delivery.checks_text = connection.pgconn.parameter_status(b"server_encoding") == b"SQL_ASCII"
        delivery.progress.connected()

    async def pull(self) -> None:
        """Deliver everything that comes.  Never returns.

        Raises:
            psycopg.Error: the connection failed or ended, the server fell silent, or says what we can't read.
        """
        pgconn = self._connection.pgconn
        asked = False
        while True:
            taken, size, frame = self._take_frames()
            if frame:
                try:
                    waiting = self._take_frame(frame)
                except pgoutput.MalformedMessage as error:
                    raise psycopg.DataError(str(error)) from error
                if waiting is not None:
                    await self._take_waiting(waiting)
            if trio.current_time() - self._now > BUSY_S_MAX or self._slices.is_due:
                await self._rest()
            if size < 0:
                raise self._end()
            if size > 0:
                continue
            if asked and not taken:
                await self._rest()
                await self._wait_for_bytes()
                self._now = trio.current_time()
            # The server may have sent more meanwhile; then no turn of Trio's loop is needed.
            pgconn.consume_input()
            asked = True

    def send_status(self, confirmed_lsn: int, reply_requested: bool = False) -> None:
        """Tell the server what it may forget."""
        received_lsn = max(self._delivery.progress.safe_lsn, confirmed_lsn)
        now_us = int((time.time() - pgoutput.EPOCH_UNIX_S) * 1e6)
        pgconn = self._connection.pgconn
        pgconn.put_copy_data(pgoutput.encode_status(received_lsn, confirmed_lsn, now_us, reply_requested))
        pgconn.flush()

    async def until_asked(self, confirmed_lsn: int) -> None:
        """Until the server has asked for a status between two transactions, having got one just now."""
        self._asked = trio.Event()
        self.send_status(confirmed_lsn)
        await self._asked.wait()

    def close(self) -> None:
        """Forget transactions that have not committed; the server sends them again."""
        self._settle()
        self._spools.close()
        self._status.spooled_bytes = 0

    async def _rest(self) -> None:
        self._settle()
        self._outlet.flush()
        self._delivery.sent(time.time())
        await self._slices.until_room()
        await self._slices.breathe()
        await trio.lowlevel.checkpoint()
        self._now = trio.current_time()

    async def _wait_for_bytes(self) -> None:
        """Raises: psycopg.OperationalError, if the server is silent and does not answer when asked."""
        with trio.move_on_after(self._config.check_interval_s):
            await self._connection.wait_readable()
            return
        self.send_status(0, reply_requested=True)
        with trio.move_on_after(self._config.check_timeout_s):
            await self._connection.wait_readable()
            return
        silent_s = self._config.check_interval_s + self._config.check_timeout_s
        raise psycopg.OperationalError(f"the server has been silent for {silent_s:g} s")

    def _settle(self) -> None:
        received, published, repeated = self._fast.settle()
        self._status.received += received
        self._status.published += published
        self._status.repeated += repeated

    def _take_frames(self) -> tuple[int, int, bytes]:
        """Take what the fast path knows, or belongs to a transaction still open; as `FastChanges.take_frames`."""
        read = self._connection.pgconn.get_copy_data
        if self._streamed_xid:
            return self._spool_frames(read, self._spools.of(self._streamed_xid))
        taken, size, frame = self._fast.take_frames(read, LOOK_FRAMES, self._now)
        self.wal_end = max(self.wal_end, self._fast.wal_end)
        return taken, size, frame

    def _spool_frames(self, read: Read, spool: Spool) -> tuple[int, int, bytes]:
        """Between StreamStart and StreamStop: keep messages, unread, until their transaction commits."""
        for taken in range(LOOK_FRAMES):
            size, view = read(1)
            frame = bytes(view)
            if (
                len(frame) <= FRAME_HEAD_BYTES
                or frame[0] != XLOG_DATA
                or frame[FRAME_HEAD_BYTES] == STREAM_STOP
            ):
                return taken, size, frame
            if not taken:
                self.wal_end = int.from_bytes(frame[9:17], "big")
            spool.add(frame[FRAME_HEAD_BYTES:])
        return LOOK_FRAMES, 1, b""

    def _take_frame(self, data: bytes) -> Message | None:
        """Do what a frame says; its message, if that has to wait for something."""
        # Most frames; `decode_frame` would make an object of it.
        if data[0] == XLOG_DATA and len(data) > FRAME_HEAD_BYTES:
            self.wal_end = int.from_bytes(data[9:17], "big")
            return self._take(pgoutput.decode(data[FRAME_HEAD_BYTES:]))
        frame = pgoutput.decode_frame(data)
        self.wal_end = frame.wal_end
        if not isinstance(frame, KeepAlive):
            raise pgoutput.MalformedMessage("an empty message")
        self._keep_alive(frame)
        return None

    def _keep_alive(self, frame: KeepAlive) -> None:
        progress = self._delivery.progress
        if not progress.in_transaction and not self._streamed_xid:
            progress.idle_until(frame.wal_end)
            self._status.delivered = progress.safe_lsn
            self.news.set()
        if frame.reply_requested:
            self.news.set()
            if not progress.in_transaction and not self._streamed_xid:
                self._asked.set()

    def _take(self, message: Message) -> Message | None:
        match message:
            case RowChange():
                self._delivery.change(self.relations.table(message.relation_oid), message, self._now)
            case Begin():
                if self._is_due(message.commit_lsn):
                    return message
                self._begin(message)
            case Commit():
                self._commit(message.end_lsn, message.commit_time_us)
            case LogicalMessage():
                self._delivery.message(message, self._now)
            case Relation() | StreamCommit():
                return message
            case StreamStart():
                self._streamed_xid = message.xid
            case StreamAbort():
                self._spools.abort(message.xid, message.subxid)
                self._status.spooled_bytes = self._spools.size_bytes
            case StreamStop():
                self._streamed_xid = 0
                self._status.spooled_bytes = self._spools.size_bytes
            case _:
                pass  # Origin, Type, Truncate: nothing to publish
        return None

    async def _take_waiting(self, message: Message) -> None:
        if isinstance(message, Begin):
            await self._look()
            self._begin(message)
        elif isinstance(message, Relation):
            name = await self._described(message, not self.relations.knows(message.oid))
            unknown = self.relations.unknown_types(message)
            table = self.relations.learn(message, await self._look_up(unknown) if unknown else {}, name)
            if not self._delivery.checks_text:
                fast_tables.learn(self._fast, message.oid, table, self._delivery.routes)
        elif isinstance(message, StreamCommit):
            await self._replay(message)

    async def _replay(self, committed: StreamCommit) -> None:
        """A transaction that was streamed while it ran has committed: deliver what was spooled."""
        spool = self._spools.take(committed.xid)
        try:
            if self._is_due(committed.commit_lsn):
                await self._look()
            self._begin(committed)
            for count, data in enumerate(spool.messages()):
                if not self._fast.take(data, 0, True, self._now):
                    waiting = self._take(pgoutput.decode(data, in_stream=True))
                    if waiting is not None:
                        await self._take_waiting(waiting)
                is_late = count % LOOK_FRAMES == 0 and trio.current_time() - self._now > BUSY_S_MAX
                if is_late or self._slices.is_due:
                    await self._rest()
            self._commit(committed.end_lsn, committed.commit_time_us)
        finally:
            spool.close()
            self._status.spooled_bytes = self._spools.size_bytes

    def _begin(self, transaction: Begin | StreamCommit) -> None:
        self._delivery.begin(transaction.commit_lsn)
        self._status.delivered_xids.append(transaction.xid)

    def _commit(self, end_lsn: int, commit_time_us: int) -> None:
        self._delivery.commit(end_lsn, commit_time_us)
        self.news.set()

    def _end(self) -> psycopg.Error:
        """Why the server ended the stream."""
        result = self._connection.pgconn.get_result()
        if result is not None and result.error_message:
            return psycopg.errors.error_from_result(result)
        return psycopg.OperationalError("the server ended the replication")
