"""What a client may be owed, and one message that it is: the values that `outbound.py` works on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.mqtt.codec import encode_remaining_length
from protocol.mqtt.message import Message, MessageStore

SENT: Final = 0
QUEUED: Final = 1
DROPPED: Final = 2
TOO_LARGE: Final = 3
EXPIRED: Final = 4

UNSAVED_MAX: Final = 100_000
"""Client ids remembered as changed between two saves; where there are more, the next one looks at all."""

_PACKET_ID_BYTES: Final[list[bytes]] = [n.to_bytes(2, "big") for n in range(4096)]


def packet_id_bytes(packet_id: int) -> bytes:
    """Two bytes, big-endian; the ids that windows really use come from a table."""
    if packet_id < 4096:
        return _PACKET_ID_BYTES[packet_id]
    return packet_id.to_bytes(2, "big")


def publish_size(topic: int, properties: int, payload: int, packet_id: int) -> int:
    """Bytes of a whole PUBLISH of 5.0 with so many of each."""
    length = 2 + topic + packet_id + len(encode_remaining_length(properties)) + properties + payload
    return 1 + len(encode_remaining_length(length)) + length


class Window:
    """What mosquitto.conf allows one client; shared by all sessions.

    Args:
        inflight_messages: `max_inflight_messages`; 0 is no limit.
        inflight_bytes: `max_inflight_bytes`, of payload; 0 is no limit.
        queued_messages: `max_queued_messages`; 0 is no limit.
        queued_bytes: `max_queued_bytes`, of payload; 0 is no limit.
        store: told about every message that is kept.
    """

    def __init__(
        self,
        inflight_messages: int = 20,
        inflight_bytes: int = 0,
        queued_messages: int = 1000,
        queued_bytes: int = 0,
        store: MessageStore | None = None,
    ) -> None:
        self.inflight_messages = inflight_messages
        self.inflight_bytes = inflight_bytes
        self.queued_messages = queued_messages
        self.queued_bytes = queued_bytes
        self.store = MessageStore() if store is None else store
        self.clock: Callable[[], float] | None = None
        """The broker's, for messages that expire; without one none does."""
        self.on_discarded: Callable[[int], None] | None = None
        """Told of what a queue lost: `TOO_LARGE` for its client, or `EXPIRED`."""
        self.changes = 0
        """Counts up with every change of what a durable client is owed, so that a saver can tell."""
        self.last_position = 0
        """`Queued.position` of the message that was queued last."""
        self.unsaved: set[bytes] | None = None
        """Client ids of the durable sessions that changed since a snapshot began; None where nobody remembers."""

    def now(self) -> float:
        """The owner's clock in seconds; 0.0 without one."""
        clock = self.clock
        return 0.0 if clock is None else clock()

    def discarded(self, why: int) -> None:
        """Tell the owner that a message is given up, and why."""
        on_discarded = self.on_discarded
        if on_discarded is not None:
            on_discarded(why)

    def adopt(self, other: Window) -> None:
        """Take over other limits; what is kept is still kept in the same store."""
        self.inflight_messages = other.inflight_messages
        self.inflight_bytes = other.inflight_bytes
        self.queued_messages = other.queued_messages
        self.queued_bytes = other.queued_bytes


class InFlight:
    """One message between its first PUBLISH and its last acknowledgement."""

    def __init__(
        self, packet_id: int, message: Message, qos: int, retain: bool, state: int, ids: bytes = b""
    ) -> None:
        self.packet_id = packet_id
        self.ids = ids
        """The receiver's subscription identifiers, as properties of 5.0."""
        self.message = message
        self.qos = qos
        self.retain = retain
        self.state = state


class Queued:
    """One message that waits for the window, or for the client to come back.  It never changes.

    `ids_before`: packet ids that messages before it took with them when they were dropped from the queue.
    `position`: its place among all that any session has queued, rising from 1 on; 0 outside of a queue.
    """

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool,
        ids_before: int = 0,
        ids: bytes = b"",
        position: int = 0,
    ) -> None:
        self.message = message
        self.ids = ids
        self.qos = qos
        self.retain = retain
        self.ids_before = ids_before
        self.position = position
