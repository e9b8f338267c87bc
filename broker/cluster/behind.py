"""What the log has for a session that comes back: read from its cursor, with its filters, up to where its node is.

A session that is read for gets nothing of the log otherwise (`Session.behind`), so the order is the log's.  It reads no
faster than its client takes.  Reading is by slices, without a consumer: a slice that a replica can't serve yet is asked
for again, and one that has nothing for this session lets the leader say where to go on.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.log_end import certain_end
from broker.cluster.names import Names
from broker.cluster.setup import epoch_of, first_behind, info, made_at, places
from broker.core.session import Session
from broker.core.trie import SubscriptionTrie
from protocol.mqtt.reserved import SHARE_PREFIX
from protocol.nats import jetstream, subjects, wire
from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import ApiError

if TYPE_CHECKING:
    from broker.cluster.reader import LogReader
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.core.publication import Publication

logger = logging.getLogger("broker.cluster")

SLICE_MESSAGES: Final = 200
SLICE_BYTES: Final = 1024 * 1024
SLICE_S: Final = 2.0
READING_MAX: Final = 16
"""Slices that are asked for at a time, of all sessions of a node."""

LEAP_FILTERS_MAX: Final = 16
LEAP_FROM: Final = 1000
"""So many messages away it is worth asking."""

READ_S: Final = 4.0
"""How long a session's place is waited for until the record is looked at again."""

FULL_S: Final = 0.02
STALE_S: Final = 0.05


class Reading:
    """One session's.

    Attributes:
        position: up to here it was handed what it gets.
        since: filters that are younger than the session's return: what the log had before is not for them.
    """

    def __init__(self, session: Session, position: int) -> None:
        self.session = session
        self.position = position
        self.returned_at = 0
        self.since: dict[bytes, int] = {}
        self.known = set(session.subscriptions)
        self.is_read = False
        self.read_to = position
        self.trie: SubscriptionTrie | None = None
        self.in_trie: dict[bytes, int] = {}
        self.waiting: deque[Publication] = deque()

    def subscribed(self, now_at: int) -> None:
        """The client has subscribed, or unsubscribed."""
        current = set(self.session.subscriptions)
        for topic_filter in current - self.known:
            self.since[topic_filter] = now_at
        self.known = current


