"""How links speak in the log."""

from __future__ import annotations

from typing import Final

NOTICE: Final = 25
"""Mosquitto's level between information and warning: clients that come and go."""

SUBSCRIBE: Final = 16
UNSUBSCRIBE: Final = 17
"""Levels of their own, as mosquitto.conf's log_type has them."""


def printable(text: bytes) -> str:
    """A client id, user name or topic for a log line."""
    return text.decode(errors="replace")
