"""One subscription that follows from a position, and what it has yet to get before live messages come to it.  No I/O.

Invariant: a subscription is either live, or everything that its filter matches from now on is kept for it: in its
ring (`behind` says from where) or in `held`.
"""

from __future__ import annotations

import json
from typing import Final

from broker.core.history import SEGMENT_BYTES_MAX, History, Missed, Piece
from broker.core.publication import Publication
from broker.core.retained import RetainedStore
from broker.links.websocket.words import Words

STATE: Final = b"state"
MISSED: Final = b"missed"
"""What a list of messages is called."""

RETAINED_PER_FRAME_MAX: Final = 200
STATE_STEPS_MAX: Final = 2000
"""Names looked at for one frame of a state, however few of them the filter matches."""

TEXTS_PER_SEGMENT_MAX: Final = 4
PIECES_PER_FRAME_MAX: Final = 16
"""Of the ring, where the filter matches little in them: some milliseconds at most."""


def is_same_row(state: bytes, message: bytes) -> bool:
    """Whether both are one row: as it stands in a table, and as it was published.

    A route may say with each change what was done, and where; a row that was read has no position.
    """
    if state == message:
        return True
    if b'"position"' not in message and b'"operation"' not in message:
        return False
    try:
        rows = [json.loads(text) for text in (state, message)]
        if not all(isinstance(row, dict) for row in rows):
            return False
        for row in rows:
            row.pop("position", None)
            row.pop("operation", None)
        return bool(rows[0] == rows[1])
    except (ValueError, RecursionError):  # whoever publishes to the topic may have put anything there
        return False


def parted(pieces: list[Piece], number: int) -> tuple[list[Piece], list[Piece]]:
    """The same, those up to a number and those above it."""
    old: list[Piece] = []
    fresh: list[Piece] = []
    for piece in pieces:
        kept, first, last = piece.segment.kept, piece.first, piece.last
        if kept[last - 1].sequence <= number:
            old.append(piece)
        elif kept[first].sequence > number:
            fresh.append(piece)
        else:
            middle = first
            while kept[middle].sequence <= number:
                middle += 1
            old.append(Piece(piece.segment, first, middle))
            fresh.append(Piece(piece.segment, middle, last))
    return old, fresh


class Lost(Exception):
    """What this subscription still had to get is not kept any more."""


class StateWalk:
    """The retained messages of a filter as they were at a position, a frame's worth at a time.

    What is published behind it comes as a live message, so it is left out here, and its topic with it.  Rows that were
    read from a table come behind them.
    """

    def __init__(self, retained: RetainedStore, words: Words, number: int) -> None:
        self._retained = retained
        self._words = words
        self._walk = retained.walk(words.read.topic_filter)
        self._number = number
        self.rows: list[tuple[bytes, bytes]] = []
        """Topics and bodies, the last one first."""

    def is_over(self) -> bool:
        """Whether the whole state has been given."""
        return self._walk.is_over() and not self.rows

    def some(self) -> bytes:
        """The next retained values as messages; b"" if these steps met none."""
        texts: list[bytes] = []
        size = 0
        steps_max = self._walk.steps + STATE_STEPS_MAX
        while len(texts) < RETAINED_PER_FRAME_MAX and size < SEGMENT_BYTES_MAX:
            name = self._walk.next_name(steps_max)
            if name is None:
                break
            one = self._retained.get(name)
            if one is not None and one.sequence <= self._number:
                text = self._words.value(one.topic, one.payload, True)
                size += len(text)
                texts.append(text)
        if self._walk.is_over():
            while self.rows and len(texts) < RETAINED_PER_FRAME_MAX and size < SEGMENT_BYTES_MAX:
                topic, body = self.rows.pop()
                texts.append(self._words.value(topic, body, False))
                size += len(texts[-1])
        return self._words.separator.join(texts)


