"""QoS 2 as receiver: messages that wait for their PUBREL.  Sans-IO.

As Mosquitto, a message is handed on when its PUBREL comes, not when its PUBLISH does.

Invariant: an id is in `_pending` from its first PUBLISH until its PUBREL [MQTT-4.3.3-2].
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.errors import ProtocolViolation
from protocol.mqtt.message import Message, MessageStore

REPEATS_WITHOUT_DUP_MAX: Final = 2
"""As Mosquitto: the third identical PUBLISH without DUP is a client that does not listen to its PUBRECs."""


class Pending:
    """A message of QoS 2 that waits for its PUBREL."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.repeats = 0


class Inbound:
    """The receiving side of QoS 2 for one session (MQTT 3.1.1 §4.3.3).

    Args:
        store: told about every message that is kept.
        messages_max, bytes_max: what may wait at a time, payload bytes; 0 is no limit.
    """

    def __init__(self, store: MessageStore, messages_max: int = 0, bytes_max: int = 0) -> None:
        self._store = store
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pending: dict[int, Pending] = {}
        self.accepted = 0
        """Messages that were kept, ever."""

    def accept(self, packet_id: int, message: Message, dup: bool) -> bool:
        """A QoS 2 PUBLISH came; the caller answers PUBREC.

        The same id with another topic or payload replaces what is pending, as Mosquitto does.

        Returns:
            False if too much waits already: as by Mosquitto, the message is dropped, and acknowledged all the same.

        Raises:
            ProtocolViolation: identical, without DUP, and answered twice already.
        """
        pending = self._pending.get(packet_id)
        if pending is None or not same(pending.message, message):
            if pending is not None:
                self._let_go(packet_id, pending)
            if not self._has_room(message):
                return False
            self._store.hold(message)
            self._bytes += message.size()
            self.accepted += 1
            self._pending[packet_id] = Pending(message)
            return True
        if not dup:
            pending.repeats += 1
            if pending.repeats >= REPEATS_WITHOUT_DUP_MAX:
                raise ProtocolViolation("QoS 2 PUBLISH repeated without DUP", "MQTT-3.3.1-1")
        return True

    def forget(self, packet_id: int) -> bool:
        """A QoS 1 PUBLISH came with this id: as Mosquitto, what waited under it is given up; whether any did."""
        pending = self._pending.get(packet_id)
        if pending is None:
            return False
        self._let_go(packet_id, pending)
        return True

    def release(self, packet_id: int) -> Message | None:
        """PUBREL came: the message to hand on, or None for an unknown id; the caller answers PUBCOMP."""
        pending = self._pending.get(packet_id)
        if pending is None:
            return None
        self._let_go(packet_id, pending)
        return pending.message

    def pending(self) -> list[tuple[int, Message]]:
        """Packet ids and messages that wait for PUBREL."""
        return [(packet_id, pending.message) for packet_id, pending in self._pending.items()]

    def discard(self) -> None:
        """The session ends: keep nothing."""
        for pending in self._pending.values():
            self._store.release(pending.message)
        self._pending = {}
        self._bytes = 0

    def _has_room(self, message: Message) -> bool:
        if self._messages_max != 0 and len(self._pending) >= self._messages_max:
            return False
        # One may be longer than the limit, or it could never come.
        return self._bytes_max == 0 or self._bytes == 0 or self._bytes + message.size() <= self._bytes_max

    def _let_go(self, packet_id: int, pending: Pending) -> None:
        del self._pending[packet_id]
        self._bytes -= pending.message.size()
        self._store.release(pending.message)

    def get(self, packet_id: int) -> Message | None:
        """What waits for the PUBREL of this id."""
        pending = self._pending.get(packet_id)
        return None if pending is None else pending.message

    def has(self, packet_id: int) -> bool:
        """Whether a message with this packet id waits for PUBREL."""
        return packet_id in self._pending

    def count(self) -> int:
        """How many wait for PUBREL."""
        return len(self._pending)


def same(one: Message, other: Message) -> bool:
    """Whether a PUBLISH may be the other one again; as Mosquitto, whether either is to be retained does not matter."""
    return one.topic == other.topic and one.payload == other.payload
