"""One WebSocket client of a dialect: carries out its commands, delivers what its channels bring.

Never waits: a login that somebody else has to answer lets the connection rest meanwhile.  What a slow client is not
sent follows each channel's policy.

Invariant: every topic in `_subscriptions` is subscribed with the engine, and no other for this receiver.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from broker.config.dialects.kind import DialectKind
from broker.core.outbox import Outbox
from broker.core.parts import Part
from broker.core.publication import Publication
from broker.gateway.channels import BadChannel, topic_of
from broker.gateway.gaps import Channels
from broker.gateway.gateway import Gateway
from broker.links.barrier import barrier
from broker.links.websocket.cursors import Cursors
from broker.links.websocket.following import CONFLATE_ABOVE_BYTES, FollowingLink
from broker.links.websocket.link import LOST
from broker.links.websocket.readers import Readers
from broker.links.websocket.text_frames import frame_of, frames_of
from broker.links.websocket.turns import must_wait, rest_if_due
from broker.links.websocket.words import STATE_FIRST, ChannelWords
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
from protocol.dialects.rowcast import Read
from protocol.websocket import PING_FRAME, CloseCode, text_frame
from protocol.websocket_reader import FrameReader

logger = logging.getLogger("broker.links")

PINGS_UNANSWERED_MAX: Final = 2


class DialectLink(FollowingLink):
    """The broker's end of one connection.

    Args:
        dialect: what it speaks; it decides, this carries out.
        gateway: what all dialect links share.
        outbox: where frames go.
        peer: for log lines.
        message_bytes_max: the longest message that it may send.
        ask: finds out elsewhere whose a token is, and tells `logged_in`.
        readers: what those share who follow from a position.
    """

    def __init__(
        self,
        dialect: Dialect,
        gateway: Gateway,
        outbox: Outbox,
        peer: str,
        message_bytes_max: int,
        ask: Callable[[DialectLink, str], None],
        readers: Readers,
    ) -> None:
        super().__init__(gateway.engine, outbox, FrameReader(message_bytes_max), peer, readers)
        self.dialect = dialect
        self.gateway = gateway
        self.account = ""
        """Whose it is, once logged in."""
        self._ask = ask
        self._subscriptions: dict[bytes, Subscribe] = {}
        self._backlog: Backlog | None = None
        self._cursors: Cursors | None = None
        self._next_ping_at = self.engine.now + dialect.ping_interval_s if dialect.ping_interval_s else NEVER
        self._was_sent_to = False
        outbox.on_drained = self._sent_all

    # --- what the shell and the gateway call -----------------------------------------------------------------

    def open(self) -> None:
        self.gateway.opened(self)
        logger.info("%s client connected from %s", self.dialect.name, self.peer)
        self._carry_out(self.dialect.open(self.engine.now))

    def received(self, data: bytes) -> None:
        if not must_wait(self, self._reader, data):
            super().received(data)

    def text(self, text: str) -> None:
        self._receive(text)

    def binary(self, data: bytes) -> None:
        self._receive(data)

    def _receive(self, message: str | bytes) -> None:
        self.engine.slicing.charged()  # by whoever published before
        commands = self.dialect.receive(message, self.engine.now)
        self._carry_out(commands)
        rest_if_due(self, len(commands), self._reader.has_more())

    def last_words(self, code: int) -> list[bytes]:
        return [text_frame(text.encode()) for text in self.dialect.closing(code, self.engine.now)]

    def logged_in(self, outcome: Identity | Refusal) -> None:
        """What `ask` was asked."""
        if not self.closing:
            with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
                self._logged_in(outcome)
            self.resume()

    def ended(self) -> None:
        why = "connection lost" if self.closing == LOST else f"{self.closing} {self.close_reason}"
        logger.info("%s client of %s disconnected: %s", self.dialect.name, self.peer, why.rstrip())
        for topic in self._subscriptions:
            self._forget(topic)
            self.gateway.unsubscribe(self, topic)
        self._subscriptions.clear()
        self._backlog = None
        if self._cursors is not None:
            self._cursors.end()
            self._cursors = None
        self.gateway.closed(self)

    def subscription_count(self) -> int:
        """How many channels or filters are subscribed."""
        return len(self._subscriptions)

    def is_due(self, now: float) -> bool:
        """Asked about four times a second, of everybody."""
        return self.rests or now >= self._next_ping_at or now >= self.dialect.wake_at

    def go_on(self, now: float) -> None:
        """Read more, if it may send more by now."""
        if self.rests and now >= self.dialect.rests_until:
            self.rests = False
            self.outbox.rest(False)
            self.read_on()

    def tick(self, now: float) -> None:
        """Called when `is_due` says so."""
        self.go_on(now)
        if (now < self.dialect.wake_at and now < self._next_ping_at) or self.closing:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            if now >= self.dialect.wake_at:
                self.dialect.was_sent_to |= self._was_sent_to
                self._was_sent_to = False
                self._carry_out(self.dialect.tick(now))
            if now >= self._next_ping_at:
                self._ping(now)

    def renew(self, kinds: Mapping[str, DialectKind]) -> None:
        """Other settings: what its client may not do any more ends; limits and intervals stay."""
        if self.dialect.name in kinds and not self.closing:
            with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
                self._carry_out(kinds[self.dialect.name].renew(self.dialect, self.engine.now))

    def rows_missing(self, channels: Channels) -> None:
        """A feed says that rows may be missing: who needs every one and was not told in words loads again."""
        pattern = channels.get(self.dialect.name)
        if pattern is None or self.closing:
            return
        names = {one.channel for one in self._subscriptions.values() if one.slow is Slow.CLOSE}
        if self.dialect.tells_of_gaps_on in names:
            return
        if any(map(pattern.fullmatch, names)):
            self.close(CloseCode.ROWS_MISSING, "rows may be missing: load again")

    # --- what the engine calls -----------------------------------------------------------------------------

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        """Send a publication's payload as one text message, encoded once for all clients."""
        if self.closing or (self._read and not retained and self._follows(publication)):
            return
        outbox = self.outbox
        if publication.part is not None and not self._takes(publication.part):
            return
        frame = frame_of(publication)
        if publication.part is not None or self._is_quick():
            outbox.push(frame)
            self._was_sent_to = True
            if outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
                outbox.round.strain(outbox)
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._deliver_slowly(publication, frame)

    def deliver_run(self, run: list[Publication], granted: int) -> None:
        """As `deliver` for each: who follows nothing and is not slow gets their frames in one piece."""
        outbox = self.outbox
        if not self.closing and not self._read and self._backlog is None:
            frames = frames_of(run)
            if outbox.pending_bytes + len(frames) < CONFLATE_ABOVE_BYTES:
                outbox.push(frames)
                self._was_sent_to = True
                return
        super().deliver_run(run, granted)

    def _takes(self, part: Part) -> bool:
        """Whether to send the newest message of a channel with a state as it is; else it is told later."""
        if self._cursors is None:
            self._cursors = Cursors(self)
        is_taken = self._cursors.takes(part, self._is_quick())
        if self._cursors.is_behind():
            self.outbox.more_waits = True
        return is_taken

    def _is_quick(self) -> bool:
        """Whether it is owed little: what the kernel was not offered yet does not count, but is offered first."""
        if self._backlog is not None:
            return False
        outbox = self.outbox
        if outbox.pending_bytes >= CONFLATE_ABOVE_BYTES and not outbox.blocked:
            outbox.flush()
        return outbox.pending_bytes < CONFLATE_ABOVE_BYTES

    def pace(self, now: float) -> None:
        """Send what is due of channels that are read at an interval."""
        cursors = self._cursors
        if cursors is None or self.closing or self.outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            for payload in cursors.due(now):
                self._push_text(payload)

    def _push_text(self, payload: bytes) -> None:
        self.outbox.push(text_frame(payload))
        self._was_sent_to = True

    def _deliver_slowly(self, publication: Publication, frame: bytes) -> None:
        wanted = self._subscriptions.get(publication.topic)
        if wanted is None:
            return
        counters = self.engine.counters
        if wanted.slow is Slow.CONFLATE:
            if self._backlog is None:
                self._backlog = Backlog(self.dialect.conflation, self.outbox.limit_bytes)
            self.outbox.round.strain(self.outbox)
            self.outbox.more_waits = True
            counters.dropped_outbox_full += self._backlog.offer(wanted.channel, publication.payload)
            if self._backlog.has_hole:
                # What changes are left could not be told from all of them: the client has to start anew.
                self.close(CloseCode.POLICY_VIOLATION, "slow receiver")
        elif self.outbox.finds_room(len(frame)):
            self.outbox.push(frame)
            self.outbox.round.strain(self.outbox)
            self._was_sent_to = True
        else:
            self.too_slow()

    def too_slow(self) -> None:
        self._close_as_slow(CloseCode.POLICY_VIOLATION)

    def _sent_all(self) -> None:
        """The client, having been slow, has caught up."""
        cursors = self._cursors
        is_behind = cursors is not None and cursors.is_behind()
        if (self._backlog is None and not is_behind and not self._behind) or self.closing:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            if self._behind:
                self._get_in_line()
            self._send_backlog()
            if is_behind and cursors is not None:
                self._tell_rest(cursors)

    def _tell_rest(self, cursors: Cursors) -> None:
        """Tell what was not sent of channels with a state, as long as it is taken at once."""
        while cursors.is_behind() and self.outbox.pending_bytes < CONFLATE_ABOVE_BYTES:
            for payload in cursors.catch_up():
                self._push_text(payload)
            self.outbox.flush()

    def _send_backlog(self) -> None:
        """Send what waited, as long as it is taken at once."""
        while self._backlog is not None and self.outbox.pending_bytes < CONFLATE_ABOVE_BYTES:
            entry = self._backlog.take()
            if entry is None:
                self._backlog = None
                break
            channel, payload, skipped = entry
            if skipped and (told := self.dialect.skipped(channel, skipped, self.engine.now)) is not None:
                self.outbox.push(text_frame(told.encode()))
            if payload is not None:
                self.outbox.push(text_frame(payload))
            if not self._backlog or self.outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
                self.outbox.flush()

    # --- commands ------------------------------------------------------------------------------------------

    def _carry_out(self, commands: Commands) -> None:
        """Carry out commands in order, up to one that closes; a login is always the last."""
        for command in commands:
            if self.closing:
                return
            if isinstance(command, Login):
                self._log_in(command.token)
            else:
                self._do(command)

    def _log_in(self, token: str) -> None:
        outcome = self.gateway.identify_at_once(self.dialect.name, token, self.dialect.clock)
        if outcome is not None:
            self._logged_in(outcome)
            return
        self.wait()
        self._ask(self, token)

    def _logged_in(self, outcome: Identity | Refusal) -> None:
        dialect = self.dialect
        if isinstance(outcome, Identity) and not self.gateway.occupy(self, dialect.name, outcome.account):
            outcome = Refusal.TOO_MANY_CONNECTIONS
        if isinstance(outcome, Identity):
            self.account = outcome.account
        self._carry_out(dialect.login_ended(outcome, self.engine.now))

    def _do(self, command: Command) -> None:
        if isinstance(command, Send):
            self._send(command.text)
        elif isinstance(command, Subscribe):
            self._subscribe(command)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(command)
        elif isinstance(command, Publish):
            try:
                self.gateway.publish(self.dialect.name, command.channel, command.text.encode())
            except BadChannel as error:  # a token may name anything
                self.close(CloseCode.POLICY_VIOLATION, str(error))
        elif isinstance(command, Close):
            self.close(command.code, command.reason)

    def _send(self, text: str) -> None:
        self.outbox.answer(text_frame(text.encode()))

    def _subscribe(self, wanted: Subscribe) -> None:
        dialect = self.dialect
        try:
            topic = self.gateway.subscribe(self, dialect.name, wanted, dialect.conflation)
        except BadChannel as error:
            self.close(CloseCode.POLICY_VIOLATION, str(error))
            return
        self._subscriptions[topic] = wanted
        if wanted.since is not None and self._resume(topic, wanted, wanted.since):
            return
        source = topic_of(dialect.name, wanted.channel)
        parts = self.gateway.parts(dialect.name, wanted.channel)
        if parts or wanted.every_s > 0:
            if self._cursors is None:
                self._cursors = Cursors(self)
            for payload in self._cursors.join(source, parts, wanted.every_s):
                self._push_text(payload)
        for publication in self.gateway.retained(dialect.name, wanted.channel):
            self.deliver(publication, 0, True)

    def _resume(self, topic: bytes, wanted: Subscribe, since: str) -> bool:
        """Whether the channel is followed from a position; one with a state is not, and its reader is told so."""
        words = ChannelWords(Read("", topic, since), self._history, wanted)
        if self.gateway.parts(self.dialect.name, wanted.channel):
            self.push(words.refusal(STATE_FIRST))
            return False
        self._follow_channel(topic, words, since)
        return True

    def _note_sent(self) -> None:
        self._was_sent_to = True

    def _unsubscribe(self, command: Unsubscribe) -> None:
        for topic, wanted in self._subscriptions.items():
            if wanted.channel == command.channel:
                del self._subscriptions[topic]
                self._forget(topic)
                self.gateway.unsubscribe(self, topic)
                if self._cursors is not None:
                    self._cursors.leave(topic_of(self.dialect.name, wanted.channel))
                break
        if self._backlog is not None:
            self._backlog.forget(command.channel)

    # --- health --------------------------------------------------------------------------------------------

    def _ping(self, now: float) -> None:
        if now - self.last_received > (PINGS_UNANSWERED_MAX + 0.5) * self.dialect.ping_interval_s:
            self.close(CloseCode.GOING_AWAY, "no answer to pings")
            return
        self._next_ping_at = now + self.dialect.ping_interval_s
        self.outbox.push(PING_FRAME)  # behind what it is owed: who takes that, if slowly, gets it in time
