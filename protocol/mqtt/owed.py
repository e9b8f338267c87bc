"""What one client is owed at QoS 1 and 2, in flight or waiting: the state that `outbound.py` moves.  Sans-IO, no clock.

Invariant: `inflight_bytes` and `queued_bytes` are the payloads of what is in flight and queued, and the store holds
each of these messages once.
"""

from __future__ import annotations

import math
from typing import Final

from protocol.mqtt.books import Books
from protocol.mqtt.message import Message, MessageStore
from protocol.mqtt.waiting import WaitingLine
from protocol.mqtt.window import InFlight, Queued, Window

PACKET_ID_MAX: Final = 65_535


class Discarded:
    """Messages of a session that has ended, which the store still holds."""

    def __init__(self, store: MessageStore, inflight: list[InFlight], queue: WaitingLine | None) -> None:
        self._store = store
        self._inflight = inflight
        self._queue = queue

    def release(self, count: int) -> int:
        """Let go of so many at most; how many it were."""
        released = 0
        while self._inflight and released < count:
            self._store.release(self._inflight.pop().message)
            released += 1
        queue = self._queue
        while queue is not None and released < count and queue.count():
            self._store.release(queue.take().message)
            released += 1
        return released

    def is_empty(self) -> bool:
        """Whether all are released."""
        queue = self._queue
        return not self._inflight and (queue is None or queue.count() == 0)


class Owed:
    """Messages for one session, their packet ids, and what a snapshot of them needs."""

    # What most sessions never need stands here, where it costs an interpreted one nothing.
    queued_bytes = 0
    unsaved = False
    """Something that a snapshot holds of this session changed since the last one was taken."""
    collected = 0
    """`Queued.position` up to which a snapshot has taken the queue."""
    ids_after = 0
    """As `Queued.ids_before`, of those dropped from the end of the queue."""
    first_expiry = math.inf
    """No message in the queue expires before."""
    queued_qos_0 = 0
    """Of the messages in the queue, those at QoS 0."""
    queued_qos_0_bytes = 0

    def __init__(self, window: Window, client_id: bytes = b"", books: Books | None = None) -> None:
        self.window = window
        self.books = Books() if books is None else books
        self.client_id = client_id
        self.inflight_bytes = 0
        self.last_packet_id = 0
        self.durable = False
        """What is owed outlives the connection, and a snapshot holds it."""
        self.guarded = False
        """Its client may not read everything: `Books.may_get` is asked about each message when its turn comes."""
        self._inflight: dict[int, InFlight] = {}
        self._queue: WaitingLine | None = None
        """None where nothing waits."""

    def inflight_count(self) -> int:
        """How many messages are sent and not yet acknowledged."""
        return len(self._inflight)

    def is_behind(self, owed: int) -> bool:
        """Whether more than these are in flight, and as many again may be."""
        inflight = len(self._inflight)
        most = self.window.inflight_messages
        return inflight > owed and (most == 0 or inflight + owed <= most)

    def queued_count(self) -> int:
        """How many wait to be sent."""
        queue = self._queue
        return 0 if queue is None else queue.count()

    def inflight(self) -> list[InFlight]:
        """Messages sent and not acknowledged, in the order in which they were sent."""
        return list(self._inflight.values())

    def queued(self) -> list[Queued]:
        """Messages that wait, in the order in which they will be sent."""
        queue = self._queue
        return [] if queue is None else queue.all()

    def queued_behind(self, position: int) -> list[Queued]:
        """Those messages of `queued` whose position is behind this one."""
        queue = self._queue
        return [] if queue is None else queue.behind(position)

    def oldest_position(self) -> int:
        """Of the first message that waits; 0 if none does."""
        queue = self._queue
        oldest = None if queue is None else queue.oldest()
        return 0 if oldest is None else oldest.position

    def restore(
        self,
        inflight: list[InFlight],
        queued: list[Queued],
        last_packet_id: int,
        ids_after: int,
        last_position: int = 0,
    ) -> None:
        """Take back what a snapshot kept; the client is away.

        Args:
            queued: with their positions, or all without.
            last_position: of what this or another session has queued.
        """
        books = self.books
        for entry in inflight:
            self._inflight[entry.packet_id] = entry
            self.inflight_bytes += entry.message.size()
            books.store.hold(entry.message)
        books.last_position = max(books.last_position, last_position)
        self.collected = last_position
        if queued:
            self._queue = WaitingLine(queued)
            for waiting in queued:
                if waiting.position == 0:
                    waiting.position = books.next_position()
                self.queued_bytes += waiting.message.size()
                if waiting.qos == 0:
                    self.queued_qos_0 += 1
                    self.queued_qos_0_bytes += waiting.message.size()
                self._note_expiry(waiting.message)
                books.store.hold(waiting.message)
        self.last_packet_id = last_packet_id
        self.ids_after = ids_after

    def discard(self) -> Discarded | None:
        """The session ends: keep nothing; what is still to be released, if there is anything."""
        discarded = None
        if self._inflight or self._queue is not None:
            discarded = Discarded(self.books.store, list(self._inflight.values()), self._queue)
        self._inflight = {}
        self._queue = None
        self.queued_qos_0 = 0
        self.queued_qos_0_bytes = 0
        self.inflight_bytes = 0
        self.queued_bytes = 0
        return discarded

    def _pass_ids_after(self) -> None:
        """The queue is empty: the ids of what was dropped from its end are gone."""
        for _ in range(self.ids_after):
            self._next_packet_id()
        self.ids_after = 0

    def _note_expiry(self, message: Message) -> None:
        """This message is in the queue."""
        if message.expires_at != 0.0 and message.expires_at < self.first_expiry:
            self.first_expiry = message.expires_at

    def _note_change(self) -> None:
        if self.durable:
            self.books.changes += 1
            if not self.unsaved:
                self.mark_unsaved()

    def mark_unsaved(self) -> None:
        """The next snapshot must look at this session."""
        self.unsaved = True
        self.books.note_unsaved(self.client_id)

    def _next_packet_id(self) -> int:
        """The next id that is not in flight [MQTT-2.3.1-2]; the window guarantees that there is one."""
        packet_id = _following(self.last_packet_id)
        while packet_id in self._inflight:
            packet_id = _following(packet_id)
        self.last_packet_id = packet_id
        return packet_id

    def _put_in_flight(self, message: Message, qos: int, retain: bool, state: int, ids: bytes) -> InFlight:
        """A message of its own packet id, as `_next_packet_id` finds it, with one look instead of two."""
        inflight = self._inflight
        packet_id = _following(self.last_packet_id)
        entry = InFlight(packet_id, message, qos, retain, state, ids)
        while inflight.setdefault(packet_id, entry) is not entry:
            packet_id = entry.packet_id = _following(packet_id)
        self.last_packet_id = packet_id
        self.inflight_bytes += message.size()
        self.books.store.hold(message)
        return entry

    def _forget(self, entry: InFlight) -> None:
        del self._inflight[entry.packet_id]
        self.inflight_bytes -= entry.message.size()
        self.books.store.release(entry.message)
        self._note_change()


def _following(packet_id: int) -> int:
    return 1 if packet_id >= PACKET_ID_MAX else packet_id + 1
