"""What topics begin with that mean something of their own: to MQTT, to Mosquitto, to Rowcast.  Hot: compiled."""

from __future__ import annotations

from typing import Final

SHARE_PREFIX: Final = b"$share/"
"""Filters of shared subscriptions: a group's name follows, and then what it subscribes to.  MQTT 5.0 §4.8.2."""
SYS_PREFIX: Final = b"$SYS/"
"""Topics of what the broker says about itself."""
CONTROL_PREFIX: Final = b"$CONTROL/"
"""Topics by which Mosquitto's plugins are spoken to: nothing that is published there goes anywhere."""
CHANNEL_PREFIX: Final = b"$ws/"
"""Topics of the WebSocket dialects' channels; MQTT clients can name neither them nor a filter for them."""
