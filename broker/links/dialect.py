"""One WebSocket client of a dialect: carries out its commands, delivers what its channels bring.

Never waits, except for a login.  What a slow client is not sent follows each channel's policy.

Invariant: every topic in `_subscriptions` is subscribed with the engine, and no other for this receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import BadChannel
from broker.gateway.gateway import Gateway
from broker.links.barrier import barrier
from broker.links.websocket_stream import WebSocketStream
from protocol.dialects.base import (
    NEVER,
    Close,
    Command,
    Commands,
    Dialect,
    Identity,
    Login,
    Publish,
    Refusal,
    Send,
    Slow,
    Subscribe,
    Unsubscribe,
)
from protocol.dialects.conflation import Backlog
from protocol.websocket import PING_FRAME, CloseCode, text_frame

logger = logging.getLogger("broker.links")

FRAME: Final = "websocket"
"""The key of a publication's frame; all dialects send its payload as one text message."""

CONFLATE_ABOVE_BYTES: Final = 64 * 1024
"""Market data waits, newest per key, once a client is owed this much: late data is worth less than new data."""

PINGS_UNANSWERED_MAX: Final = 2

_OUR_FAULT_FINDING: Final = (
    CloseCode.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA,
    CloseCode.POLICY_VIOLATION,
    CloseCode.MESSAGE_TOO_BIG,
)
"""Codes with which the stream closes on its own, without the link having asked for it."""


