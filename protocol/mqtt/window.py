"""What a client may be owed, and one message that it is: the values that `outbound.py` works on."""

from __future__ import annotations

from typing import Final

from protocol.mqtt.framing import variable_size
from protocol.mqtt.message import Message

SENT: Final = 0
QUEUED: Final = 1
DROPPED: Final = 2
TOO_LARGE: Final = 3
EXPIRED: Final = 4
FORBIDDEN: Final = 5


def publish_size(topic: int, properties: int, payload: int, packet_id: int) -> int:
    """Bytes of a whole PUBLISH of 5.0 with so many of each, or that it would have if MQTT could say so many."""
    remaining = 2 + topic + packet_id + variable_size(properties) + properties + payload
    return 1 + variable_size(remaining) + remaining


class Window:
    """What mosquitto.conf allows one client; shared by all sessions.

    Args:
        inflight_messages: `max_inflight_messages`; 0 is no limit.
        inflight_bytes: `max_inflight_bytes`, of payload; 0 is no limit.
        queued_messages: `max_queued_messages`; 0 is no limit.
        queued_bytes: `max_queued_bytes`, of payload; 0 is no limit.
    """

    def __init__(
        self,
        inflight_messages: int = 20,
        inflight_bytes: int = 0,
        queued_messages: int = 1000,
        queued_bytes: int = 0,
    ) -> None:
        self.inflight_messages = inflight_messages
        self.inflight_bytes = inflight_bytes
        self.queued_messages = queued_messages
        self.queued_bytes = queued_bytes

    def adopt(self, other: Window) -> None:
        """Take over other limits, for all who share these."""
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
