"""Acknowledgements that wait for a promise, and those that came after them.

Hot: `answer` is called for every message at QoS 1 and 2.

Invariant: PUBACKs and PUBRECs leave in the order in which their PUBLISHes came [MQTT-4.6.0-2] [MQTT-4.6.0-3].
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from broker.core.outbox import nothing
from broker.core.promise import Promise
from protocol.mqtt import codec
from protocol.mqtt.codec import PUBACK, PUBCOMP, PUBREC
from protocol.mqtt.v5 import codec as codec_5
from protocol.mqtt.v5.reasons import FAILURE

if TYPE_CHECKING:
    from broker.core.publication import Publication
    from broker.core.session import Session
    from broker.links.mqtt.link import MqttLink

HELD_MAX: Final = 1000
"""Acknowledgements that a connection may be owed; beyond them nothing more is read from it."""


class HeldAnswers:
    """Of one connection; what is left when it ends is never sent: its client publishes those messages again."""

    def __init__(self, link: MqttLink) -> None:
        self._link = link
        self._is_paused = False
        self._waiting: deque[tuple[Promise | None, int, int, int, bytes]] = deque()

    def add(
        self, promise: Promise | None, first_byte: int, packet_id: int, code: int, packet: bytes = b""
    ) -> None:
        """`packet` is one that is sent as it is."""
        self._waiting.append((promise, first_byte, packet_id, code, packet))
        if promise is not None:
            promise.on_kept = self._release
        if len(self._waiting) >= HELD_MAX and not self._is_paused:
            self._is_paused = True
            self._link.outbox.pause(True)

    def abandon(self) -> None:
        """The connection has ended."""
        for waiting in self._waiting:
            promise = waiting[0]
            if promise is not None:
                promise.on_kept = nothing
        self._waiting.clear()

    def is_empty(self) -> bool:
        """Whether no answer is held back."""
        return not self._waiting

    def _release(self) -> None:
        link = self._link
        while self._waiting:
            promise, first_byte, packet_id, code, packet = self._waiting[0]
            if promise is not None and not promise.is_kept:
                return
            self._waiting.popleft()
            if packet:
                send_packet(link, packet)
            else:
                send(link, first_byte, packet_id, code if promise is None else max(code, promise.code))
            if self._is_paused and len(self._waiting) <= HELD_MAX >> 1:
                self._is_paused = False
                link.outbox.pause(False)


def answer(
    link: MqttLink, first_byte: int, packet_id: int, code: int, publication: Publication | None
) -> None:
    """Acknowledge a message: at once, or when what was promised of it, and of those before it, is kept."""
    promise = None if publication is None else publication.promise
    held = link.held
    saving = link.engine.saving
    if promise is None and held is None and saving is None:
        send(link, first_byte, packet_id, code)
        return
    if promise is not None and promise.is_kept:
        code = max(code, promise.code)
        promise = None
    session = link.session
    if saving is not None and session is not None:
        promise = saving.promise(session, first_byte != PUBACK, promise)
    elif first_byte == PUBCOMP:
        send(link, first_byte, packet_id, code)
        return
    if promise is None and (held is None or held.is_empty()):
        send(link, first_byte, packet_id, code)
        return
    _held(link).add(promise, first_byte, packet_id, code)


def answer_release(link: MqttLink, session: Session, packet_id: int) -> None:
    """PUBCOMP: at once, or when other nodes can know that this use of the packet id has ended."""
    finish = link.engine.finish
    promise = None if finish is None else finish(session, packet_id)
    if promise is None:
        answer(link, PUBCOMP, packet_id, 0, None)
        return
    saving = link.engine.saving
    if saving is not None:
        promise = saving.promise(session, True, promise)
    _held(link).add(promise, PUBCOMP, packet_id, 0)


def answer_packet(link: MqttLink, session: Session, packet: bytes) -> None:
    """A SUBACK or UNSUBACK: at once, or when the session's subscriptions are saved, where that was promised."""
    saving = link.engine.saving
    keep = link.engine.keep
    promise = None if keep is None else keep(session)
    if saving is not None:
        promise = saving.promise(session, True, promise)
    if promise is None:
        send_packet(link, packet)
        return
    _held(link).add(promise, packet[0], 0, 0, packet)


def _held(link: MqttLink) -> HeldAnswers:
    held = link.held
    if held is None:
        held = link.held = HeldAnswers(link)
    return held


def send_packet(link: MqttLink, packet: bytes) -> None:
    """Send an encoded packet and count it."""
    link.engine.counters.other_packets_sent += 1
    link.outbox.answer(packet)


def send(link: MqttLink, first_byte: int, packet_id: int, code: int) -> None:
    """Send an acknowledgement; in 5.0 a `code` that ends an exchange also frees its packet id."""
    session = link.session
    if session is None:
        return
    ends_exchange = first_byte == PUBREC and code >= FAILURE and session.level == 5  # no PUBREL follows
    if ends_exchange and session.inbound is not None and session.inbound.forget(packet_id):
        link.engine.note_change(session)
    link.engine.counters.other_packets_sent += 1
    if session.level == 5:
        link.outbox.answer(codec_5.encode_ack(first_byte, packet_id, code))
    else:
        link.outbox.answer(codec.encode_ack(first_byte, packet_id))
