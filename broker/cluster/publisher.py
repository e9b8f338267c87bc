"""This node's way into the log: what waits goes as one batch after the other, each whole or not at all.

One batch is under way at a time, so the log has this node's messages in the order in which they came, whatever fails
in between; while it is under way the next one grows.  Ids make what is sent again harmless.

Invariant: a promise is kept after NATS has said that a quorum has the message, and never before.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster import record
from broker.cluster.batch import Waiting, encoded, new_sender
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.names import CLIENTS, Names
from broker.core.promise import Promise
from broker.ingest.message_ids import MessageIds
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import jetstream, wire
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, PubAck

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.core.outbox import Outbox
    from broker.core.publication import Publication

log = logging.getLogger("broker.cluster")

WAITING_MESSAGES_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of messages that the log has not taken: above either no more is read from those who publish."""

BATCH_MESSAGES: Final = 500
BATCH_BYTES: Final = 512 * 1024
ACK_S: Final = 3.0
"""Longest wait for an acknowledgement before the batch is sent again."""

RETRY_S: Final = 0.2
REFUSE_AFTER_S: Final = 6.0
"""When the log has taken nothing for so long, who publishes is sent elsewhere.  A leader that dies costs 1 to 5 s."""

OWN_MAX: Final = 20_000
"""Own publications that are known again when the log brings them; others are read anew."""


