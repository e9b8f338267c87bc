"""One connection to a NATS server: who it is, our subscriptions, requests and their answers.  Sans-IO, no clock.

    AWAITING_INFO ──INFO──▶ AWAITING_PONG ──PONG──▶ OPEN ──-ERR, close──▶ CLOSED
          (hello() is called here, after TLS if there is any)

Invariant: a subscription that is in `Subscriptions` is known to the server from `hello` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from protocol.nats import headers as header_block
from protocol.nats import wire
from protocol.nats.errors import NatsProtocolError

AWAITING_INFO: Final = "awaiting INFO"
AWAITING_PONG: Final = "awaiting PONG"
OPEN: Final = "open"
CLOSED: Final = "closed"

OLDEST: Final = (2, 12)
"""The first server with atomic batches, which is what keeps a publisher's order."""

PAYLOAD_MAX: Final = 1024 * 1024
"""NATS' default."""

Handler = Callable[[wire.Message], None]
Answered = Callable[[wire.Message | None], None]
"""Gets the answer, or None when the connection is lost."""


def call(handler: Handler, message: wire.Message) -> None:
    """Hand a message on, with nothing between."""
    handler(message)


class Subscriptions:
    """Who wants what; outlives connections.

    Args:
        inbox: prefix of the subjects that answers come to, such as `_INBOX.x7`; nobody else may use it.
        hand_on: called with a subscription's handler and a message for it, where something is to stand between them.
    """

    def __init__(self, inbox: bytes, hand_on: Callable[[Handler, wire.Message], None] = call) -> None:
        self.inbox = inbox
        self._hand_on = hand_on
        self._next_sid = 2
        self._handlers: dict[int, tuple[bytes, Handler]] = {}
        self._requests: dict[bytes, Answered] = {}
        self._next_request = 0

    def add(self, subject: bytes, handler: Handler) -> int:
        """Its sid; `wire.subscribe` has to be sent, if there is a connection."""
        sid = self._next_sid
        self._next_sid += 1
        self._handlers[sid] = (subject, handler)
        return sid

    def remove(self, sid: int) -> bool:
        """Forget a subscription; whether it was there."""
        return self._handlers.pop(sid, None) is not None

    def new_inbox(self) -> bytes:
        """A subject that nothing else comes to."""
        self._next_request += 1
        return b"%b.s.%d" % (self.inbox, self._next_request)

    def expect(self, handler: Answered) -> bytes:
        """The reply subject for a request; its first answer goes to the handler, then it is forgotten."""
        self._next_request += 1
        reply = b"%b.r.%d" % (self.inbox, self._next_request)
        self._requests[reply] = handler
        return reply

    def give_up(self, reply: bytes) -> None:
        """An answer is no longer awaited."""
        self._requests.pop(reply, None)

    def lose_requests(self) -> None:
        """The connection is lost: whoever waits for an answer is told that none comes."""
        requests = self._requests
        self._requests = {}
        for handler in requests.values():
            handler(None)

    def open_requests(self) -> int:
        """How many answers are awaited."""
        return len(self._requests)

    def all(self) -> bytes:
        """Every SUB, for a new connection."""
        subs = [wire.subscribe(self.inbox + b".r.*", 1)]
        subs += [wire.subscribe(subject, sid) for sid, (subject, _) in self._handlers.items()]
        return b"".join(subs)

    def take(self, message: wire.Message) -> None:
        """Hand a message to whom it is for; one that nobody waits for any more is dropped."""
        if message.sid == 1:
            handler = self._requests.pop(message.subject, None)
            if handler is not None:
                self._hand_on(handler, message)
            return
        found = self._handlers.get(message.sid)
        if found is not None:
            self._hand_on(found[1], message)


class Connection:
    """One connection's conversation.

    Attributes:
        state: as at the top.
        info: of the server, once it came; newer ones replace it.
        error: the server's last -ERR; `errors`: how many came.
        pings: PINGs that the server has not answered.
        payload_max: bytes of a message that the server takes, headers included.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.state = AWAITING_INFO
        self.info = wire.Info({})
        self.payload_max = 0
        self.error = ""
        self.errors = 0
        self.pings = 0
        self._subscriptions = subscriptions
        self._reader = wire.Reader()

    def hello(self, options: Mapping[str, Any]) -> bytes:
        """CONNECT, every subscription, and the PING whose PONG says that we are in.

        Raises:
            NatsProtocolError: the server is too old, or can't carry headers.
        """
        if not self.info.flag("headers") or self.info.version < OLDEST:
            version = self.info.text("version") or "of an unknown version"
            raise NatsProtocolError(f"the server is {version}; {OLDEST[0]}.{OLDEST[1]} or newer is needed")
        self.state = AWAITING_PONG
        self.pings = 1
        return wire.connect(options) + self._subscriptions.all() + wire.PING

    def ping(self) -> bytes:
        """PING; the server has to answer it."""
        self.pings += 1
        return wire.PING

    def receive(self, data: bytes) -> bytes:
        """Handle what came; what has to be sent for it.

        Raises:
            NatsProtocolError: what came is not the protocol, or the server closes the connection with these words.
        """
        owed = b""
        for event in self._reader.receive(data):
            if isinstance(event, wire.Message):
                self._subscriptions.take(event)
            elif isinstance(event, wire.Ping):
                owed += wire.PONG
            elif isinstance(event, wire.Pong):
                self.pings = max(0, self.pings - 1)
                if self.state == AWAITING_PONG:
                    self.state = OPEN
            elif isinstance(event, wire.Info):
                self.info = event
                self.payload_max = event.number("max_payload", PAYLOAD_MAX)
            else:
                self.error = event.text
                self.errors += 1
                if event.is_fatal:
                    self.state = CLOSED
                    raise NatsProtocolError(f"the server said: {event.text}")
        return owed


def publication(
    subject: bytes, payload: bytes, headers: Mapping[bytes, bytes] | None = None, reply: bytes = b""
) -> bytes:
    """PUB or HPUB."""
    return wire.publish(subject, payload, reply, header_block.encode(headers) if headers else b"")
