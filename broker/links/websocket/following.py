"""A link with subscriptions that follow from a position: what each has yet to get is sent in turns, then it is live.

A reader that is too slow for its outbox is not closed while a ring keeps what it has yet to get: its subscription
falls behind and catches up, at the pace at which it reads.

Invariant: each filter in `_read` is subscribed with the engine, and `_behind` counts those that are catching up.
"""

from __future__ import annotations

import logging
from typing import Final

from broker.core.engine import Engine
from broker.core.history import Missed
from broker.core.limits import REPLAY_PENDING_BYTES_MAX
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.row_source import SourceError, TooMuch
from broker.links.barrier import barrier
from broker.links.websocket.catching_up import Lost, StateWalk, Subscription
from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.readers import Readers
from broker.links.websocket.words import ChannelWords, Words
from protocol.websocket import CloseCode
from protocol.websocket_reader import FrameReader

logger = logging.getLogger("broker.links")

CONFLATE_ABOVE_BYTES: Final = 64 * 1024
"""Market data waits, newest per key, once a client is owed this much: late data is worth less than new data."""

PIECES_OF_OTHERS_MAX: Final = 16
"""So many pieces of a history are looked through in one go, for a subscription that finds nothing in them."""


class FollowingLink(WebSocketLink):
    """The broker's end of one connection.  Args: as for any link; `readers` is shared by all of this kind."""

    def __init__(
        self, engine: Engine, outbox: Outbox, reader: FrameReader, peer: str, readers: Readers
    ) -> None:
        super().__init__(engine, outbox, reader, peer)
        self._readers = readers
        self._history = readers.history
        self._read: dict[bytes, Subscription] = {}
        self._behind = 0
        self._in_line = False

    def _close_as_slow(self, code: int) -> None:
        self.engine.counters.dropped_outbox_full += 1
        logger.info("%s reads too slowly: %d bytes owed", self.peer, self.outbox.pending_bytes)
        self.close(code, "slow receiver")

    # --- for a subclass ------------------------------------------------------------------------------------

    def too_slow(self) -> None:
        """It does not read what it is owed: close it."""
        raise NotImplementedError

    def too_much(self, one: Subscription, error: TooMuch) -> None:
        """The state that was asked for is larger than what is read."""
        raise NotImplementedError

    def _note_sent(self) -> None:
        """A message was sent, or several."""
        raise NotImplementedError

    def _follow(self, words: Words, missed: Missed, state: StateWalk | None) -> Subscription:
        """A subscription that gets what was missed, or the state, and what its filter matches from this moment on."""
        ring_backed = self._history.keeps(words.read.topic_filter)
        one = Subscription(words, self._history, state, missed, ring_backed, self.outbox.limit_bytes)
        self._read[one.topic_filter] = one
        self._behind += 1
        return one

    def _begin(self, one: Subscription) -> None:
        """It is subscribed, in the same step: answer, now or when what has to be waited for is here."""
        read, positions = one.read, self._history.positions
        if one.is_waiting:
            self._readers.reread(self, one)
            return
        if read.state and one.has_state and self._wait_for_tables(one):
            return
        if one.ring_backed and read.since is not None and positions.is_ahead(read.since):
            assert positions.when_current is not None
            one.is_waiting = True
            positions.when_current(lambda: self._arrived(one))
            return
        if one.missed.pieces or self._in_line or self.outbox.pending_bytes > REPLAY_PENDING_BYTES_MAX:
            # The answer comes when what is owed has left, and those who asked before for much have had their turn.
            self._get_in_line()
        else:
            self._advance(one)
            if one.catching_up and not self.closing:
                self._get_in_line()

    def _forget(self, topic_filter: bytes) -> bool:
        """Follow this one no more; False if it was not followed.  Whoever asks unsubscribes it."""
        one = self._read.pop(topic_filter, None)
        if one is None:
            return False
        one.is_over = True
        if one.catching_up:
            self._behind -= 1
        return True

    def _fall_behind(self, one: Subscription, publication: Publication) -> None:
        """There is no room for this live message, which a ring keeps."""
        frames = one.fall_behind(publication)
        self._behind += 1
        if frames:
            self.push(frames)
        self.outbox.more_waits = True

    def _state_of(self, words: Words, number: int = -1) -> StateWalk:
        """As it is now, or as it was at an earlier number."""
        here = self._history.positions.number
        return StateWalk(self.engine.retained, words, here if number < 0 else number)

    # --- channels of a document's dialect ------------------------------------------------------------------

    def _follow_channel(self, topic: bytes, words: ChannelWords, since: str) -> None:
        """Answer, and send what was missed of a channel, or what it retains, each message by itself."""
        missed = self._history.missed(topic, since)
        is_lost = not missed.recovered and missed.beyond is None
        self._begin(self._follow(words, missed, self._state_of(words) if is_lost or since == "now" else None))

    def _follows(self, publication: Publication) -> bool:
        """Whether its channel is followed from a position; then it has been sent, or is kept until its turn comes."""
        one = self._read.get(publication.topic)
        if one is None:
            return False
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._deliver_to(one, publication)
        return True

    def _deliver_to(self, one: Subscription, publication: Publication) -> None:
        frame, outbox = one.words.message(publication), self.outbox
        if one.catching_up:
            if not one.hold(publication):
                self.too_slow()
        elif outbox.finds_room(len(frame)):
            outbox.push(frame)
            self._note_sent()
            if outbox.pending_bytes >= CONFLATE_ABOVE_BYTES:
                outbox.round.strain(outbox)
        elif one.ring_backed:
            self._fall_behind(one, publication)
        else:
            self.too_slow()

    # --- turns -----------------------------------------------------------------------------------------------

    def _get_in_line(self) -> None:
        if not self._in_line:
            self._in_line = True
            self._readers.later(self)

    def catch_up(self) -> None:
        """Send one frame's worth to each subscription that is behind; then it is the next connection's turn."""
        self._in_line = False
        if self.closing:
            return
        with barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            self._catch_up()

    def _catch_up(self) -> None:
        for one in list(self._read.values()):
            if not one.catching_up or one.is_waiting:
                continue
            if self.outbox.pending_bytes <= REPLAY_PENDING_BYTES_MAX:
                self._advance(one)
                if self.closing:
                    return
        if self._behind and any(one.catching_up and not one.is_waiting for one in self._read.values()):
            # By way of the kernel, so that the others have their turn, too.
            self.outbox.more_waits = True

    def _advance(self, one: Subscription) -> None:
        frames = b""
        pieces = 0
        try:
            while not frames and one.catching_up and pieces < PIECES_OF_OTHERS_MAX:
                frames = one.next_frame()
                pieces += 1
        except Lost:
            self.too_slow()
            return
        if frames:
            self.push(frames)
            self._note_sent()
        if not one.catching_up:
            self._behind -= 1

    # --- what was waited for -----------------------------------------------------------------------------------

    def _arrived(self, one: Subscription) -> None:
        """The log was read up to where it was when this subscription asked about a place further on than this node."""
        assert one.read.since is not None
        if not one.is_over:
            self.settle(one, self._history.missed(one.topic_filter, one.read.since))

    def settle(self, one: Subscription, missed: Missed) -> None:
        """What was missed of a subscription has been read, as `missed`, or could not be."""
        if self.closing or one.is_over:
            return
        with self.engine.turn, barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            one.settle(missed, None if missed.recovered else self._state_of(one.words, one.began))
            if missed.recovered or not one.read.state or not self._wait_for_tables(one):
                self._get_in_line()

    def _wait_for_tables(self, one: Subscription) -> bool:
        """Whether part of the state has to be read; then `state_read` is called."""
        if not self._history.has_tables(one.topic_filter):
            return False
        one.is_waiting = True
        self._readers.read_tables(self, one)
        return True

    def state_read(self, one: Subscription, rows: list[tuple[bytes, bytes]] | SourceError) -> None:
        """The tables that a subscription waits for have been read, or could not be."""
        if self.closing or one.is_over:
            return
        with self.engine.turn, barrier(self.engine.counters, self.peer, self.close_for_a_bug):
            if isinstance(rows, TooMuch):
                self.too_much(one, rows)
            elif isinstance(rows, SourceError):
                self.close(CloseCode.TRY_AGAIN_LATER, "the state can't be read now")
            elif one.add_rows(rows):
                self._get_in_line()
            else:
                self.too_slow()
