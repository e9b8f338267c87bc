"""The log as this node reads it: one ordered consumer, and from there the way of every publication.

Invariant: every message of the log is handed on once, in its order; what could not be read any more is a gap, and is
announced.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import trio

from broker.cluster import record
from broker.cluster.complaints import Complaints
from broker.cluster.gather import Gather
from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import Doubt, PlaceRead
from broker.cluster.lost_ends import LostEnds
from broker.cluster.names import CLIENTS, RETAINED, Names
from broker.cluster.refill import refill
from broker.cluster.retained_copy import copy_retained
from broker.cluster.rows_seen import RowsSeen
from broker.cluster.setup import ask, epoch_of, info, made_at, message_at, places, words_of
from broker.cluster.together import Together
from broker.core.publication import Publication
from protocol.mqtt.topics import matches
from protocol.nats import jetstream, ordered, subjects, wire
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError
from protocol.nats.ordered import OrderedReader

if TYPE_CHECKING:
    from broker.cluster.publisher import Publisher
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.core.history import History

logger = logging.getLogger("broker.cluster")

PAUSE_S: Final = 0.25
PAUSE_MAX_S: Final = 2.0
"""Between two tries while it is not known whether the log is the one that was read."""

ASK_S: Final = 3.0
"""Longest wait for the log's end before a new subscription gets what is here."""

GAP_TOPIC: Final = b"$SYS/cluster/gap"


