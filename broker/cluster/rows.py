"""Rows of one feed into the log: each once and in commit order, whoever reads the feed.

Every message says up to which row the log has the feed, and is only taken behind the message before it
(compare-and-set on the feed's subjects).  So a node that takes over skips what is there, and one that was taken over
from writes nothing more, even if it does not know yet.

Invariant: one batch is under way at a time; a batch ends with a row, never between two publications of one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import record
from broker.cluster.batch import ACK_S, RETRY_S, SOON_S, Waiting, encoded, new_sender
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import certain_end
from broker.cluster.names import Names, origin_of
from broker.cluster.rows_seen import ANEW, NOWHERE, ROW, SOURCE, Place, place_in, source_in
from broker.cluster.setup import epoch_of, info, last, made_at, places
from broker.cluster.unsent import BATCH_BYTES
from broker.core.publication import Publication
from broker.feed.outlet import Resumption
from broker.outlet import put_on
from protocol.nats import headers, jetstream, wire
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, Stored

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.added import Added
    from broker.core.engine import Engine
    from broker.feed.status import FeedStatus

logger = logging.getLogger("broker.cluster")

QUEUED_MAX: Final = 5_000
QUEUED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of rows that the log has not taken: above either the feed is not read."""

BATCH_ROWS: Final = 400


class TakenOver(Exception):
    """Another node writes this feed's rows, or the log has lost some: who reads the feed is to begin again."""


class Row:
    """One publication on its way."""

    __slots__ = ("is_anew", "number", "place", "publication", "size", "source")

    def __init__(
        self, publication: Publication, place: Place, number: int, is_anew: bool, source: bytes
    ) -> None:
        self.publication = publication
        self.place = place
        self.number = number
        self.is_anew = is_anew
        self.source = source
        self.size = len(publication.payload) + len(publication.topic) + 300