class Publisher:
    """Messages of one node's clients, of its programs and of its ports.

    Args:
        node: see `record.describe`.

    Attributes:
        waiting: not sent yet; `under_way`: sent, and not acknowledged.
        refuses: the log takes nothing, and publishers are sent elsewhere.
    """

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, node: bytes, status: ClusterStatus
    ) -> None:
        self.waiting: deque[Waiting] = deque()
        self.under_way: list[Waiting] = []
        self.waiting_bytes = 0
        self.refuses = False
        self.on_given_up: Callable[[Publication], None] = lambda publication: None
        self._engine = engine
        self._link = link
        self._names = names
        self._node = node
        self._status = status
        self._ids = MessageIds()
        self._number = 0
        self._batches = 0
        self._sender = new_sender()
        self._own: dict[int, Publication] = {}
        self._paused: dict[Outbox, None] = {}
        self._reply = b""
        """Where the acknowledgement of what is under way comes to; b"" if nothing is, or it has to be sent again."""
        self._sent_at = 0.0
        self._failed = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._taken_at = trio.current_time()
        self._sends_again = False
        """`run` sees to what is under way."""
        link.at_turn_end.append(self._begin)

    # --- messages come -------------------------------------------------------------------------------------

    def offer(self, publication: Publication) -> None:
        """Take a message for the log; its acknowledgement, if it has one, waits for that."""
        self._number += 1
        number = self._number
        subject = self._names.message(CLIENTS, publication.retain, publication.topic)
        value = record.describe(
            publication,
            self._node,
            number,
            self._engine.now,
            time.time(),
            self._names.is_long(subject),
        )
        message_id = self._id_of(publication, number)
        block = b"NATS/1.0\r\n%b: %b\r\n%b: %b\r\n" % (
            jetstream.MSG_ID, message_id, record.HEADER, value,
        )  # fmt: skip
        one = Waiting(publication, subject, block, number)
        limit = self._link.payload_max()
        if limit and one.size() + 200 > limit:
            self._status.too_large += 1
            self._refuse_one(publication, ReasonCode.PACKET_TOO_LARGE)
            return
        if publication.qos > 0 and publication.packet_id:
            publication.message_id = message_id
            if publication.promise is None:
                publication.promise = Promise()
            publication.promise.join()
        if self.is_full():
            self._pause(publication)
        if not self.waiting and not self.under_way:
            self._taken_at = trio.current_time()
            self._idle = trio.Event()
        self.waiting.append(one)
        self.waiting_bytes += one.size()
        if len(self._own) < OWN_MAX:
            self._own[number] = publication

    def own(self, number: int) -> Publication | None:
        """A publication of this node that the log has brought, if it is remembered; then no longer."""
        return self._own.pop(number, None)

    def know(self, client_id: bytes, packet_id: int, message_id: bytes) -> None:
        """Another node has sent this to the log, which may have it or not; the client is here now, and repeats it."""
        self._ids.know(client_id, packet_id, message_id.decode())

    def owed(self) -> int:
        """Messages that the log has not taken yet."""
        return len(self.waiting) + len(self.under_way)

    def is_full(self) -> bool:
        """Whether as much waits for the log as may."""
        return len(self.waiting) >= WAITING_MESSAGES_MAX or self.waiting_bytes >= WAITING_BYTES_MAX

    def _id_of(self, publication: Publication, number: int) -> bytes:
        if publication.message_id:
            return publication.message_id
        if not publication.packet_id or not publication.client_id:
            return b"%b:%d" % (self._node, number)
        return self._ids.of(publication, time.time_ns()).removeprefix("?").encode()

    def _refuse_one(self, publication: Publication, code: int) -> None:
        if publication.packet_id:
            promise = publication.promise = publication.promise or Promise()
            promise.join()
            promise.keep(code)

    def _pause(self, publication: Publication) -> None:
        session = self._engine.sessions.get(publication.client_id)
        outbox = None if session is None else session.outbox
        if outbox is not None and outbox not in self._paused:
            self._paused[outbox] = None
            outbox.pause(True)

    def _go_on(self) -> None:
        if (
            self._paused
            and len(self.waiting) * 2 < WAITING_MESSAGES_MAX
            and self.waiting_bytes * 2 < WAITING_BYTES_MAX
        ):
            paused = list(self._paused)
            self._paused.clear()
            for outbox in paused:
                outbox.pause(False)

    # --- messages go ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """See to what the log did not take at once, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                await self._failed.wait()
                self._failed = trio.Event()
                await self._deliver(self.under_way)
                self._sends_again = False
                with self._engine.turn:
                    self._done()

    def _begin(self) -> None:
        """At the end of a turn: what has come goes, unless something is under way."""
        if not self.waiting or self.under_way or self._sends_again:
            return
        batch = self.under_way = self._next_batch()
        self._batches += 1
        self._sent_at = self._engine.now
        self._reply = self._link.expect(self._answered)
        if not self._link.send(encoded(batch, self._sender, self._batches, self._reply)):
            self._fail()

    def _answered(self, message: wire.Message | None) -> None:
        """Inside a turn: the log has what was under way, or not."""
        try:
            if message is None:
                raise NatsProtocolError("the connection was lost")
            ack = jetstream.pub_ack(message)
        except (ApiError, NatsProtocolError) as error:
            self._status.log_problem = f"the log takes nothing: {error}"
            self._fail()
            return
        self._reply = b""
        self._settle(self.under_way, ack)
        self._done()

    def _fail(self) -> None:
        """It is sent again, by `run`."""
        self._link.give_up(self._reply)
        self._reply = b""
        self._sends_again = True
        self._failed.set()

    def _done(self) -> None:
        """The log has what was under way.  Inside a turn, at whose end the next batch goes."""
        self.under_way = []
        if not self.waiting:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until the log has everything that was taken."""
        await self._idle.wait()

    def _next_batch(self) -> list[Waiting]:
        batch: list[Waiting] = []
        size = 0
        while self.waiting and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            one = self.waiting.popleft()
            batch.append(one)
            size += one.size()
        self.waiting_bytes -= size
        return batch

    async def _deliver(self, batch: list[Waiting]) -> None:
        """Try until the log has it."""
        singly = len(batch) == 1
        while batch:
            try:
                if singly:
                    while batch:
                        self._settle(batch[:1], await self._send(batch[:1]))
                        del batch[0]
                else:
                    self._settle(batch, await self._send(batch))
                return
            except ApiError as error:
                if error.err_code == jetstream.DUPLICATE_IN_BATCH:
                    singly = True  # some of it, or all, is in the log: an answer was lost, or clients repeat
                    continue
                if error.is_final and singly:
                    self._reject(batch, error)
                    continue
                singly = singly or error.is_final
                self._status.log_problem = f"the log takes nothing: {error}"
            except (Unavailable, NatsProtocolError) as error:
                self._status.log_problem = f"the log takes nothing: {error}"
            self._status.retried += 1
            await trio.sleep(RETRY_S)

    async def _send(self, batch: list[Waiting]) -> PubAck:
        """Raises: Unavailable, ApiError, NatsProtocolError."""
        self._batches += 1
        number = self._batches
        sent = self._link.exchange(lambda reply: encoded(batch, self._sender, number, reply), ACK_S)
        return jetstream.pub_ack(await sent)

    def _settle(self, batch: list[Waiting], ack: PubAck) -> None:
        status = self._status
        status.log_problem = ""
        self.refuses = False
        self._taken_at = trio.current_time()
        status.published += len(batch)
        with self._engine.turn:
            for one in batch:
                if ack.duplicate:
                    status.duplicates += 1
                    self._own.pop(one.number, None)
                promise = one.publication.promise
                if promise is not None:
                    promise.keep()
            self._go_on()

    def _reject(self, batch: list[Waiting], error: ApiError) -> None:
        """The log will never take this one."""
        one = batch.pop(0)
        log.error("The log refuses a message of %d bytes: %s", one.size(), error)
        self._own.pop(one.number, None)
        self._status.given_up += 1
        with self._engine.turn:
            if one.publication.promise is not None:
                one.publication.promise.keep(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    def recovered(self) -> None:
        """The log answers again: what comes from now on has its time."""
        self.refuses = False
        self._taken_at = trio.current_time()

    # --- without the quorum --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Send publishers elsewhere when the log takes nothing for too long."""
        while True:
            await trio.sleep(1.0)
            if self._reply and trio.current_time() - self._sent_at > ACK_S:
                self._status.log_problem = f"the log takes nothing: no answer within {ACK_S:g} s"
                self._fail()
            owed = [*self.under_way, *self.waiting]
            if not owed or trio.current_time() - self._taken_at < REFUSE_AFTER_S:
                continue
            if not self.refuses:
                self.refuses = True
                why = self._status.log_problem or f"it has taken nothing for {REFUSE_AFTER_S:g} s"
                log.error("Clients that publish at QoS 1 and 2 are sent elsewhere: %s.", why)
            with self._engine.turn:
                for one in owed:
                    if one.publication.client_id and one.publication.packet_id:
                        turn_away(self._engine, one.publication.client_id)
                # What is under way may be in the log already; the rest is not, and its client publishes it again.
                kept = deque(one for one in self.waiting if not one.publication.packet_id)
                for one in self.waiting:
                    if one.publication.packet_id:
                        self._status.given_up += 1
                        self._own.pop(one.number, None)
                        self.on_given_up(one.publication)
                while len(kept) > WAITING_MESSAGES_MAX:
                    self._status.given_up += 1
                    kept.popleft()
                self.waiting = kept
                self.waiting_bytes = sum([one.size() for one in kept])
                self._go_on()


def turn_away(engine: Engine, client_id: bytes) -> None:
    """End a client's connection, without the acknowledgement that it waits for."""
    session = engine.sessions.get(client_id)
    link = None if session is None else session.link
    if link is not None:
        link.code = ReasonCode.SERVER_BUSY
        link.close("disconnected: the cluster's log takes nothing.")
