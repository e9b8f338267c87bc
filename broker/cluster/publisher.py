"""This node's way into the log: what waits goes as one batch after the other, each whole or not at all.

One batch is under way at a time, so the log has this node's messages in the order in which they came, whatever fails
in between; while it is under way the next one grows.  Ids make what is sent again harmless.

Invariant: a promise is kept after NATS has said that a quorum has the message, and never before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Set
from typing import TYPE_CHECKING, Final

import trio

from broker.cluster.batch import ACK_S, RETRY_S, SOON_S, Waiting, described, encoded, new_sender
from broker.cluster.fences import Fences
from broker.cluster.finished import Finished
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import until_read
from broker.cluster.names import DUPLICATE_WINDOW_S, Names
from broker.cluster.overdue import Overdue
from broker.cluster.repeats import Repeats, turn_away
from broker.cluster.unsent import Unsent
from broker.core.paused import Paused
from broker.core.promise import Promise
from broker.ingest.message_ids import MessageIds
from protocol.mqtt.v5.reasons import ReasonCode
from protocol.nats import jetstream, wire
from protocol.nats.acknowledged import Usual
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError, PubAck

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.core.publication import Publication

logger = logging.getLogger("broker.cluster")

FORGOTTEN_S: Final = DUPLICATE_WINDOW_S / 2
"""What failed first so long ago NATS may have and not know again."""

OWN_MAX: Final = 20_000
"""Own publications that are known again when the log brings them; others are read anew."""

ALONE_S: Final = 0.001
"""For so long nobody else is heard; the log answers within half of it, unless the machine is busy."""


class Publisher:
    """Messages of one node's clients, of its programs and of its ports.

    Args:
        node: see `record.describe`.

    Attributes:
        waiting: not sent yet; `under_way`: sent, and not acknowledged.
        overdue: whether the log takes anything, and what becomes of what waits if not.
    """

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, node: bytes, status: ClusterStatus
    ) -> None:
        self.waiting = Unsent()
        self.under_way: list[Waiting] = []
        self.overdue = Overdue(engine, status, self.waiting)
        self.overdue.on_given_up = self._drop
        self._engine = engine
        self._link = link
        self._names = names
        self._node = node
        self._status = status
        self._usual = Usual(names.messages)
        self._ids = MessageIds()
        self.fences = Fences(link, names)
        self.repeats = Repeats(engine, link, names, self._ids)
        self.repeats.offer = self._take
        self._held = self.repeats.held
        self._unsaid = self.repeats.unsaid
        self._finished: Finished | None = None
        """Packet ids that have ended, while more may be added."""
        self._number = 0
        self._batches = 0
        self._sender = new_sender()
        self._own: dict[int, Publication] = {}
        self._paused = Paused(engine)
        self._reply = b""
        """Where the acknowledgement of what is under way comes to; b"" if nothing is, or it has to be sent again."""
        self._sent_at = self._failed_at = 0.0
        self._payload_max = 0
        """As the link said it at the first of those that wait."""
        self._failed = trio.Event()
        self._idle: trio.Event | None = None
        """Set when nothing is owed any more; None where nobody waits for that."""
        self._sends_again = False
        """`run` sees to what is under way."""
        self._given_up: set[int] = set()
        """Of what is under way, what is not to be sent again."""
        self._lost: set[int] = set()
        """Of what is under way, what the log had brought, and does not have any more."""
        link.at_turn_end.append(self._begin)

    # --- messages come -------------------------------------------------------------------------------------

    def offer(self, publication: Publication) -> None:
        """Take a message for the log; its acknowledgement, if it has one, waits for that."""
        if self._held and publication.client_id in self._held:
            self.repeats.hold(publication)
            return
        self._take(publication)

    def _take(self, publication: Publication) -> None:
        self._number += 1
        number = self._number
        message_id = self._id_of(publication, number)
        if not message_id:
            self.repeats.hold(publication)
            return
        now, unix_now = self._engine.now, self._status.clock.now()
        one = described(publication, self._names, self._node, number, message_id, now, unix_now)
        if publication.packet_id or publication.promise is not None:
            one.promise = publication.join_promise()
        if not self._payload_max or not len(self.waiting):
            self._payload_max = self._link.payload_max()
        limit = self._payload_max
        if limit and one.size() + len(self.fences.condition) + 200 > limit:
            self._status.too_large += 1
            if one.promise is not None:
                one.promise.keep(ReasonCode.PACKET_TOO_LARGE)
            return
        if publication.packet_id:
            publication.message_id = message_id
        if self.waiting.is_full():
            self._paused.pause(publication.client_id)
        self._append(one)
        if len(self._own) < OWN_MAX:
            self._own[number] = publication

    def finish(self, client_id: bytes, packet_id: int) -> Promise:
        """A PUBREL came; what its PUBCOMP waits for."""
        self.repeats.ended(client_id, packet_id)
        if self.overdue.refuses:
            turn_away(self._engine, client_id)
            promise = Promise()
            promise.join()
            return promise
        finished = self._finished
        if finished is None or finished.is_full():
            self._number += 1
            block = b"NATS/1.0\r\n%b: %b:%d\r\n" % (jetstream.MSG_ID, self._node, self._number)
            finished = self._finished = Finished(self._names.finished, block, self._number)
            self._append(finished)
        before = finished.size()
        promise = finished.add(client_id, packet_id)
        self.waiting.size += finished.size() - before
        return promise

    def _append(self, one: Waiting) -> None:
        if not self.owed():
            self.overdue.taken_at = self._engine.now
        self.waiting.append(one)

    def own(self, number: int) -> Publication | None:
        """A publication of this node that the log has brought, if it is remembered; then no longer."""
        return self._own.pop(number, None)

    def give_up(self, client_ids: Set[bytes], is_dead: bool = False) -> None:
        """These clients may be on other nodes, and publish there again what they have no acknowledgement of.

        Inside a turn.  What the log has been sent may be in it; it is not sent again.  Nor is what they have
        retained, and may have replaced by now.

        Args:
            is_dead: so is the life of this node that had them, and others publish their wills.
        """
        for one in [*self.under_way, *self.waiting.all()]:
            publication = one.publication
            if isinstance(one, Finished):
                if not one.leave_out(client_ids):
                    self._given_up.add(one.number)
                    self._finished = None if self._finished is one else self._finished
            elif publication.client_id in client_ids and one.is_for_others(is_dead):
                self._given_up.add(one.number)
                self._own.pop(one.number, None)
        self.waiting.restrict([one for one in self.waiting.all() if one.number not in self._given_up])
        self._go_on()

    def log_lost(self, last: int) -> None:
        """The log has nothing any more that it had behind this place."""
        self.fences.log_is_new()
        owed = [*self.under_way, *self.waiting.all()]
        self._lost.update([one.number for one in self.under_way if one.publication.sequence > last])
        numbers = {one.number for one in owed}
        self._own = {number: one for number, one in self._own.items() if number in numbers}
        self.repeats.log_lost(last, [one.publication for one in owed])

    def owed(self) -> int:
        """Messages that the log has not taken yet."""
        return len(self.waiting) + len(self.under_way)

    def _id_of(self, publication: Publication, number: int) -> bytes:
        if publication.message_id:
            return publication.message_id
        if not publication.packet_id or not publication.client_id:
            return b"%b:%d" % (self._node, number)
        if publication.dup:
            return self.repeats.id_of(publication).encode()
        return self._ids.of(publication, time.time_ns()).encode()

    def _go_on(self) -> None:
        if self.waiting.is_half_empty():
            self._paused.go_on()

    # --- messages go ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """See to what the log did not take at once, until cancelled."""
        async with trio.open_nursery() as nursery, self.repeats.running():
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
        if self._sends_again:
            return
        if not self.under_way:
            if not len(self.waiting):
                return
            self._finished = None
            batch = self.under_way = self.waiting.next_batch()
            self._sent_at = self._engine.now
            self._reply = self._link.expect(self._answered)
            if not self._link.send(self._encoded(batch, self._reply)):
                self._fail()
                return
        # Where many come, who publishes is heard with the answer: what comes can't go before.
        self._link.await_answer(self._sent_at + ALONE_S if self.waiting.come_fast else 0.0)

    def _answered(self, message: wire.Message | None) -> None:
        """Inside a turn: the log has what was under way, or not."""
        try:
            if message is None:
                raise NatsProtocolError("the connection was lost")
            ack = None if self._usual.has_taken(message) else jetstream.pub_ack(message)
        except (ApiError, NatsProtocolError) as error:
            if not (isinstance(error, ApiError) and error.is_undecided):
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
        self._failed_at = trio.current_time()
        self._sends_again = True
        self._failed.set()

    def _done(self) -> None:
        """The log has what was under way.  Inside a turn, at whose end the next batch goes."""
        self.under_way = []
        self._given_up.clear()
        self._lost.clear()
        if self._idle is not None and not len(self.waiting):
            self._idle.set()
            self._idle = None

    async def drained(self) -> None:
        """Wait until the log has everything that was taken."""
        while self.owed():
            self._idle = self._idle or trio.Event()
            await self._idle.wait()

    async def _deliver(self, batch: list[Waiting]) -> None:
        """Try until the log has it."""
        singly = len(batch) == 1
        soon_s = SOON_S
        while batch:
            try:
                if trio.current_time() - self._failed_at > FORGOTTEN_S:
                    await self._settle_what_came(batch)
                batch[:] = [one for one in batch if one.number not in self._given_up]
                if singly:
                    while batch:
                        if batch[0].number not in self._given_up:
                            self._settle(batch[:1], await self._send(batch[:1]))
                        del batch[0]
                elif batch:
                    self._settle(batch, await self._send(batch))
                return
            except ApiError as error:
                if error.err_code == jetstream.DUPLICATE_IN_BATCH:
                    singly = True  # some of it, or all, is in the log: an answer was lost, or clients repeat
                    continue
                if error.is_undecided and soon_s < RETRY_S:
                    await trio.sleep(soon_s)
                    soon_s *= 2
                    continue
                if error.is_final and singly:
                    self._reject(batch, error)
                    continue
                singly = singly or error.is_final
                self._status.log_problem = f"the log takes nothing: {error}"
                if error.is_conflict:
                    await self.fences.look_at_own()
            except (Unavailable, NatsProtocolError) as error:
                self._status.log_problem = f"the log takes nothing: {error}"
            self._status.retried += 1
            await trio.sleep(RETRY_S)

    async def _settle_what_came(self, batch: list[Waiting]) -> None:
        """What the log has brought is not sent again.  Raises: Unavailable, ApiError, NatsProtocolError."""
        await until_read(self._link, self._names, self._status)
        for one in list(batch):
            if one.publication.sequence > 0 and one.number not in self._own and one.number not in self._lost:
                self._settle([one])
                batch.remove(one)

    async def _send(self, batch: list[Waiting]) -> PubAck:
        """Raises: Unavailable, ApiError, NatsProtocolError."""
        return jetstream.pub_ack(await self._link.exchange(lambda reply: self._encoded(batch, reply), ACK_S))

    def _encoded(self, batch: list[Waiting], reply: bytes) -> bytes:
        self._batches += 1
        return encoded(batch, self._sender, self._batches, reply, self.fences.condition)

    def _settle(self, batch: list[Waiting], ack: PubAck | None = None) -> None:
        """The log has these; without an acknowledgement that says more they were not there before."""
        status = self._status
        status.log_problem = ""
        with self._engine.turn:
            self.overdue.taken(self._engine.now)
            for one in batch:
                if not isinstance(one, Finished):
                    status.published += 1
                if ack is not None and ack.duplicate:
                    status.duplicates += 1
                    self._own.pop(one.number, None)
                    one.publication.sequence = ack.sequence
                publication = one.publication
                promise = one.promise
                if promise is not None:
                    promise.keep()
                    if publication.qos == 1 and publication.packet_id and promise.is_kept:
                        self._ids.forget(publication.client_id, publication.packet_id)  # [MQTT-4.3.2-2]
                        if publication.client_id in self._unsaid:
                            self.repeats.ended(publication.client_id, publication.packet_id)
            self._go_on()

    def _reject(self, batch: list[Waiting], error: ApiError) -> None:
        """The log will never take this one."""
        one = batch.pop(0)
        logger.error("The log refuses a message of %d bytes: %s", one.size(), error)
        self._drop(one)
        with self._engine.turn:
            if one.promise is not None:
                one.promise.keep(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR)

    def recovered(self) -> None:
        """The log answers again: what comes from now on has its time."""
        self.overdue.taken(trio.current_time())

    # --- without the quorum --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """See once a second to what has no answer."""
        while True:
            await trio.sleep(1.0)
            if self._reply and trio.current_time() - self._sent_at > ACK_S:
                self._status.log_problem = f"the log takes nothing: no answer within {ACK_S:g} s"
                self._fail()
            owed = [*self.under_way, *self.waiting.all()]
            if self.overdue.is_too_long(owed):
                with self._engine.turn:
                    self._send_elsewhere(owed)

    def _send_elsewhere(self, owed: list[Waiting]) -> None:
        self._finished = None
        self.overdue.send_elsewhere(owed)
        self._go_on()

    def _drop(self, one: Waiting) -> None:
        """It does not wait any more, and the log has not taken it."""
        self._status.given_up += 1
        self._own.pop(one.number, None)