class RowOutlet:
    """A feed's way into the log; see `broker.feed.outlet.FeedOutlet`.  One for each time that this node has the lease.

    Args:
        here: the place of the row that is being published.
        holder: the `node` of `record.describe`; another one for every outlet.
        keep_s: see `broker.feed.outlet.Keeping`.

    Attributes:
        epoch: of the log that was there at the beginning.
    """

    ends_other_readers = True
    """Whoever has the lease may end the connection of whoever had it."""

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        feed: FeedStatus,
        holder: bytes,
        status: ClusterStatus,
        keep_s: float = 0.0,
    ) -> None:
        self.keep_s = keep_s
        self.epoch = ""
        self._is_anew = False
        self.here: Callable[[], Place] = lambda: NOWHERE
        self._engine = engine
        self._link = link
        self._names = names
        self._feed = feed
        self._holder = holder
        self._status = status
        self._origin = origin_of(feed.name)
        self._queue: deque[Row] = deque()
        self._queued_bytes = 0
        self._number = 0
        self._taken = 0
        """The number up to which the log has this outlet's rows."""
        self._covered: Place = NOWHERE
        self._source = b""
        self._covered_source = b""
        """The database that is read, hashed, and the one that `_covered` is a place of; b"" if unknown."""
        self._skip: Place = NOWHERE
        self._expected = 0
        self._batches = 0
        self._sender = new_sender()
        self._under_way: list[Row] = []
        self._reply = b""
        """Where the acknowledgement of what is under way comes to; b"" if nothing is, or it has to be sent again."""
        self._sent_at = 0.0
        self._sends = False
        """`run` runs, and has nothing to send again."""
        self._failed = trio.Event()
        self._pause_s = RETRY_S
        """Before what failed is sent again."""
        self._progress = trio.Event()

    # --- FeedOutlet ------------------------------------------------------------------------------------------

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        """Queue a row's message for the log; or a gap: every node's readers are told, at its place among the rows."""
        publication = Publication(topic, payload, qos, retain)
        if added is not None:
            put_on(publication, added, self._engine)
        is_gap = topic.startswith(b"$SYS") and topic.endswith(b"/gap")
        if not is_gap and topic.startswith(b"$SYS"):
            with self._engine.turn:
                self._engine.publish_here(publication)
            return
        is_anew = is_gap and self._is_anew
        if is_anew:
            self._is_anew = False
        place = NOWHERE if is_gap else self.here()
        if place != NOWHERE:
            if place <= self._skip:
                self._feed.repeated += 1
                return
            self._covered = place
        self._number += 1
        row = Row(publication, self._covered, self._number, is_anew, self._source)
        self._queue.append(row)
        self._queued_bytes += row.size
        if is_gap:
            self.flush()

    def flush(self) -> None:
        """Let what is queued go to the log: now, or with what comes until the log has what is under way."""
        if self._sends and not self._under_way and self._queue:
            self._begin()

    async def durable(self) -> None:
        """When the log has everything that was published before."""
        number = self._number
        self.flush()
        while self._taken < number:
            await self._progress.wait()

    @property
    def is_strained(self) -> bool:
        """Whether as much is queued as should be."""
        return len(self._queue) >= QUEUED_MAX or self._queued_bytes >= QUEUED_BYTES_MAX

    def awaits_readers(self, now: float) -> bool:
        """Whether the feed should wait a moment for the log."""
        return self.is_strained

    async def until_room(self) -> None:
        """Return when the log has taken enough of what waits."""
        while self.is_strained:
            self.flush()
            await self._progress.wait()

    # --- Keeping -------------------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """As `Keeping.log`: when the stream was made."""
        return self.epoch

    def reads(self, database: str) -> None:
        """As `Keeping.reads`."""
        self._source = blake2b(database.encode(), digest_size=6).hexdigest().encode()

    def resume(self, log: str, place: Place) -> Resumption:
        """As `Keeping.resume`: behind the last row that is in the log.

        Where that is another database's, one that the feed was moved to or from, this one's last row in the log is
        the one at `place`, or a little behind it if its reader crashed.
        """
        has, lost = self._covered, ""
        if self._covered_source not in (b"", self._source):
            text = "The last rows of the feed %s in the log are of another database than the one that is read now."
            logger.warning(text, self._feed.name)
            has = NOWHERE
        self._covered_source = self._source
        if log and log != self.epoch:
            lost = "the cluster's log was made anew"
        elif has == NOWHERE:  # the feed has said nothing for longer than the log keeps, or never
            has = place
        elif log and has < place:
            lost = "the cluster's log has lost its end"
        self._skip = self._covered = has
        return Resumption(has, lost)

    def begin_anew(self) -> None:
        """As `Keeping.begin_anew`; every node hears of it with the gap that follows."""
        self._skip = self._covered = NOWHERE
        self._covered_source = self._source
        self._is_anew = True

    # --- the log -------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Find out what the log has.  Raises: Unavailable, ApiError, NatsProtocolError."""
        found, _ = await certain_end(self._link, self._names)  # or the log would seem to have lost its end
        self.epoch = epoch_of(made_at(found))
        known = await self._last()
        self._expected = 0 if known is None else known.sequence
        self._skip = self._covered = NOWHERE if known is None else place_of(known)
        self._covered_source = b"" if known is None else source_in(known.block)

    async def run(self) -> None:
        """Let rows go to the log until cancelled, and see to those that it did not take.  Raises: TakenOver."""
        self._sends = True
        try:
            self.flush()
            while True:
                with trio.move_on_after(ACK_S):
                    await self._failed.wait()
                if self._reply and trio.current_time() - self._sent_at > ACK_S:
                    self._fail(Unavailable(f"no answer within {ACK_S:g} s"))
                if self._failed.is_set():
                    self._failed = trio.Event()
                    await self._deliver_again(self._under_way)
                    self._sends = True
                    self.flush()
        finally:
            self._sends = False
            self._link.give_up(self._reply)

    def _begin(self) -> None:
        """Send the next batch."""
        batch = self._under_way = self._next_batch()
        self._sent_at = trio.current_time()
        self._reply = self._link.expect(self._answered)
        if not self._link.send(self._bytes(batch, self._reply)):
            self._fail(Unavailable("not connected"))

    def _answered(self, message: wire.Message | None) -> None:
        """Inside a turn: the log has what was under way, or not."""
        try:
            if message is None:
                raise Unavailable("the connection was lost")
            sequence = jetstream.pub_ack(message).sequence
        except (ApiError, NatsProtocolError, Unavailable) as error:
            self._fail(error)
            return
        self._reply = b""
        self._settle(self._under_way, sequence)
        self.flush()

    def _fail(self, error: Exception) -> None:
        """`run` finds out whether the log has it, and sends it again."""
        self._link.give_up(self._reply)
        self._reply = b""
        self._sends = False
        self._complain(error)
        self._pause_s = SOON_S if _is_undecided(error) else RETRY_S
        self._failed.set()

    def _complain(self, error: Exception) -> None:
        if not isinstance(error, ApiError):
            self._feed.trouble("log", f"the log takes no rows: {error}")
        elif not error.passes and not error.is_conflict:
            self._feed.trouble("log", f"the log refuses rows: {error}")

    def _next_batch(self) -> list[Row]:
        """As many as fit, up to the end of a row; they stay in the queue until the log has them."""
        batch: list[Row] = []
        size = 0
        for row in self._queue:
            is_full = len(batch) >= BATCH_ROWS or size >= BATCH_BYTES
            if is_full and (row.place != batch[-1].place or len(batch) >= jetstream.BATCH_MESSAGES_MAX):
                break
            batch.append(row)
            size += row.size
        return batch

    async def _deliver_again(self, batch: list[Row]) -> None:
        """Try until the log has it.  Raises: TakenOver."""
        while True:
            self._status.retried += 1
            await trio.sleep(self._pause_s)
            if await self._was_taken(batch):
                return
            try:
                made = self._link.exchange(lambda reply: self._bytes(batch, reply), ACK_S)
                self._settle(batch, jetstream.pub_ack(await made).sequence)
                return
            except (ApiError, Unavailable, NatsProtocolError) as error:
                self._complain(error)
                self._pause_s = min(2 * self._pause_s, RETRY_S) if _is_undecided(error) else RETRY_S

    async def _was_taken(self, batch: list[Row]) -> bool:
        """Whether the log has it although no acknowledgement came.  Raises: TakenOver."""
        try:
            known = await self._last()
            epoch, first = await self._state()
        except (Unavailable, ApiError, NatsProtocolError):
            return False
        if epoch != self.epoch:
            raise TakenOver
        if known is None and first > self._expected:  # by its age
            self._expected = 0
        if (0 if known is None else known.sequence) == self._expected:
            return False
        if known is None:
            raise TakenOver
        words = record.value_in(known.block).split(b" ")
        if words[0] == self._holder and words[1].isdigit() and int(words[1]) == batch[-1].number:
            self._settle(batch, known.sequence)
            return True
        raise TakenOver

    def _settle(self, batch: list[Row], sequence: int) -> None:
        self._feed.over("log")
        self._status.published += len(batch)
        self._expected = sequence
        self._taken = batch[-1].number
        for row in batch:
            self._queue.popleft()
            self._queued_bytes -= row.size
        self._under_way = []
        self._progress.set()
        self._progress = trio.Event()

    def _bytes(self, batch: list[Row], reply: bytes) -> bytes:
        self._engine.turn.tick()
        self._batches += 1
        names = self._names
        now, unix_now = self._engine.now, self._status.clock.now()
        rows: list[Waiting] = []
        for row in batch:
            publication = row.publication
            subject = names.message(self._origin, publication.retain, publication.topic)
            value = record.describe(
                publication, self._holder, row.number, now, unix_now, names.is_long(subject)
            )
            place = ANEW if row.is_anew else b"%d/%d" % row.place
            block = b"NATS/1.0\r\n%b: %b\r\n%b: %b\r\n" % (record.HEADER, value, ROW, place)
            if row.source:
                block += b"%b: %b\r\n" % (SOURCE, row.source)
            rows.append(Waiting(publication, subject, block, row.number))
        condition = b"%b: %d\r\n%b: %b\r\n" % (
            jetstream.EXPECTED_LAST_SUBJECT_SEQUENCE, self._expected,
            jetstream.EXPECTED_LAST_SUBJECT, names.of_origin(self._origin),
        )  # fmt: skip
        return encoded(rows, self._sender, self._batches, reply, condition)

    async def _state(self) -> tuple[str, int]:
        """The log's epoch, and its first sequence.  Raises: Unavailable, ApiError, NatsProtocolError."""
        found = await info(self._link, self._names.messages)
        if found is None:
            raise Unavailable("the log is not there")
        first, _ = places(found)
        return epoch_of(made_at(found)), first

    async def _last(self) -> Stored | None:
        """The feed's last message in the log."""
        return await last(self._link, self._names.messages, self._names.of_origin(self._origin), ACK_S)


def _is_undecided(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.is_undecided


def place_of(stored: Stored) -> Place:
    """Up to which row the log has the feed, by its last message."""
    return place_in(headers.decode(stored.block).get(ROW) or b"")
