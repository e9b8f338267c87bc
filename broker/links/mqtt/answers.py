"""Acknowledgements that wait for a promise, and those that came after them.

Invariant: PUBACKs and PUBRECs leave in the order in which their PUBLISHes came [MQTT-4.6.0-2] [MQTT-4.6.0-3].
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from broker.core.promise import Promise
from protocol.mqtt import codec
from protocol.mqtt.codec import PUBREC
from protocol.mqtt.v5 import codec as codec_5
from protocol.mqtt.v5.reasons import FAILURE

if TYPE_CHECKING:
    from broker.core.publication import Publication
    from broker.links.mqtt.link import MqttLink


class HeldAnswers:
    """Of one connection; what is left when it ends is never sent: its client publishes those messages again."""

    def __init__(self, link: MqttLink) -> None:
        self._link = link
        self._waiting: deque[tuple[Promise | None, int, int, int]] = deque()

    def add(self, promise: Promise | None, first_byte: int, packet_id: int, code: int) -> None:
        self._waiting.append((promise, first_byte, packet_id, code))
        if promise is not None:
            promise.on_kept = self._release

    def is_empty(self) -> bool:
        return not self._waiting

    def _release(self) -> None:
        link = self._link
        while self._waiting:
            promise, first_byte, packet_id, code = self._waiting[0]
            if promise is not None and not promise.is_kept:
                return
            self._waiting.popleft()
            send(link, first_byte, packet_id, code if promise is None else max(code, promise.code))


def answer(link: MqttLink, first_byte: int, packet_id: int, code: int, publication: Publication) -> None:
    """Acknowledge a message: at once, or when what was promised of it, and of those before it, is kept."""
    promise = publication.promise
    held = link.held
    if promise is not None and promise.is_kept:
        code = max(code, promise.code)
        promise = None
    if promise is None and (held is None or held.is_empty()):
        send(link, first_byte, packet_id, code)
        return
    if held is None:
        held = link.held = HeldAnswers(link)
    held.add(promise, first_byte, packet_id, code)


def send(link: MqttLink, first_byte: int, packet_id: int, code: int) -> None:
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
