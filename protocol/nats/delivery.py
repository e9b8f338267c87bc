"""What the reply subject of a consumer's message says of it: `$JS.ACK.STREAM.CONSUMER.…`.

Hot: compiled, and read once for each message of a log.

Source: docs.nats.io, "JetStream wire API"; ADR-15.
"""

from __future__ import annotations

from typing import Final

from protocol.nats.errors import NatsProtocolError
from protocol.nats.jetstream import NANOSECONDS

TOKENS_MIN: Final = 9
DIGITS_MAX: Final = 19
WITH_DOMAIN_MIN: Final = 11
"""Newer servers have the domain and the account behind `ACK`."""


class Delivered:
    """The numbers.

    Args:
        reply: the subject.

    Attributes:
        stream_sequence, consumer_sequence: its place in the stream, and among what the consumer has sent.
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
        for token in tokens[at : at + 5]:
            if len(token) > DIGITS_MAX or not token.isdigit():
                raise _no_reply(reply)
        # Not all are wanted of every message.
        self._tokens = tokens
        self._at = at
        self.stream_sequence = int(tokens[at + 1])
        self.consumer_sequence = int(tokens[at + 2])
        self.pending = int(tokens[at + 4])

    @property
    def prefix(self) -> bytes:
        """What stands before the numbers that differ from message to message of one consumer."""
        return b".".join(self._tokens[: self._at + 1]) + b"."

    @property
    def deliveries(self) -> int:
        """How often this message has been delivered, this time included."""
        return int(self._tokens[self._at])

    @property
    def stored(self) -> bytes:
        """When the stream took it, in Unix nanoseconds, as it stands there."""
        return self._tokens[self._at + 3]

    @property
    def stored_at(self) -> float:
        """The same in seconds."""
        return int(self.stored) / NANOSECONDS


def _no_reply(reply: bytes) -> NatsProtocolError:
    return NatsProtocolError(f"no reply subject of a consumer: {reply[:80]!r}")
