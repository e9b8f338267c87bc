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

import math
from collections import deque
from typing import Final

from protocol.mqtt.books import Books
from protocol.mqtt.codec import encode_ack
from protocol.mqtt.errors import ProtocolViolation
from protocol.mqtt.framing import packet_id_bytes
from protocol.mqtt.message import Message, PacketWriter
from protocol.mqtt.owed import PACKET_ID_MAX, Owed
from protocol.mqtt.v5.sending import Sending
from protocol.mqtt.waiting import WaitingLine
from protocol.mqtt.window import (
    DROPPED,
    EXPIRED,
    FORBIDDEN,
    QUEUED,
    SENT,
    TOO_LARGE,
    InFlight,
    Queued,
    Window,
)

__all__ = ["DROPPED", "QUEUED", "SENT", "TOO_LARGE", "InFlight", "Outbound", "Queued", "Window"]


AWAIT_PUBACK: Final = 1
AWAIT_PUBREC: Final = 2
AWAIT_PUBCOMP: Final = 3

PUBREL_FIRST_BYTE: Final = 0x62

AT_ONCE_MAX: Final = 256
"""Messages that one acknowledgement, or a connect, sends from the queue before others have their turn; 1 ms or so."""

ALL: Final = 1 << 60


class Outbound(Owed):
    """The sending side of QoS 1 and 2 for one session (MQTT 3.1.1 §4.3, §4.4, §4.6).

    Bytes go to the `PacketWriter` that `attach` gave; with none the client is away and everything waits.
    """

    waits = False
    """`go_on` is going to be called."""

    def __init__(self, window: Window, client_id: bytes = b"", books: Books | None = None) -> None:
        super().__init__(window, client_id, books)
        self.sending: Sending | None = None
        """How a client of 5.0 is written to; None for one of an older version."""
        self._resend: deque[InFlight] | None = None
        """In flight when the last connection ended, and not sent again yet."""
        self._writer: PacketWriter | None = None

    def attach(self, writer: PacketWriter) -> None:
        """The client is here: resume what was in flight, in original order, then what was queued."""
        self._writer = writer
        self._resend = deque(self._inflight.values()) if self._inflight else None
        if self._inflight or self._queue is not None:
            self._go_on()

    def detach(self) -> None:
        """The client is away: everything waits."""
        self._writer = None
        self._resend = None

    def redirect(self, writer: PacketWriter) -> None:
        """The client is still here, and gets what comes now by another way."""
        self._writer = writer

    def resume(self) -> None:
        """The writer takes more again."""
        if self._queue is not None:
            self._go_on()

    def go_on(self, count: int) -> int:
        """The turn that `Books.on_more` asked for: look at so many messages at most; how many it were."""
        used = self._some(count)
        self.waits = used >= count
        return used

    def has_room(self) -> bool:
        """Whether a message offered now would be sent at once."""
        return self._writer is not None and self._queue is None and self._window_open()

    def offer(self, message: Message, qos: int, retain: bool, ids: bytes = b"") -> int:
        """Take a message for this client: send it, queue it, or refuse it.

        Args:
            message: as published; shared by all receivers, never modified.
            qos: 1 or 2, what it leaves with; 0 only for a client that wants those queued, too, and is away, or for
                whom others at QoS 0 wait.
            retain: leaves with the retain flag set.
            ids: subscription identifiers, as properties of 5.0.

        Returns:
            SENT, QUEUED, or DROPPED (counted by the caller).

        Source: mosquitto.conf max_inflight_messages, max_queued_messages and their byte twins.
        """
        writer = self._writer
        if writer is not None and self._queue is None and self._window_open():
            self._send(writer, message, qos, retain, ids)
            return SENT
        if not self.queue_open(qos) and not (self._forget_expired() and self.queue_open(qos)):
            return DROPPED
        queue = self._queue
        if queue is None:
            queue = self._queue = WaitingLine()
        queue.append(Queued(message, qos, retain, self.ids_after, ids, self.books.next_position()))
        self.ids_after = 0
        self._note_expiry(message)
        self.books.store.hold(message)
        self.queued_bytes += message.size()
        if qos == 0:
            self.queued_qos_0 += 1
            self.queued_qos_0_bytes += message.size()
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
        writer = self._writer
        if writer is not None:
            writer.answer(encode_ack(PUBREL_FIRST_BYTE, packet_id))  # [MQTT-4.3.3-1]

    def pubcomp(self, packet_id: int) -> bool:
        """PUBCOMP came; False for an id that is not in flight, which is ignored as by Mosquitto."""
        entry = self._inflight.get(packet_id)
        if entry is None:
            return False
        if entry.state != AWAIT_PUBCOMP:
            raise ProtocolViolation("PUBCOMP before PUBREC", "MQTT-4.3.3-1")
        self._finish(entry)
        return True

    def _take_out(self, gone: set[Queued]) -> int:
        """Drop these from the queue; how many.

        Each dropped message consumes a packet id, as in Mosquitto, which numbers messages when it queues them.
        """
        queue = self._queue
        if queue is None or not gone:
            return 0
        kept: list[Queued] = []
        ids = 0
        for waiting in queue.all():
            ids += waiting.ids_before
            if waiting in gone:
                self.queued_bytes -= waiting.message.size()
                if waiting.qos == 0:
                    self.queued_qos_0 -= 1
                    self.queued_qos_0_bytes -= waiting.message.size()
                self.books.store.release(waiting.message)
                ids = (ids + (1 if waiting.qos > 0 else 0)) % PACKET_ID_MAX
                continue
            position = self.books.next_position()
            kept.append(Queued(waiting.message, waiting.qos, waiting.retain, ids, waiting.ids, position))
            ids = 0
        self.ids_after = (self.ids_after + ids) % PACKET_ID_MAX
        if not kept:
            self._pass_ids_after()
        self._queue = WaitingLine(kept) if kept else None
        self._note_change()
        return len(gone)

    def is_behind(self, owed: int) -> bool:
        sending = self.sending
        if sending is not None and 0 < sending.receive_maximum < len(self._inflight) + owed:
            return False
        return super().is_behind(owed)

    def _window_open(self) -> bool:
        if self._resend is not None:
            return False
        window = self.window
        inflight = len(self._inflight)
        if inflight >= PACKET_ID_MAX or 0 < window.inflight_messages <= inflight:
            return False
        sending = self.sending
        if sending is not None and 0 < sending.receive_maximum <= inflight:
            return False
        # As Mosquitto: one message may overstep the bytes, or a single big one could never be sent.
        if window.inflight_bytes != 0 and self.inflight_bytes >= window.inflight_bytes:
            return False
        writer = self._writer
        return writer is None or writer.takes_more()

    def queue_open(self, qos: int = 1) -> bool:
        """Whether one message more may wait.

        As mosquitto: messages in flight do not count, their bytes do, but while the client is here a window's worth
        of them is free; the last message may overstep the bytes; and those at QoS 0 take no place of the others.
        Unlike there, they may not be more than the others may.
        """
        window = self.window
        qos_0, qos_0_bytes = self.queued_qos_0, self.queued_qos_0_bytes
        most, bytes_max = window.queued_messages, window.queued_bytes
        if most != 0 and (self.queued_count() - qos_0 >= most or (qos == 0 and qos_0 >= most)):
            return False
        if qos == 0 and bytes_max != 0 and qos_0_bytes >= bytes_max:
            return False
        size = self.queued_bytes - qos_0_bytes + self.inflight_bytes
        if self._writer is not None:
            size -= window.inflight_bytes
        return bytes_max == 0 or size < bytes_max

    def _forget_expired(self) -> bool:
        """The queue is full: make room by what nobody wants any more; whether there was any."""
        now = self.books.now()
        if now <= self.first_expiry:
            return False
        gone: set[Queued] = set()
        self.first_expiry = math.inf
        for waiting in self.queued():
            if waiting.message.has_expired(now):
                gone.add(waiting)
                self.books.discarded(EXPIRED)
            else:
                self._note_expiry(waiting.message)
        return self._take_out(gone) > 0

    def _send_again(self, writer: PacketWriter, count: int) -> int:
        """What was in flight, in its order, as much at a time as the client takes."""
        used = 0
        resend = self._resend
        sending = self.sending
        at_a_time = 0 if sending is None else sending.receive_maximum
        while resend:
            if used >= count or (at_a_time and len(self._inflight) - len(resend) >= at_a_time):
                return used
            used += 1
            entry = resend.popleft()
            if self._inflight.get(entry.packet_id) is not entry:
                continue
            if entry.state == AWAIT_PUBCOMP:
                writer.push(encode_ack(PUBREL_FIRST_BYTE, entry.packet_id))
            elif sending is not None and not sending.fits(entry.message, entry.ids):
                self._forget(entry)
                self.books.discarded(TOO_LARGE)
            elif (self.guarded or self.books.asks_all) and not self._may_get(entry.message):
                self._forget(entry)
                self.books.discarded(FORBIDDEN)
            else:  # also what has expired since it was first sent [MQTT-4.3.3-7]
                self._push(writer, entry, True)  # [MQTT-3.3.1-1]
        self._resend = None
        return used

    def _send(self, writer: PacketWriter, message: Message, qos: int, retain: bool, ids: bytes) -> None:
        sending = self.sending
        is_shared = False
        if sending is not None:
            is_shared = sending.takes_any and qos > 0 and not ids and message.is_shared_5(qos, retain)
            if not is_shared and not sending.fits(message, ids):
                self._let_go(qos, TOO_LARGE)
                return  # [MQTT-3.1.2-25]
        self._note_change()
        if qos == 0:
            if sending is not None:
                writer.push(sending.packet(message, retain, self.books.now_for(message), ids))
                sending.sent()
            else:
                writer.push(message.retained_packet() if retain else message.packet())
            return
        entry = self._put_in_flight(message, qos, retain, AWAIT_PUBACK if qos == 1 else AWAIT_PUBREC, ids)
        packet_id = packet_id_bytes(entry.packet_id)
        payload = message.payload
        if sending is None:
            writer.push_publish(message.head(qos, retain, False), packet_id, payload, len(payload))
        elif is_shared:
            if message.block_5:
                packet_id += message.block_5
            writer.push_publish(message.head_5, packet_id, message.rest_5, len(payload))
        else:
            sending.push(writer, entry, False, self.books.now_for(message))

    def _let_go(self, qos: int, why: int) -> None:
        """A message whose turn has come is not sent; it consumes a packet id, as in Mosquitto."""
        if qos > 0:
            self._next_packet_id()
        self._note_change()
        self.books.discarded(why)

    def _push(self, writer: PacketWriter, entry: InFlight, dup: bool) -> None:
        if self.sending is not None:
            self.sending.push(writer, entry, dup, self.books.now_for(entry.message))
            return
        message = entry.message
        head = message.head(entry.qos, entry.retain, dup)
        writer.push_publish(head, packet_id_bytes(entry.packet_id), message.payload, len(message.payload))

    def _finish(self, entry: InFlight) -> None:
        self._forget(entry)
        if self._resend is not None or self._queue is not None:
            self._go_on()

    def _go_on(self) -> None:
        """Send what may be sent; where that is very much, the rest has its turn later, and keeps its place."""
        if self.waits:
            return
        on_more = self.books.on_more
        if on_more is None:
            self._some(ALL)
        elif self._some(AT_ONCE_MAX) >= AT_ONCE_MAX:
            self.waits = True
            on_more(self.client_id)

    def _some(self, count: int) -> int:
        writer = self._writer
        if writer is None:
            return 0
        used = 0 if self._resend is None else self._send_again(writer, count)
        return used if self._queue is None else used + self._drain(writer, self._queue, count - used)

    def _may_get(self, message: Message) -> bool:
        may_get = self.books.may_get
        return may_get is None or may_get(self.client_id, message.topic)

    def _drain(self, writer: PacketWriter, queue: WaitingLine, count: int) -> int:
        """Send from the queue while the window is open."""
        used = 0
        while queue.count() and used < count and self._window_open():
            used += 1
            waiting = queue.take()
            self.queued_bytes -= waiting.message.size()
            if waiting.qos == 0:
                self.queued_qos_0 -= 1
                self.queued_qos_0_bytes -= waiting.message.size()
            for _ in range(waiting.ids_before):
                self._next_packet_id()
            message = waiting.message
            if message.expires_at != 0.0 and message.has_expired(self.books.now()):
                self._let_go(waiting.qos, EXPIRED)  # [MQTT-3.3.2-5]
            elif (self.guarded or self.books.asks_all) and not self._may_get(message):
                self._let_go(waiting.qos, FORBIDDEN)
            else:
                self._send(writer, message, waiting.qos, waiting.retain, waiting.ids)
            self.books.store.release(message)
        if not queue.count():
            self._queue = None
            self._pass_ids_after()
        return used
