"""What a feed adds to a message for receivers that speak MQTT 5.0."""

from __future__ import annotations

from attrs import frozen


@frozen
class Added:
    """Properties of one message, made by a route or by `rowcast.publish()`.

    Args:
        properties: those that every receiver gets, as bytes in their order, without their length.
        expiry_s: seconds from now on, after which nobody gets the message any more.
        expires_unix_s: the moment instead, in seconds since 1970.
    """

    properties: bytes = b""
    expiry_s: float | None = None
    expires_unix_s: float | None = None
