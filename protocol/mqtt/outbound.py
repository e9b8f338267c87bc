"""Packets we owe a client at QoS 1 and 2: ids, in-flight window, queue, resume.  Sans-IO, no clock.

    state            PUBACK      PUBREC                      PUBCOMP     on resume
    unknown id       ignore      send PUBREL                 ignore      -
    AWAIT_PUBACK     done        violation                   violation   PUBLISH dup
    AWAIT_PUBREC     violation   -> AWAIT_PUBCOMP, PUBREL    violation   PUBLISH dup
    AWAIT_PUBCOMP    violation   PUBREL again                done        PUBREL

Invariant: a packet id is in `_inflight` from its first PUBLISH until PUBACK or PUBCOMP, and `_inflight` is in the
order of first sending [MQTT-4.6.0-6].
"""

from __future__ import annotations

from collections import deque
from typing import Final

from protocol.mqtt.codec import encode_ack, publish_head
from protocol.mqtt.errors import ProtocolViolation
from protocol.mqtt.message import Message, Sink
from protocol.mqtt.window import (
    DROPPED,
    EXPIRED,
    QUEUED,
    SENT,
    TOO_LARGE,
    UNSAVED_MAX,
    InFlight,
    Queued,
    Window,
    packet_id_bytes,
    publish_size,
)

__all__ = ["DROPPED", "QUEUED", "SENT", "TOO_LARGE", "InFlight", "Outbound", "Queued", "Window"]


AWAIT_PUBACK: Final = 1
AWAIT_PUBREC: Final = 2
AWAIT_PUBCOMP: Final = 3

PUBREL_FIRST_BYTE: Final = 0x62
PACKET_ID_MAX: Final = 65_535