class Subscription:
    """One filter of one connection.

    Args:
        words: how its client is told, and what was asked.
        history: where to find what was missed.
        state: what to send first, if `missed` recovers nothing.
        missed: behind the position that the client gave.
        ring_backed: a ring keeps all that comes, so nothing needs to be held for a reader who catches up.
        held_bytes_max: payload bytes that may be held otherwise.
    """

    def __init__(
        self,
        words: Words,
        history: History,
        state: StateWalk | None,
        missed: Missed,
        ring_backed: bool,
        held_bytes_max: int,
    ) -> None:
        self.words = words
        self.read = words.read
        self.topic_filter = words.read.topic_filter
        self.ring_backed = ring_backed
        self.catching_up = True
        self._history = history
        self.missed = missed
        self._state = state
        self._pieces: list[Piece] = list(reversed(missed.pieces))
        self._fresh = 0
        """How many of the pieces were published after the subscription began: the first of `_pieces`, sent last."""
        self._narrower = missed.narrower
        self._behind = missed.at
        self.began = history.positions.number
        """The number of the last publication from before the subscription."""
        self._held: list[Publication] = []
        self._held_bytes = 0
        self._held_bytes_max = held_bytes_max
        self._begun = False
        self.is_waiting = missed.beyond is not None
        """What was missed is being read from its source; until `settle` there is nothing to send."""
        self.is_over = False
        """The client wants no more of it, or is gone."""

    @property
    def holds_pieces(self) -> bool:
        """Whether it keeps something alive that it has yet to send."""
        return not self.is_over and bool(self._pieces)

    def settle(self, missed: Missed, state: StateWalk | None) -> None:
        """What was missed has been read, or could not be.  Only if `ring_backed`.

        Args:
            state: as it was when the subscription began, if nothing is recovered.
        """
        self.missed = missed
        self._state = state
        old, fresh = parted(missed.pieces, self.began)
        self._pieces = [*reversed(fresh), *reversed(old)]
        self._fresh = len(fresh)
        self._narrower = missed.narrower
        self._behind = missed.at if missed.recovered else self._history.positions.at(self.began)
        self.is_waiting = False

    @property
    def has_state(self) -> bool:
        """Whether it has yet to send a state, or the rest of one."""
        return self._state is not None

    @property
    def holds_rows(self) -> bool:
        """Whether it has yet to send rows that were read for it."""
        return not self.is_over and self._state is not None and bool(self._state.rows)

    def add_rows(self, rows: list[tuple[bytes, bytes]]) -> bool:
        """The state has these rows, too; those that have been published since the subscription began come as messages.

        Returns:
            False if what was published since is not kept any more.
        """
        since: list[Publication] | None = self._held
        if self.ring_backed:
            since = self._kept_since()
        if since is None or self._state is None:
            return False
        come: dict[bytes, list[bytes]] = {}
        for one in since:
            come.setdefault(one.topic, []).append(one.payload)
        left = [row for row in rows if not any(is_same_row(row[1], other) for other in come.get(row[0], ()))]
        self._state.rows = left[::-1]
        self.is_waiting = False
        return True

    def _kept_since(self) -> list[Publication] | None:
        found = self._history.missed(self.topic_filter, self._history.positions.at(self.began))
        if not found.recovered:
            return None
        return [
            one for piece in found.pieces for one in piece.publications(self.topic_filter, found.narrower)
        ]

    def hold(self, publication: Publication) -> bool:
        """Keep a live message for later; False if there is no more room for it."""
        if self.ring_backed:
            return True
        self._held_bytes += len(publication.payload) + len(publication.topic)
        if self._held_bytes > self._held_bytes_max:
            return False
        self._held.append(publication)
        return True

    def fall_behind(self, publication: Publication) -> bytes:
        """Stop being live, from this message on; a frame that says so.  Only if `ring_backed`."""
        self.catching_up = True
        positions = self._history.positions
        self._behind = f"{positions.epoch}/{publication.sequence - 1}"
        return self.words.next(b"", b"", False, True)

    def next_frame(self) -> bytes:
        """A frame's worth of what is to be sent; may be nothing.  `catching_up` is False after the last.

        Raises:
            Lost: it can't go on.
        """
        if not self._begun:
            self._begun = True
            return self._first_frame()
        state = self._state
        if state is not None:
            messages = self._some_of(state)
            return self.words.next(STATE, messages, False, self._is_more())
        fresh = self._is_fresh()
        messages = self._some_missed()
        if self.ring_backed and (fresh or not messages):
            fresh, messages = True, self._with_meanwhile(messages)
        return self.words.next(MISSED, messages, fresh, self._is_more())

    def _is_fresh(self) -> bool:
        return len(self._pieces) <= self._fresh

    def _first_frame(self) -> bytes:
        missed, read = self.missed, self.read
        start = self._start()
        lists = messages = b""
        fresh = False
        if self._state is not None:
            messages = self._some_of(self._state)
        if (
            messages
            or self._state is not None
            or (read.state and not (missed.recovered and read.since is not None))
        ):
            lists = STATE
        elif missed.recovered and read.since is not None:
            lists = MISSED
            if self._pieces:
                fresh = self._is_fresh()
                messages = self._texts(self._pieces.pop())
        return self.words.first(missed, start, lists, messages, fresh, self._is_more())

    def _start(self) -> str:
        """What is sent first stands behind this position."""
        since = self.read.since
        positions = self._history.positions
        if since is None or since == "now" or not self.missed.recovered:
            return positions.at(self.began)
        if since != "start":
            return since
        if not self._pieces:
            return positions.at(self.began)
        first = self._pieces[-1]
        return positions.at(first.segment.kept[first.first].sequence - 1)

    def _with_meanwhile(self, messages: bytes) -> bytes:
        """Fresh messages, and those that came while this reader waited for its turn.

        Where more comes between any two turns than none at all, nobody would ever be live otherwise: each frame would
        find that another has to follow, if only for what the filter doesn't match.
        """
        for _ in range(PIECES_PER_FRAME_MAX):
            if not self._pieces:
                self._look_again()
            if not self._pieces or len(self._pieces) > self._fresh or len(messages) >= SEGMENT_BYTES_MAX:
                break
            more = self._texts(self._pieces.pop())
            messages = self.words.separator.join([part for part in (messages, more) if part])
        return messages

    def _is_more(self) -> bool:
        """Whether another frame follows; the reader is live if not."""
        if not self._pieces and self._state is None and self.ring_backed:
            self._look_again()
        self.catching_up = bool(
            self._pieces or self._state is not None or (self._held and not self.ring_backed)
        )
        return self.catching_up

    def _look_again(self) -> None:
        """What has come to the ring meanwhile."""
        if self._behind == self._history.positions.here():
            return
        found = self._history.missed(self.topic_filter, self._behind)
        if not found.recovered:
            raise Lost(found.reason)
        self._behind = found.at
        self._pieces = list(reversed(found.pieces))
        self._fresh = len(self._pieces)
        self._narrower = found.narrower

    def _some_missed(self) -> bytes:
        if self._pieces:
            return self._texts(self._pieces.pop())
        held = self._held[:RETAINED_PER_FRAME_MAX]
        del self._held[:RETAINED_PER_FRAME_MAX]
        self._held_bytes -= sum(len(one.payload) + len(one.topic) for one in held)
        return self.words.separator.join([self.words.message(one) for one in held])

    def _some_of(self, state: StateWalk) -> bytes:
        texts = state.some()
        if state.is_over():
            self._state = None
        return texts

    def _texts(self, piece: Piece) -> bytes:
        texts = piece.segment.texts
        if piece.is_whole():
            known = texts.get(self.topic_filter)
            if known is not None:
                return known
        found = piece.publications(self.topic_filter, self._narrower)
        made = self.words.separator.join([self.words.message(one) for one in found])
        if piece.is_whole() and len(texts) < TEXTS_PER_SEGMENT_MAX:
            texts[self.topic_filter] = made
        return made
