"""What a line of the log is about, for programs that read it: `log_format = "json"`.

The words of a line stay as they are, many of them Mosquitto's.  Here their templates have names, and their arguments,
in order; a test holds that every template is one that the code logs.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Final

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "rowcast version %s starting": ("starting", "version"),
    "rowcast version %s running": ("running", "version"),
    "rowcast version %s terminating": ("terminating", "version"),
    "Config loaded from %s.": ("config_loaded", "file"),
    "Reloading config.": ("config_reloaded",),
    "The configuration read before stays in force.": ("config_refused",),
    "Opening %s listen socket on port %d.": ("listening", "family", "port"),
    "Opening unix listen socket on path %s.": ("listening", "path"),
    "New connection from %s on port %d.": ("connection_opened", "peer", "port"),
    "New client connected from %s as %s (p%d, c%d, k%d%s).": (
        "client_connected", "peer", "client", "protocol", "clean", "keep_alive_s", "",
    ),
    "Client %s [%s] %s": ("client_disconnected", "client", "peer", "reason"),
    "Client %s already connected, closing old connection.": ("client_taken_over", "client"),
    "Client %s disconnected by an administrator.": ("client_kicked", "client"),
    "Client connection from %s refused: %s.": ("client_refused", "peer", "reason"),
    "Client connection from %s failed: %s.": ("connection_failed", "peer", "reason"),
    "Client connection from %s denied: max_connections exceeded.": ("client_refused", "peer"),
    "Connection from %s closed: %s.": ("connection_closed", "peer", "reason"),
    "Connection from %s rejected, %s": ("connection_rejected", "peer", "reason"),
    "Expiring client %s due to timeout.": ("client_expired", "client"),
    "Outgoing messages are being dropped for client %s.": ("messages_dropped", "client"),
    "%s reads too slowly: %d bytes owed": ("messages_dropped", "peer", "owed_bytes"),
    "%s client connected from %s": ("client_connected", "dialect", "peer"),
    "%s client of %s disconnected: %s": ("client_disconnected", "dialect", "peer", "reason"),
    "WebSocket handshake of %s refused: %s": ("handshake_refused", "peer", "reason"),
    "a bug in Rowcast, met by what came from %s: %s%s": ("bug", "peer", "reason", ""),
    "Saving in-memory database to %s.": ("saving", "file"),
    "Error saving to %s: %s. What was saved before is kept.": ("save_failed", "file", "reason"),
    "Restored %d sessions and %d retained messages from %s.": ("restored", "sessions", "retained", "file"),
    "feed %s: live on %s": ("feed_live", "feed", "source"),
    "feed %s: live on the slot %s": ("feed_live", "feed", "slot"),
    "feed %s: live on the outbox": ("feed_live", "feed"),
    "feed %s: %s; trying again in %.1f s": ("feed_waiting", "feed", "reason", "again_in_s"),
    "feed %s: gap: %s; rows committed between %s and %s may be missing": (
        "feed_gap", "feed", "reason", "position", "until",
    ),
    "feed %s: rows notified while %s are lost: %s (a [[recover]] prevents it)": (
        "feed_gap", "feed", "reason", "kinds",
    ),
    "feed %s: %s: %s%s": ("feed_rows", "feed", "reason", "place", ""),
    "feed %s: %s": ("feed_trouble", "feed", "reason"),
    "feed %s: over: %s": ("feed_trouble_over", "feed", "trouble"),
    "feed %s: %d bytes of WAL wait for confirmation, more than lag_alarm_bytes = %d": (
        "feed_lag", "feed", "lag_bytes", "lag_alarm_bytes",
    ),
}  # fmt: skip
"""By template: the event's name, then a name for each argument; "" is left out."""

UNNAMED: Final = "log"
UNNAMED_FEED: Final = "feed"


def event_of(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """The event's name and what it names."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    names = EVENTS.get(record.msg) if isinstance(record.msg, str) else None
    if names is None:
        if str(record.msg).startswith("feed %s: ") and arguments:
            return UNNAMED_FEED, {"feed": arguments[0]}
        return UNNAMED, {}
    return names[0], {name: value for name, value in zip(names[1:], arguments, strict=False) if name}


def json_line(record: logging.LogRecord, severity: str, traceback: str) -> str:
    """One JSON object without line breaks: `time`, `severity`, `event`, `message`, and what the event names.

    Args:
        severity: Mosquitto's name of the level.
        traceback: of a bug; "" if there is none.
    """
    event, named = event_of(record)
    millisecond = int(record.created * 1000) % 1000
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    entry = {
        "time": f"{second}.{millisecond:03d}Z",
        "severity": severity,
        "event": event,
        "message": record.getMessage(),
        **{
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in named.items()
        },
    }
    if traceback:
        entry["traceback"] = traceback
    return json.dumps(entry, ensure_ascii=False)
