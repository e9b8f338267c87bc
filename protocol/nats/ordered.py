"""A stream from a place on, in order and whole, over a consumer that may vanish at any time.  Sans-IO, no clock.

Invariant: `take` says a message is next exactly once, and in the order of the stream's sequences; what it can't be
sure of makes a new consumer begin behind `last`.
"""

from __future__ import annotations

from typing import Final

from protocol.nats import wire
from protocol.nats.delivery import DIGITS_MAX, Delivered
from protocol.nats.errors import NatsProtocolError

HEARTBEAT_S: Final = 1.0
SILENCES_MAX: Final = 2.5
"""So many heartbeats without a word mean that the consumer is gone."""

NEXT: Final = 0
"""The message is the next of the stream."""
NOTHING: Final = 1
"""A heartbeat, or of a consumer that was given up."""
ANSWER: Final = 2
"""Flow control: `reply` has to be published."""
LOST: Final = 3
"""Something is missing: begin again behind `last`."""

NUMBERS: Final = 4
"""Of a message in its reply subject: its place in the stream and the consumer, when it was stored, what is pending."""

NO_PREFIX: Final = b"-"
"""Nothing begins like this."""


class OrderedReader:
    """What one reader knows.

    Args:
        start: the first sequence that is wanted.

    Attributes:
        last: the sequence in the stream of the last message taken, or before the first.
        stored: when that was stored, in Unix nanoseconds as the server says it; b"" before the first.
        reply: where flow control wants its answer.
        consumer_last: of the same message, its sequence among what this consumer has sent; 0 before the first.
        pending: messages behind the last one taken, as the server said.
    """

    def __init__(self, start: int) -> None:
        self.last = start - 1
        self.stored = b""
        self.reply = b""
        self.pending = 0
        self.consumer_last = 0
        self._sid = 0
        self._prefix = NO_PREFIX
        """How the reply subjects of this consumer's messages begin, before their numbers."""

    def begun(self, sid: int) -> None:
        """A new consumer sends to this subscription, from behind `last`."""
        self._sid = sid
        self._prefix = NO_PREFIX
        self.consumer_last = 0

    def take(self, message: wire.Message) -> int:
        """What to do with a message; NEXT, NOTHING, ANSWER or LOST.

        Raises:
            NatsProtocolError: it is nothing that a consumer sends.
        """
        if message.sid != self._sid:
            return NOTHING
        status = message.status
        if status == 100:
            return self._told(message)
        if status:
            return LOST  # 409: the consumer was deleted, or its server is stopping
        reply = message.reply
        rest = reply[len(self._prefix) :].split(b".", 4) if reply.startswith(self._prefix) else []
        if len(rest) >= NUMBERS and _are_numbers(rest):
            return self._next(int(rest[0]), int(rest[1]), rest[2], int(rest[3]))
        about = Delivered(reply)
        self._prefix = about.prefix
        return self._next(about.stream_sequence, about.consumer_sequence, about.stored, about.pending)

    def _next(self, stream_sequence: int, consumer_sequence: int, stored: bytes, pending: int) -> int:
        if consumer_sequence <= self.consumer_last or stream_sequence <= self.last:
            return NOTHING
        if consumer_sequence != self.consumer_last + 1:
            return LOST
        self.consumer_last = consumer_sequence
        self.last = stream_sequence
        self.stored = stored
        self.pending = pending
        return NEXT

    def _told(self, message: wire.Message) -> int:
        headers = message.headers
        if headers.description.startswith(b"FlowControl"):
            self.reply = message.reply
            return ANSWER
        sent = headers.number(b"Nats-Last-Consumer")
        if sent is not None and sent > self.consumer_last:
            return LOST
        if sent is not None and sent < self.consumer_last:
            raise NatsProtocolError("a heartbeat of an older consumer")
        stalled = headers.get(b"Nats-Consumer-Stalled")
        if stalled:
            self.reply = stalled
            return ANSWER
        self.pending = 0
        return NOTHING


def _are_numbers(words: list[bytes]) -> bool:
    for place in range(NUMBERS):
        word = words[place]
        if len(word) > DIGITS_MAX or not word.isdigit():
            return False
    return True