class LogReader:
    """One node's reading.

    Args:
        history: its positions become the log's sequences.
        publisher: knows this node's own publications again.

    Attributes:
        lost_ends: of the log that is read.
        on_lost: called when the log has turned out to be another one, or to end earlier than it was read.
        is_current: the log was read up to its end at some time, and the retained messages are here.
    """

    def __init__(
        self,
        engine: Engine,
        link: NatsLink,
        names: Names,
        node: bytes,
        publisher: Publisher,
        history: History,
        status: ClusterStatus,
    ) -> None:
        self.is_current = False
        self.current = trio.Event()
        self.lost_ends = LostEnds(link, names)
        self._engine = engine
        self._link = link
        self._names = names
        self._node = node
        self._own = node + b" "
        self._publisher = publisher
        self._history = history
        self._status = status
        self.on_lost: list[Callable[[], None]] = []
        self._complaints = Complaints()
        self._rows_seen = RowsSeen()
        self._created = ""
        self._reader = OrderedReader(1)
        self._together = Together(engine)
        self._gather = Gather(engine, self._take, self._together.end)
        self._heard = 0.0
        self._lost = trio.Event()
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._asking: list[Callable[[], None]] = []
        self._asks = trio.Event()
        self._waiting_count = 0
        self._to_copy: int | None = None
        """Up to here the retained messages, and what the history keeps, are still to be read."""
        self._came: dict[bytes, int] = {}
        """Topics of retained messages that came while somebody waits, with their sequences."""

    @property
    def last(self) -> int:
        """Up to here everything was handed on."""
        return self._reader.last

    @property
    def epoch(self) -> str:
        """Of this log; another one, made anew, has another."""
        return epoch_of(self._created)

    def place_read(self) -> tuple[int, int]:
        """The last place that was read, and when the message there was stored, in Unix nanoseconds; 0 if unknown."""
        return (self._reader.last, int(self._reader.stored or 0))

    def publication_of(self, message: wire.Message, sequence: int) -> Publication | None:
        """What a message of the log says that is read again; None for what no node writes."""
        publication = self._publication(message, again=True)
        if publication is not None:
            publication.sequence = sequence
        return publication

    # --- following -----------------------------------------------------------------------------------------

    async def run(self, make_again: Callable[[], Awaitable[None]]) -> None:
        """Read until cancelled.

        Args:
            make_again: called when a stream is not there any more.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer_asks)
            pause_s = PAUSE_S
            while True:
                await self._link.until_open()
                try:
                    if await info(self._link, self._names.messages) is None:
                        await make_again()
                    await self._follow()
                    pause_s = PAUSE_S
                except (Unavailable, ApiError, NatsProtocolError) as error:
                    problem = f"the log can't be read: {words_of(error)}"
                    if self._complaints.is_due(problem, trio.current_time()):
                        logger.warning("In the cluster %s.", problem)
                    self._status.log_problem = problem
                    pause_s = min(2 * pause_s, PAUSE_MAX_S) if isinstance(error, Doubt) else PAUSE_S
                await trio.sleep(pause_s)

    async def _follow(self) -> None:
        found = await info(self._link, self._names.messages)
        if found is None:
            raise Unavailable(f"the stream {self._names.messages} is not there")
        await self._place(found)
        self._lost = trio.Event()
        sid = 0
        name = f"{self._node.decode()}-{uuid4().hex[:12]}"
        inbox = self._link.new_inbox()
        try:
            sid = self._link.subscribe(inbox, self._gather.take)
            self._reader.begun(sid)
            self._heard = trio.current_time()
            config = jetstream.ordered_config(inbox, self._reader.last + 1, ordered.HEARTBEAT_S)
            await ask(self._link, jetstream.consumer_create(self._names.messages, name, config))
            self._status.log_problem = ""
            self._publisher.recovered()
            if not self.is_current:
                self.is_current = True
                self.current.set()
            while not self._lost.is_set():
                with trio.move_on_after(ordered.HEARTBEAT_S):
                    await self._lost.wait()
                silent_s = trio.current_time() - self._heard
                if not self._link.is_open or silent_s > ordered.HEARTBEAT_S * ordered.SILENCES_MAX:
                    raise Unavailable(f"nothing came for {silent_s:.1f} s")
        finally:
            self._link.unsubscribe(sid)
            self._gather.forget()

    async def _place(self, found: dict[str, Any]) -> None:
        """Where to read from: behind what was read, or after the retained messages; a gap, if that is not possible."""
        if not self._created:
            _, last = places(found)
            self._begin(made_at(found), last, await self._stored_at(last))
        else:
            found = await self._go_on(found)
        if self._to_copy is not None:  # else it is here, also after a try that failed
            await copy_retained(
                self._engine, self._link, self._names, self._publication, self._to_copy, self._status
            )
            unix_now = self._status.clock.now()
            read = self.publication_of
            await refill(self._history, self._link, self._names, read, found, self._to_copy, unix_now)
            self._to_copy = None

    async def _go_on(self, found: dict[str, Any]) -> dict[str, Any]:
        """Behind what was read, as far as the log has it; the log's `info` that is to be gone by."""
        reader = self._reader
        read = PlaceRead(self._created, reader.last, int(reader.stored or 0))
        found, kept = await read.found_again(self._link, self._names, found)
        first, _ = places(found)
        created = made_at(found)
        if kept < reader.last:
            stored = await self._stored_at(kept)
            if created != self._created:
                self._gap(f"the log was made anew; it was read up to {reader.last}")
            else:
                self._gap(
                    f"the log has lost its end; it was read up to {reader.last}, and goes on behind {kept}"
                )
                self.lost_ends.found(self._status.clock.now(), kept)
            self._rows_seen.log_lost()
            self._publisher.log_lost(kept)
            self._begin(created, kept, stored)
            self._ask_again()
            for listener in list(self.on_lost):
                listener()
        elif first > reader.last + 1:
            self._gap(f"messages {reader.last + 1} to {first - 1} of the log are gone")
            self._begin(created, first - 1, b"")
        return found

    async def _stored_at(self, place: int) -> bytes:
        """As `OrderedReader.stored`.  Raises: Unavailable, ApiError, NatsProtocolError."""
        there = await message_at(self._link, self._names.messages, place) if place else None
        return b"" if there is None else b"%d" % there.at_ns

    def _begin(self, created: str, last: int, stored: bytes) -> None:
        """Read on behind `last`, which was stored then, whatever was read before."""
        self._created = created
        self.lost_ends.read(created)
        self._reader = OrderedReader(last + 1)
        self._reader.stored = stored
        self._status.position = last
        self._to_copy = last
        positions = self._history.positions
        positions.begin(epoch_of(created), last)
        positions.when_current = lambda then: self.when_current(lambda _: then())
        self._history.interrupt("messages of the log are missing here")

    def _gap(self, why: str) -> None:
        self._status.gaps += 1
        logger.error("Messages may be missing: %s.", why)
        with self._engine.turn:
            self._engine.publish_here(Publication(GAP_TOPIC, why.encode(), 1))

    def _take(self, message: wire.Message) -> None:
        """Inside a turn."""
        reader = self._reader
        try:
            found = reader.take(message)
        except NatsProtocolError as error:
            logger.error("The log is read anew: %s.", error)
            found = ordered.LOST
        if found == ordered.NEXT:
            self._heard = self._engine.now
            self._hand_on(message, reader.last)
        elif found == ordered.ANSWER:
            self._heard = self._engine.now
            self._link.send(wire.publish(reader.reply, b""))
        elif found == ordered.LOST:
            self._lost.set()
            return
        elif message.status == 100:
            self._heard = self._engine.now
        self._status.position = reader.last
        self._status.behind = reader.pending
        if self._waiting:
            self._together.end()
            self._release()

    def _hand_on(self, message: wire.Message, sequence: int) -> None:
        publication = self._publication(message)
        if publication is None:
            self._status.unreadable += not self._names.is_of_nodes(message.subject)
            self._status.awaited.discard(message.payload)
            return
        publication.sequence = sequence
        positions = self._history.positions
        positions.number = max(positions.number, sequence)
        self._status.delivered += 1
        origin = self._names.origin_in(message.subject)
        if origin != CLIENTS and self._rows_seen.is_repeated(origin, message.block):
            self._hand_on_again(publication)
            return
        if self._waiting_count and publication.retain:
            self._came[publication.topic] = sequence
        self._together.publish(publication)

    def _hand_on_again(self, publication: Publication) -> None:
        """A row that the log before this one had: clients have got it; what the log keeps of it is kept here."""
        self._together.end()
        self._status.repeated += 1
        engine = self._engine
        if publication.retain and engine.policy.retain_available:
            engine.retained.put(publication)
        for ring in self._history.rings:
            if matches(ring.topic_filter, publication.topic):
                ring.deliver(publication, 0, False)

    def _publication(self, message: wire.Message, again: bool = False) -> Publication | None:
        """What a message of the log says; the object itself, if this node has made it."""
        engine = self._engine
        try:
            value = record.value_in(message.block)
            if not again and value.startswith(self._own):
                own = self._publisher.own(record.number_in(value))
                if own is not None:
                    return own
            kind, subject = self._names.topic_part(message.subject)
            topic = None if subjects.is_long(subject) else subjects.topic_of(subject)
            publication = record.read(
                value, topic, message.payload, kind == RETAINED, engine.now, self._status.clock.now()
            )
        except (NatsProtocolError, ValueError):
            return None
        publication.is_requested = False
        return publication

    # --- read your own writes ------------------------------------------------------------------------------

    def when_current(self, then: Callable[[set[bytes]], None]) -> None:
        """Call `then` inside a turn, once everything is here that the log has now.

        It is told the topics of retained messages that have come since.
        """
        seen = self._reader.last

        def tell() -> None:
            self._waiting_count -= 1
            came = {topic for topic, sequence in self._came.items() if sequence > seen}
            if not self._waiting_count:
                self._came = {}
            then(came)

        self._waiting_count += 1
        self._asking.append(tell)
        self._asks.set()

    def _ask_again(self) -> None:
        """The log may never reach what they wait for who have asked where it ends."""
        self._asking += [then for _, then in self._waiting]
        self._waiting = []
        self._asks.set()

    async def _answer_asks(self) -> None:
        """One question at a time, for all who ask meanwhile."""
        while True:
            await self._asks.wait()
            self._asks = trio.Event()
            asking, self._asking = self._asking, []
            try:
                with trio.fail_after(ASK_S):
                    await self.current.wait()
                    end = await self._end()
            except (Unavailable, ApiError, NatsProtocolError, trio.TooSlowError):
                end = 0  # what is here is the best there is
            self._waiting += [(end, then) for then in asking]
            with self._engine.turn:
                self._release()

    async def _end(self) -> int:
        """Of the log, by a server that has what was read here.  Raises: Unavailable, ApiError, NatsProtocolError."""
        while True:
            _, end = places(await info(self._link, self._names.messages) or {})
            if end >= self._reader.last:
                return end
            await trio.sleep(PAUSE_S)

    def _release(self) -> None:
        reached = self._reader.last
        due = [then for end, then in self._waiting if end <= reached]
        if due:
            self._waiting = [one for one in self._waiting if one[0] > reached]
            for then in due:
                then()
