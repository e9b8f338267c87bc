"""What a listener has against a client that a PROXY header speaks for, and whom it takes it for."""

from __future__ import annotations

from broker.config.model import Listener
from protocol.proxy import ProxyHeader


def refusal(header: ProxyHeader, listener: Listener) -> str | None:
    """Why this listener does not take that client, in Mosquitto's words after `rejected, `; None if it does."""
    if listener.proxy_protocol_v2_require_tls and not header.tls:
        return "client did not connect using TLS."
    if listener.proxy_v2_require_certificate and not header.certificate:
        return "client did not provide a certificate."
    return None


def identity_in(header: ProxyHeader, listener: Listener) -> bytes | None:
    """The user name that the proxy read from a verified certificate, where the listener goes by it."""
    if not listener.proxy_v2_use_identity_as_username or not header.certificate:
        return None
    name = header.common_name
    return name if name and b"\0" not in name else None
