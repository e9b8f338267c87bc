"""What a CantonDEX server says: replies, errors, heartbeats, as text.  Source: its WebSocket API document.

Key order and wording are the document's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from protocol.dialects.base import Clock, Refusal, json_text

NAME_CHARACTERS_MAX: Final = 128
"""An account's or a symbol's name."""


class ErrorCode(Enum):
    """The document's table: each code with the message that goes with it."""

    INVALID_REQUEST = "Malformed request message"
    AUTH_FAILED = "Authentication failed"
    SUBSCRIPTION_ERROR = "Failed to subscribe to channel"
    ALREADY_SUBSCRIBED = "Already subscribed to this channel"
    NOT_SUBSCRIBED = "Not subscribed to this channel"
    INVALID_CHANNEL = "Channel does not exist"
    INSUFFICIENT_PERMISSIONS = "No permission to access this channel"
    CONNECTION_CLOSED = "Connection was closed"
    MESSAGE_SIZE_EXCEEDED = "Message too large"
    RATE_LIMITED = "Rate limit exceeded"


REFUSAL_TEXTS: Final = {
    Refusal.INVALID: ("INVALID_TOKEN", "Token is invalid or expired"),
    Refusal.EXPIRED: ("INVALID_TOKEN", "Token is invalid or expired"),
    Refusal.NOT_YET_VALID: ("INVALID_TOKEN", "Token is not valid yet"),
    Refusal.UNAVAILABLE: ("AUTH_FAILED", "Authentication is not available, try again later"),
    Refusal.TOO_MANY_CONNECTIONS: ("RATE_LIMITED", "Too many concurrent connections for this account"),
}

CHANNEL_WORDS: Final[Mapping[str, str]] = {
    "orders": "order updates",
    "trades": "trade updates",
    "market_data": "market data",
    "settlements": "settlement updates",
    "account_notifications": "account notifications",
    "compliance_events": "compliance events",
    "system_health": "system health updates",
}
"""Every channel there is, in the words of a confirmation."""


SYSTEM_HEALTH: Final = "system_health"


def service_degraded(service: str, message: str, utc_s: float) -> str:
    """For readers of `system_health`."""
    return _text(
        type="service_degraded",
        service=service,
        status="degraded",
        message=message,
        timestamp=Clock(0.0).iso(round(utc_s)),
    )


def authenticated(account_id: str) -> str:
    """The answer to a login that was taken."""
    return _text(
        type="auth_response",
        status="authenticated",
        account_id=account_id,
        message="Successfully authenticated",
    )


def not_authenticated(code: str, message: str) -> str:
    """The answer to a login that was refused."""
    return _text(type="auth_response", status="failed", error_code=code, error_message=message)


def subscribed(channel: str, about: Mapping[str, object]) -> str:
    """`about` is what the channel was narrowed to: `account_id`, or `symbols` and `aggregation`."""
    return _text(
        type="subscription_response",
        channel=channel,
        **about,
        status="subscribed",
        message=f"Now receiving {CHANNEL_WORDS[channel]}",
    )


def subscribed_since(channel: str, about: Mapping[str, object], inner: str) -> str:
    """The same for one channel of a request that has `since`, without the last brace: the link says where it is.

    Args:
        inner: its name inside, by which a client knows its messages.
    """
    if "symbols" in about:
        about = {**about, "symbols": [inner.partition("/")[2]]}
    return f'{subscribed(channel, about)[:-1]},"subscription":{json_text(inner)}'


def unsubscribed(channel: str) -> str:
    """The answer to `unsubscribe`."""
    return _text(
        type="unsubscribe_response",
        channel=channel,
        status="unsubscribed",
        message=f"No longer receiving {CHANNEL_WORDS[channel]}",
    )


def ping(timestamp: str) -> str:
    """The server's heartbeat; `timestamp` is ISO 8601."""
    return _text(type="ping", timestamp=timestamp)


def error(code: ErrorCode, timestamp: str, **details: object) -> str:
    """An error with its table's message; `details` are for the client's log."""
    return _text(type="error", code=code.name, message=code.value, details=details, timestamp=timestamp)


def skipped(symbol: str, count: int, timestamp: str) -> str:
    """Our own, after the document's message format: `count` messages were left out for a slow receiver."""
    return _text(
        type="messages_skipped", channel="market_data", symbol=symbol, skipped=count, timestamp=timestamp
    )


def is_name(value: object) -> bool:
    """Whether this can be an account or a symbol: printable text, not too long."""
    return isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS_MAX and value.isprintable()


def names(value: object, count_max: int) -> list[str] | None:
    """A list of 1 to `count_max` names, repetitions left out; None if it is anything else."""
    if not isinstance(value, list) or not 0 < len(value) <= count_max or not all(map(is_name, value)):
        return None
    return list(dict.fromkeys(value))


def _text(**fields: object) -> str:
    return json_text(fields)