class Behind:
    """All sessions of one node that read for themselves."""

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, reader: LogReader, status: ClusterStatus
    ) -> None:
        self.readings: dict[Session, Reading] = {}
        self._engine = engine
        self._link = link
        self._names = names
        self._reader = reader
        self._status = status
        self._slices = trio.CapacityLimiter(READING_MAX)

    async def until_read(self, cursor: int, epoch: str) -> None:
        """Let this node read up to a session's place, unless the log does not have it.

        Raises:
            Unavailable, ApiError, NatsProtocolError: it has not by now; to be tried again.
        """
        if self._is_read(cursor, epoch):
            return
        is_current = trio.Event()
        self._reader.when_current(lambda _: is_current.set())
        with trio.move_on_after(READ_S):
            await is_current.wait()
        if self._is_read(cursor, epoch):
            return
        found = await info(self._link, self._names.messages) or {}
        _, end = places(found)
        if not _has(found, end, cursor, epoch):  # says who may have yet to catch up
            found, behind_all = await certain_end(self._link, self._names)
            end = behind_all - 1
        if _has(found, end, cursor, epoch):
            raise Unavailable("this node has yet to read what the session has had of the log")

    async def until_begun(self) -> None:
        """Let this node find its place in the log.  Raises: Unavailable, if it has not by now."""
        with trio.move_on_after(READ_S):
            await self._reader.current.wait()
        if not self._reader.current.is_set():
            raise Unavailable("this node has yet to read the log")

    def _is_read(self, cursor: int, epoch: str) -> bool:
        return epoch in ("", self._reader.epoch) and cursor <= self._reader.last

    def begin(self, session: Session, cursor: int, epoch: str, lost_from: int = 0) -> None:
        """A session was brought here, after `until_read`; `run` reads once its client is.

        Args:
            lost_from: up to there it, or its node, had of the log what it has lost since.
        """
        reading = self.readings[session] = Reading(session, cursor)
        if lost_from:
            self._gap(
                reading, f"the log, read up to {lost_from}, has lost its end; it goes on behind {cursor}"
            )
        if not self._is_read(cursor, epoch):
            self._gap(reading, "the log was made anew")
            reading.position = reading.read_to = 0
        reading.returned_at = self._reader.last

    def forget(self, session: Session) -> None:
        """It is here no more."""
        self.readings.pop(session, None)

    def read_up_to(self, session: Session) -> int:
        """The place in the log up to which a session was handed everything."""
        reading = self.readings.get(session)
        return self._reader.last if reading is None else reading.position

    async def run(self, session: Session) -> None:
        """Read until the session has what its node has, or its client is gone; at most one for a session."""
        reading = self.readings.get(session)
        if reading is None or reading.is_read:
            return
        reading.is_read = True
        try:
            while session.link is not None:
                with self._engine.turn:  # whose clock may find that all is to be dropped
                    if self.readings.get(session) is not reading or self._hand_on(reading):
                        return
                if reading.waiting:
                    await trio.sleep(FULL_S)
                else:
                    await self._read_more(reading)
        finally:
            reading.is_read = False

    def _hand_on(self, reading: Reading) -> bool:
        """As much as the client takes; whether nothing is left to read."""
        session = reading.session
        waiting = reading.waiting
        while waiting:
            outbox = session.outbox
            if outbox is None or not session.outbound.queue_open():
                return False
            if outbox.pending_bytes > outbox.limit_bytes >> 1:
                return False
            publication = waiting.popleft()
            self._deliver(reading, publication)
            reading.position = publication.sequence
        reading.position = max(reading.position, reading.read_to)
        if reading.position < self._reader.last:
            return False
        session.behind = False
        self._engine.settle_plain(session)
        del self.readings[session]
        return True

    def _trie_of(self, reading: Reading, sequence: int) -> SubscriptionTrie:
        """The filters that a message with this place in the log is for."""
        subscriptions = reading.session.subscriptions
        wanted = {
            topic_filter: granted
            for topic_filter, granted in subscriptions.items()
            if not topic_filter.startswith(SHARE_PREFIX) and reading.since.get(topic_filter, 0) < sequence
        }
        if reading.trie is None or wanted != reading.in_trie:
            reading.in_trie = wanted
            reading.trie = SubscriptionTrie(self._engine.policy.allow_duplicate_messages)
            for topic_filter, granted in wanted.items():
                reading.trie.subscribe(topic_filter, reading.session, granted)
        return reading.trie

    def _found(self, reading: Reading, publication: Publication) -> list[int]:
        """What each subscription that it is for was granted, if the client may read it by now."""
        if not reading.session.may_read(publication.topic):
            return []
        targets = self._trie_of(reading, publication.sequence).match(publication.topic)
        if targets.sole is not None:
            return [targets.sole_granted]
        found = [] if targets.many is None else list(targets.many.values())
        for part in targets.parts or ():
            found += [granted for _, granted in part.pairs()]
        return found

    def _deliver(self, reading: Reading, publication: Publication) -> None:
        session = reading.session
        if publication.retain:
            stored = self._engine.retained.get(publication.topic)
            if stored is not None and stored.sequence == publication.sequence:
                publication = stored
        came_while_away = publication.sequence <= reading.returned_at and not session.rules.queue_qos0
        for granted in self._found(reading, publication):
            if not came_while_away or session.quality(publication, granted) > 0:
                session.hand_on(publication, granted, False)

    # --- reading -------------------------------------------------------------------------------------------

    async def _read_more(self, reading: Reading) -> None:
        """The next slice.  Nothing waits now."""
        start, end = reading.position + 1, self._reader.last
        try:
            async with self._slices:
                found = await self._slice(start)
        except (Unavailable, ApiError, NatsProtocolError):
            found = []
        if not found:
            if not await self._is_gone(reading, start, end):
                await trio.sleep(STALE_S)  # a replica that does not have it yet
            return
        if self.readings.get(reading.session) is not reading:
            return
        if found[0][0] > start:
            self._pass_over(reading, start, min(end, found[0][0] - 1))
        for sequence, publication in found:
            if sequence > end:
                break
            reading.read_to = sequence
            if publication is not None and self._found(reading, publication):
                reading.waiting.append(publication)
        if not reading.waiting and end - reading.read_to > LEAP_FROM:
            await self._leap(reading, end)

    async def _is_gone(self, reading: Reading, start: int, end: int) -> bool:
        """Whether the log has nothing of this stretch any more, or not its beginning; then that is passed over.

        What a server finds behind a place is what stands there, whoever leads, as it has the log up to that.  One that
        finds nothing may have yet to catch up: then something is put there, which whoever has all of it finds.
        """
        link, names = self._link, self._names
        try:
            there = await first_behind(link, names.messages, start)
            if there is None:
                await self._leader_with(end)
                await certain_end(link, names)
                there = await first_behind(link, names.messages, start)
        except (Unavailable, ApiError, NatsProtocolError):
            return False
        if there is None or there.sequence <= start:
            return False
        if self.readings.get(reading.session) is reading:
            self._pass_over(reading, start, min(end, there.sequence - 1))
        return True

    def _pass_over(self, reading: Reading, start: int, gone_to: int) -> None:
        self._gap(reading, f"messages {start} to {gone_to} of the log are gone")
        reading.read_to = gone_to

    async def _slice(self, start: int) -> list[tuple[int, Publication | None]]:
        """(sequence, message) from a sequence on.  Raises: Unavailable, ApiError, NatsProtocolError."""
        done = trio.Event()
        found: list[tuple[int, Publication | None]] = []

        def take(message: wire.Message) -> None:
            if message.status:
                done.set()
                return
            sequence = message.headers.number(b"Nats-Sequence")
            subject = message.headers.get(b"Nats-Subject")
            if sequence is None or subject is None:
                done.set()
                return
            message.subject = subject
            publication = self._reader.publication_of(message, sequence)
            found.append((sequence, publication))

        inbox = self._link.new_inbox()
        sid = self._link.subscribe(inbox, take)
        try:
            request = jetstream.direct_batch(self._names.messages, start, SLICE_MESSAGES, SLICE_BYTES)
            if not self._link.send(wire.publish(request[0], request[1], inbox)):
                raise Unavailable("not connected")
            with trio.move_on_after(SLICE_S):
                await done.wait()
        finally:
            self._link.unsubscribe(sid)
        return found

    async def _leap(self, reading: Reading, end: int) -> None:
        """Nothing was for this session: ask where to go on."""
        wanted: set[bytes] = set()
        for topic_filter in reading.session.subscriptions:
            if not topic_filter.startswith(SHARE_PREFIX):
                wanted.update(subjects.subjects_of_filter(topic_filter))
        if len(wanted) > LEAP_FILTERS_MAX or b">" in wanted:
            return
        start = reading.read_to + 1
        nearest = end + 1
        try:
            leader = await self._leader_with(end)
            for subject in wanted:
                covering = self._names.messages_prefix + b"*.*." + subject
                request = jetstream.next_of(self._names.messages, covering, start)
                try:
                    found = jetstream.stored(await self._link.request(*request, SLICE_S)).sequence
                except ApiError as error:
                    if error.err_code != jetstream.NO_MESSAGE:
                        raise
                    continue
                nearest = min(nearest, found)
            if await self._leader_with(end) != leader:
                return
        except (Unavailable, ApiError, NatsProtocolError):
            return
        reading.read_to = max(reading.read_to, nearest - 1)

    async def _leader_with(self, end: int) -> str:
        """Who leads the log, if it has it up to there: else it says that there is nothing where something would be.

        Raises: Unavailable, ApiError, NatsProtocolError.
        """
        found = await info(self._link, self._names.messages) or {}
        if places(found)[1] < end:
            raise Unavailable("the NATS server that answers has yet to catch up with the log")
        return str((found.get("cluster") or {}).get("leader", ""))

    def _gap(self, reading: Reading, why: str) -> None:
        self._status.session_gaps += 1
        logger.error(
            "Client %s may miss messages: %s.", reading.session.client_id.decode(errors="replace"), why
        )


def _has(found: dict[str, Any], end: int, cursor: int, epoch: str) -> bool:
    """Whether the log of this `info`, with this end, has a session's place."""
    return epoch in ("", epoch_of(made_at(found))) and cursor <= end
