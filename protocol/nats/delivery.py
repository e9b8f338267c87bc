"""What the reply subject of a consumer's message says of it: `$JS.ACK.STREAM.CONSUMER.…`.

Hot: compiled, and read once for each message of a log.

Source: docs.nats.io, "JetStream wire API"; ADR-15.
"""

from __future__ import annotations

from typing import Final

from protocol.nats.errors import NatsProtocolError

NANOSECONDS: Final = 1_000_000_000
TOKENS_MIN: Final = 9
WITH_DOMAIN_MIN: Final = 11
"""Newer servers have the domain and the account behind `ACK`."""


class Delivered:
    """The numbers.

    Args:
        reply: the subject.

    Attributes:
        deliveries: how often this message has been delivered, this time included.
        stream_sequence, consumer_sequence: its place in the stream, and among what the consumer has sent.
        stored_ns: when the stream took it, in Unix nanoseconds.
        pending: messages that the consumer has still to send.

    Raises:
        NatsProtocolError: it is none.
    """

    def __init__(self, reply: bytes) -> None:
        tokens = reply.split(b".")
        count = len(tokens)
        if count < TOKENS_MIN or tokens[0] != b"$JS" or tokens[1] != b"ACK":
            raise _no_reply(reply)
        at = 6 if count >= WITH_DOMAIN_MIN else 4
        try:
            self.deliveries = int(tokens[at])
            self.stream_sequence = int(tokens[at + 1])
            self.consumer_sequence = int(tokens[at + 2])
            self.stored_ns = int(tokens[at + 3])
            self.pending = int(tokens[at + 4])
        except ValueError:
            raise _no_reply(reply) from None
        if self.stream_sequence < 0 or self.consumer_sequence < 0 or self.pending < 0:
            raise _no_reply(reply)

    @property
    def stored_at(self) -> float:
        """The same in seconds."""
        return self.stored_ns / NANOSECONDS


def _no_reply(reply: bytes) -> NatsProtocolError:
    return NatsProtocolError(f"no reply subject of a consumer: {reply[:80]!r}")