class DialectLink(Receiver):
    """The broker's end of one connection.

    Args:
        dialect: what it speaks; it decides, this carries out.
        gateway: what all dialect links share.
        stream: where frames go.
        peer: for log lines.
    """

    def __init__(self, dialect: Dialect, gateway: Gateway, stream: WebSocketStream, peer: str) -> None:
        super().__init__(plain=False)
        self.dialect = dialect
        self.gateway = gateway
        self.stream = stream
        self.outbox = stream.outbox
        self.peer = peer
        self.closing: Close | None = None
        self._on_close: Callable[[], None] | None = None
        self._subscriptions: dict[bytes, Subscribe] = {}
        self._backlog: Backlog | None = None
        interval = dialect.ping_interval_s
        self._next_ping_at = trio.current_time() + interval if interval else NEVER
        stream.on_sent_all = self._sent_all
        stream.before_close = self._last_words

    # --- what the shell calls ------------------------------------------------------------------------------

    async def open(self, on_close: Callable[[], None]) -> None:
        """The handshake is complete.  `on_close` is called when this side wants to close."""
        self._on_close = on_close
        self.gateway.opened(self)
        await self._carry_out(self.dialect.open(trio.current_time()))

    async def received(self, message: str | bytes) -> None:
        """A whole message came."""
        self.stream.message_finished()
        if self.closing is None:
            await self._carry_out(self.dialect.receive(message, trio.current_time()))

    def ended(self) -> None:
        """The connection is gone, whoever closed it."""
        for topic in self._subscriptions:
            self.gateway.unsubscribe(self, topic)
        self._subscriptions.clear()
        self._backlog = None
        self.gateway.closed(self)

    def tick(self, now: float) -> None:
        """Called about four times a second."""
        if self.closing is None and (now >= self.dialect.wake_at or now >= self._next_ping_at):
            with self._own_bugs_only():
                if now >= self.dialect.wake_at:
                    self._carry_out_now(self.dialect.tick(now))
                if now >= self._next_ping_at:
                    self._ping(now)

    def close(self, code: int, reason: str) -> None:
        """Close with this reason, once what is owed already has been sent."""
        if self.closing is None:
            self.closing = Close(code, reason)
            if self._on_close is not None:
                self._on_close()

    # --- what the engine calls -----------------------------------------------------------------------------

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        """Send a publication's payload as one text message, encoded once for all clients."""
        if self.closing is not None:
            return
        frame = publication.frame(FRAME)
        if frame is None:
            frame = text_frame(publication.payload)
            publication.keep_frame(FRAME, frame)
        outbox = self.outbox
        if self._backlog is None and outbox.pending_bytes < CONFLATE_ABOVE_BYTES:
            outbox.push(frame)
            self.dialect.was_sent_to = True
            return
        with self._own_bugs_only():
            self._deliver_slowly(publication, frame)

    def _deliver_slowly(self, publication: Publication, frame: bytes) -> None:
        wanted = self._subscriptions.get(publication.topic)
        if wanted is None:
            return
        counters = self.gateway.engine.counters
        if wanted.slow is Slow.CONFLATE:
            if self._backlog is None:
                self._backlog = Backlog(self.dialect.conflation, self.outbox.limit_bytes)
            counters.dropped_outbox_full += self._backlog.offer(wanted.channel, publication.payload)
        elif self.outbox.has_room(len(frame)):
            self.outbox.push(frame)
            self.dialect.was_sent_to = True
        else:
            counters.dropped_outbox_full += 1
            logger.info("%s reads too slowly: %d bytes owed", self.peer, self.outbox.pending_bytes)
            self.close(CloseCode.POLICY_VIOLATION, "slow receiver")

    def _sent_all(self) -> None:
        """The client, having been slow, has caught up."""
        if self._backlog is not None:
            with self._own_bugs_only():
                self._send_backlog()

    def _send_backlog(self) -> None:
        """Send what waited, as long as it is taken at once."""
        while self._backlog is not None and self.outbox.pending_bytes < CONFLATE_ABOVE_BYTES:
            entry = self._backlog.take()
            if entry is None:
                self._backlog = None
                break
            channel, payload, skipped = entry
            if skipped:
                told = self.dialect.skipped(channel, skipped, trio.current_time())
                if told is not None:
                    self.outbox.push(text_frame(told.encode()))
            if payload is not None:
                self.outbox.push(text_frame(payload))
            if not self._backlog or self.outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
                self.outbox.flush()

    # --- commands ------------------------------------------------------------------------------------------

    async def _carry_out(self, commands: Commands) -> None:
        login = self._carry_out_now(commands)
        while login is not None:
            dialect = self.dialect
            outcome = await self.gateway.identify(dialect.name, login.token, dialect.clock)
            if isinstance(outcome, Identity) and not self.gateway.occupy(self, dialect.name, outcome.account):
                outcome = Refusal.TOO_MANY_CONNECTIONS
            login = self._carry_out_now(dialect.login_ended(outcome, trio.current_time()))

    def _carry_out_now(self, commands: Commands) -> Login | None:
        """Carry out commands in order; a login, which is always the last, is handed back."""
        login = None
        for command in commands:
            assert login is None, "nothing may follow a login"
            if isinstance(command, Login):
                login = command
            else:
                self._do(command)
        self.gateway.engine.flush()
        return login

    def _do(self, command: Command) -> None:
        if isinstance(command, Send):
            self._send(command.text)
        elif isinstance(command, Subscribe):
            self._subscribe(command)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(command)
        elif isinstance(command, Publish):
            self.gateway.publish(self.dialect.name, command.channel, command.text.encode())
        elif isinstance(command, Close):
            self.close(command.code, command.reason)

    def _send(self, text: str) -> None:
        frame = text_frame(text.encode())
        if self.outbox.has_room(len(frame)):
            self.outbox.push(frame)
        else:
            self.close(CloseCode.POLICY_VIOLATION, "slow receiver")

    def _subscribe(self, wanted: Subscribe) -> None:
        dialect = self.dialect
        try:
            topic = self.gateway.subscribe(self, dialect.name, wanted, dialect.conflation)
        except BadChannel as error:
            self.close(CloseCode.POLICY_VIOLATION, str(error))
            return
        self._subscriptions[topic] = wanted
        for publication in self.gateway.retained(dialect.name, wanted.channel):
            self.deliver(publication, 0, True)

    def _unsubscribe(self, command: Unsubscribe) -> None:
        for topic, wanted in self._subscriptions.items():
            if wanted.channel == command.channel:
                del self._subscriptions[topic]
                self.gateway.unsubscribe(self, topic)
                break
        if self._backlog is not None:
            self._backlog.forget(command.channel)

    @contextmanager
    def _own_bugs_only(self) -> Iterator[None]:
        """A bug of ours here ends this connection, and is no matter of whoever publishes or ticks."""
        is_sound = False
        with barrier(self.gateway.engine.counters, self.peer):
            yield
            is_sound = True
        if not is_sound:
            self.close(CloseCode.INTERNAL_ERROR, "internal error")

    # --- health --------------------------------------------------------------------------------------------

    def _ping(self, now: float) -> None:
        interval = self.dialect.ping_interval_s
        if now - self.stream.received_at > (PINGS_UNANSWERED_MAX + 0.5) * interval:
            self.close(CloseCode.GOING_AWAY, "no answer to pings")
            return
        self._next_ping_at = now + interval
        if not self.outbox.pending_bytes:
            self.outbox.push(PING_FRAME)

    def _last_words(self, code: int) -> Sequence[bytes]:
        if self.closing is None and code not in _OUR_FAULT_FINDING:
            return ()  # the client closes
        texts = self.dialect.closing(code, trio.current_time())
        return [text_frame(text.encode()) for text in texts]
