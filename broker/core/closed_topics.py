"""Topics that no client may publish to, whatever its rights.  Hot: compiled."""

from __future__ import annotations

from typing import Final

from protocol.mqtt.reserved import CHANNEL_PREFIX, CONTROL_PREFIX
from protocol.mqtt.topics import SEPARATOR
from protocol.mqtt.v5.reasons import NOT_AUTHORIZED

DROPPED_SILENTLY: Final = 1
"""Not a reason code: as by Mosquitto, the client is told that all is well."""
_BRIDGE_STATE_HEAD: Final = b"$SYS/broker/connection/"
_BRIDGE_STATE_TAIL: Final = b"/state"


def closed_to_clients(topic: bytes) -> int:
    """Why no client may publish to a topic, as a reason code; 0 if it may.

    As in Mosquitto: to whatever begins with `$SYS`, but what a bridge says of itself,
    `$SYS/broker/connection/ID/state`, retained and as a will; to what begins with `$share`.
    """
    if topic.startswith(CONTROL_PREFIX):
        return DROPPED_SILENTLY
    if topic.startswith((CHANNEL_PREFIX, b"$share")):
        return NOT_AUTHORIZED
    if not topic.startswith(b"$SYS"):
        return 0
    is_state = topic.startswith(_BRIDGE_STATE_HEAD) and topic.endswith(_BRIDGE_STATE_TAIL)
    return 0 if is_state and topic.count(SEPARATOR) == 4 else NOT_AUTHORIZED
