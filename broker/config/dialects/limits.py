"""What one connection of a dialect may ask for."""

from __future__ import annotations

from attrs import frozen


@frozen
class DialectLimits:
    """CantonDEX's document states the first; the others are ours."""

    messages_per_s_max: int = 100
    message_bytes_max: int = 64 * 1024
    subscriptions_max: int = 1000


@frozen
class RowcastLimits(DialectLimits):
    """Of the dialect `rowcast`.  A reconnect may bring hundreds of requests."""

    messages_per_s_max: int = 1000