class Outbound:
    """The sending side of QoS 1 and 2 for one session (MQTT 3.1.1 §4.3, §4.4, §4.6).

    Bytes go to the `Sink` that `attach` gave; with none the client is away and everything waits.
    """

    def __init__(self, window: Window, client_id: bytes = b"") -> None:
        self.window = window
        self.client_id = client_id
        self.inflight_bytes = 0
        self.queued_bytes = 0
        self.last_packet_id = 0
        self.level = 4
        """Of the connection: what a PUBLISH looks like."""
        self.receive_maximum = 0
        """What the client of 5.0 takes unacknowledged at a time; 0 says nothing [MQTT-3.3.4-9]."""
        self.packet_max = 0
        """Bytes of the largest packet that the client of 5.0 takes; 0 is any [MQTT-3.1.2-24]."""
        self.durable = False
        """What is owed outlives the connection, and a snapshot holds it."""
        self.unsaved = False
        """Something that a snapshot holds of this session changed since the last one was taken."""
        self._inflight: dict[int, InFlight] = {}
        self.ids_after = 0
        """As `Queued.ids_before`, of those dropped from the end of the queue."""
        self._queue: deque[Queued] | None = None
        self._sink: Sink | None = None

    def attach(self, sink: Sink) -> None:
        """The client is here: resume what was in flight, in original order, then what was queued."""
        self._sink = sink
        for entry in self._inflight.values():  # [MQTT-4.4.0-1] [MQTT-4.6.0-1]
            if entry.state == AWAIT_PUBCOMP:
                sink.push(encode_ack(PUBREL_FIRST_BYTE, entry.packet_id))
            else:
                self._push(sink, entry, True)  # [MQTT-3.3.1-1]
        self._drain()

    def detach(self) -> None:
        self._sink = None

    def resume(self) -> None:
        """The sink takes more again."""
        if self._queue:
            self._drain()

    def inflight_count(self) -> int:
        return len(self._inflight)

    def queued_count(self) -> int:
        queue = self._queue
        return 0 if queue is None else len(queue)

    def inflight(self) -> list[InFlight]:
        return list(self._inflight.values())

    def queued(self) -> list[Queued]:
        queue = self._queue
        return [] if queue is None else list(queue)

    def has_room(self) -> bool:
        """Whether a message offered now would be sent at once."""
        return self._sink is not None and not self._queue and self._window_open()

    def offer(self, message: Message, qos: int, retain: bool, ids: bytes = b"") -> int:
        """Take a message for this client: send it, queue it, or refuse it.

        Args:
            message: as published; shared by all receivers, never modified.
            qos: 1 or 2, what it leaves with; 0 only for a client that is away and wants those queued, too.
            retain: leaves with the retain flag set.
            ids: subscription identifiers, as properties of 5.0.

        Returns:
            SENT, QUEUED, or DROPPED (counted by the caller).

        Source: mosquitto.conf max_inflight_messages, max_queued_messages and their byte twins.
        """
        sink = self._sink
        if sink is not None and not self._queue and self._window_open():
            self._send(sink, message, qos, retain, ids)
            return SENT
        if not self.queue_open() and not (self._forget_expired() and self.queue_open()):
            return DROPPED
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append(Queued(message, qos, retain, self.ids_after, ids))
        self.ids_after = 0
        self.window.store.hold(message)
        self.queued_bytes += message.size()
        self._note_change()
        return QUEUED

    def puback(self, packet_id: int) -> bool:
        """PUBACK came; False for an id that is not in flight, which is ignored as by Mosquitto."""
        entry = self._inflight.get(packet_id)
        if entry is None:
            return False
        if entry.state != AWAIT_PUBACK:
            raise ProtocolViolation("PUBACK for a QoS 2 message", "MQTT-4.3.3-1")
        self._finish(entry)
        return True

    def pubrec(self, packet_id: int, failed: bool = False) -> None:
        """PUBREC came: PUBREL goes, also for an unknown id, so that the client can forget it.

        Args:
            failed: it has a reason code of 0x80 or more: the client does not want the message, and its packet id is
                free again [MQTT-4.3.3-4].
        """
        entry = self._inflight.get(packet_id)
        if failed and (entry is None or entry.state != AWAIT_PUBACK):
            if entry is not None:
                self._finish(entry)
            return
        if entry is not None:
            if entry.state == AWAIT_PUBACK:
                raise ProtocolViolation("PUBREC for a QoS 1 message", "MQTT-4.3.2-1")
            entry.state = AWAIT_PUBCOMP
            self._note_change()
        sink = self._sink
        if sink is not None:
            sink.answer(encode_ack(PUBREL_FIRST_BYTE, packet_id))  # [MQTT-4.3.3-1]

    def pubcomp(self, packet_id: int) -> bool:
        """PUBCOMP came; False for an id that is not in flight, which is ignored as by Mosquitto."""
        entry = self._inflight.get(packet_id)
        if entry is None:
            return False
        if entry.state != AWAIT_PUBCOMP:
            raise ProtocolViolation("PUBCOMP before PUBREC", "MQTT-4.3.3-1")
        self._finish(entry)
        return True

    def restore(
        self, inflight: list[InFlight], queued: list[Queued], last_packet_id: int, ids_after: int
    ) -> None:
        """Take back what a snapshot kept; the client is away."""
        for entry in inflight:
            self._inflight[entry.packet_id] = entry
            self.inflight_bytes += entry.message.size()
            self.window.store.hold(entry.message)
        if queued:
            self._queue = deque(queued)
            for waiting in queued:
                self.queued_bytes += waiting.message.size()
                self.window.store.hold(waiting.message)
        self.last_packet_id = last_packet_id
        self.ids_after = ids_after

    def discard(self) -> None:
        """The session ends: keep nothing."""
        store = self.window.store
        for entry in self._inflight.values():
            store.release(entry.message)
        if self._queue is not None:
            for waiting in self._queue:
                store.release(waiting.message)
        self._inflight = {}
        self._queue = None

    def forget_inflight(self, topics: set[bytes]) -> int:
        """Drop what would be sent again for these topics, because the client may not read them; it is away.

        What waits for PUBCOMP has been received: PUBREL ends it, and shows nothing.
        """
        gone = [
            entry
            for entry in self._inflight.values()
            if entry.state != AWAIT_PUBCOMP and entry.message.topic in topics
        ]
        for entry in gone:
            self._finish(entry)
        return len(gone)

    def forget_queued(self, topics: set[bytes]) -> int:
        """Drop what is queued for these topics, because the client may not read them any more.

        Each dropped message consumes a packet id, as in Mosquitto, which numbers messages when it queues them.
        """
        queue = self._queue
        if queue is None:
            return 0
        kept: deque[Queued] = deque()
        ids = 0
        for waiting in queue:
            if waiting.message.topic in topics:
                self.queued_bytes -= waiting.message.size()
                self.window.store.release(waiting.message)
                ids += waiting.ids_before + (1 if waiting.qos > 0 else 0)
            else:
                kept.append(
                    Queued(
                        waiting.message, waiting.qos, waiting.retain, waiting.ids_before + ids, waiting.ids
                    )
                )
                ids = 0
        self.ids_after += ids
        if not kept:
            self._pass_ids_after()
        dropped = len(queue) - len(kept)
        self._queue = kept if kept else None
        self._note_change()
        return dropped

    def _pass_ids_after(self) -> None:
        """The queue is empty: the ids of what was dropped from its end are gone."""
        for _ in range(self.ids_after):
            self._next_packet_id()
        self.ids_after = 0

    def _note_change(self) -> None:
        if self.durable:
            self.window.changes += 1
            if not self.unsaved:
                self.mark_unsaved()

    def mark_unsaved(self) -> None:
        """The next snapshot must look at this session."""
        self.unsaved = True
        unsaved = self.window.unsaved
        if unsaved is not None:
            unsaved.add(self.client_id)
            if len(unsaved) > UNSAVED_MAX:
                self.window.unsaved = None

    def _window_open(self) -> bool:
        window = self.window
        if window.inflight_messages != 0 and len(self._inflight) >= window.inflight_messages:
            return False
        if len(self._inflight) >= PACKET_ID_MAX:
            return False
        if self.receive_maximum != 0 and len(self._inflight) >= self.receive_maximum:
            return False
        # As Mosquitto: one message may overstep the bytes, or a single big one could never be sent.
        if window.inflight_bytes != 0 and self.inflight_bytes >= window.inflight_bytes:
            return False
        sink = self._sink
        return sink is None or sink.takes_more()

    def queue_open(self) -> bool:
        """Whether one message more may wait.

        As mosquitto: what is in flight counts as well, but while the client is here a window's worth is free; and
        the last message may overstep the bytes.
        """
        window = self.window
        if window.queued_messages == 0 and window.queued_bytes == 0:
            return True
        count = self.queued_count() + len(self._inflight)
        size = self.queued_bytes + self.inflight_bytes
        if self._sink is not None:
            count -= window.inflight_messages
            size -= window.inflight_bytes
        if window.queued_messages != 0 and count >= window.queued_messages:
            return False
        return window.queued_bytes == 0 or size < window.queued_bytes

    def _next_packet_id(self) -> int:
        """The next id that is not in flight [MQTT-2.3.1-2]; the window guarantees that there is one."""
        packet_id = self.last_packet_id
        while True:
            packet_id = 1 if packet_id >= PACKET_ID_MAX else packet_id + 1
            if packet_id not in self._inflight:
                self.last_packet_id = packet_id
                return packet_id

    def _forget_expired(self) -> bool:
        """The queue is full: make room by what nobody wants any more; whether there was any."""
        queue = self._queue
        now = self.window.now()
        if queue is None or not any(waiting.message.has_expired(now) for waiting in queue):
            return False
        kept: deque[Queued] = deque()
        for waiting in queue:
            if not waiting.message.has_expired(now):
                kept.append(waiting)
                continue
            self.queued_bytes -= waiting.message.size()
            self.window.store.release(waiting.message)
            self.window.discarded(EXPIRED)
        self._queue = kept if kept else None
        self._note_change()
        return True

    def _send(self, sink: Sink, message: Message, qos: int, retain: bool, ids: bytes) -> None:
        if self.level == 5 and not self._fits(message, ids):
            self._note_change()
            self.window.discarded(TOO_LARGE)
            return  # [MQTT-3.1.2-25]
        if qos == 0:
            self._note_change()
            if self.level == 5:
                sink.push(message.packet_5(retain, self.window.now(), ids))
            else:
                sink.push(message.retained_packet() if retain else message.packet())
            return
        packet_id = self._next_packet_id()
        entry = InFlight(packet_id, message, qos, retain, AWAIT_PUBACK if qos == 1 else AWAIT_PUBREC, ids)
        self._inflight[packet_id] = entry
        self.inflight_bytes += message.size()
        self.window.store.hold(message)
        self._note_change()
        self._push(sink, entry, False)

    def _fits(self, message: Message, ids: bytes) -> bool:
        if self.packet_max == 0:
            return True
        block = len(message.properties) + len(ids) + (5 if message.expires_at != 0.0 else 0)
        return publish_size(len(message.topic), block, len(message.payload), 2) <= self.packet_max

    def _push(self, sink: Sink, entry: InFlight, dup: bool) -> None:
        message = entry.message
        if self.level == 5:
            block = message.block(self.window.now(), entry.ids)
            first_byte = 0x30 | entry.qos << 1 | (1 if entry.retain else 0) | (8 if dup else 0)
            head = publish_head(first_byte, message.topic, 2 + len(block) + len(message.payload))
            sink.push_publish(head, packet_id_bytes(entry.packet_id) + block, message.payload)
            return
        sink.push_publish(
            message.head(entry.qos, entry.retain, dup), packet_id_bytes(entry.packet_id), message.payload
        )

    def _finish(self, entry: InFlight) -> None:
        del self._inflight[entry.packet_id]
        self.inflight_bytes -= entry.message.size()
        self.window.store.release(entry.message)
        self._note_change()
        if self._queue:
            self._drain()

    def _drain(self) -> None:
        """Send from the queue while the window is open."""
        sink = self._sink
        queue = self._queue
        if sink is None or queue is None:
            return
        while queue and self._window_open():
            waiting = queue.popleft()
            self.queued_bytes -= waiting.message.size()
            for _ in range(waiting.ids_before):
                self._next_packet_id()
            message = waiting.message
            if message.expires_at != 0.0 and message.has_expired(self.window.now()):
                self._note_change()
                self.window.discarded(EXPIRED)  # [MQTT-3.3.2-5]
            else:
                self._send(sink, message, waiting.qos, waiting.retain, waiting.ids)
            self.window.store.release(message)
        if not queue:
            self._queue = None
            self._pass_ids_after()
