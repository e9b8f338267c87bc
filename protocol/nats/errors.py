"""What can be wrong with what a NATS server says."""

from __future__ import annotations


class NatsProtocolError(Exception):
    """The server sent something that is not the protocol: the connection can't be used any more."""
