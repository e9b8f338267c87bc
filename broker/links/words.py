"""How links speak in the log."""

from __future__ import annotations

from typing import Final

from broker.core.ending import NOTICE as NOTICE

SUBSCRIBE: Final = 16
UNSUBSCRIBE: Final = 17
"""Levels of their own, as mosquitto.conf's log_type has them."""


def printable(text: bytes) -> str:
    """A client id, user name or topic for a log line."""
    return text.decode(errors="replace")
