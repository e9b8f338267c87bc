"""One subscription of a `rowcast` client, and what it has yet to get before live messages come to it.  No I/O.

Invariant: a subscription is either live, or everything that its filter matches from now on is kept for it: in its
ring (`behind` says from where) or in `held`.
"""

from __future__ import annotations

import json
from typing import Final

from broker.core.history import SEGMENT_BYTES_MAX, History, Missed, Piece
from broker.core.publication import Publication
from broker.core.retained import RetainedStore
from protocol.dialects.rowcast import Read, message_text, subscribed_head
from protocol.websocket import text_frame

FRAME: Final = "rowcast"
"""The key of a publication's frame."""

RETAINED_PER_FRAME_MAX: Final = 200
STATE_STEPS_MAX: Final = 2000
"""Names looked at for one frame of a state, however few of them the filter matches."""

TEXTS_PER_SEGMENT_MAX: Final = 4


def frame_of(publication: Publication, history: History) -> bytes:
    """A publication's frame, the same bytes for every reader."""
    frame = publication.frame(FRAME)
    if frame is None:
        at = history.positions.stamp(publication)
        frame = text_frame(message_text(publication.topic, publication.payload, at))
        publication.keep_frame(FRAME, frame)
    return frame


def text_in(frame: bytes) -> bytes:
    """The text in a frame of ours."""
    short = frame[1]
    return frame[2 if short < 126 else 4 if short == 126 else 10 :]


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
    except ValueError:
        return False
    if not all(isinstance(row, dict) for row in rows):
        return False
    for row in rows:
        row.pop("position", None)
        row.pop("operation", None)
    return bool(rows[0] == rows[1])


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

    def __init__(self, retained: RetainedStore, topic_filter: bytes, number: int) -> None:
        self._retained = retained
        self._walk = retained.walk(topic_filter)
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
                text = message_text(one.topic, one.payload, b"", True)
                size += len(text)
                texts.append(text)
        if self._walk.is_over():
            while self.rows and len(texts) < RETAINED_PER_FRAME_MAX and size < SEGMENT_BYTES_MAX:
                texts.append(message_text(*self.rows.pop(), b""))
                size += len(texts[-1])
        return b",".join(texts)


class Subscription:
    """One filter of one connection.

    Args:
        read: what was asked.
        history: where to find what was missed.
        state: what to send first, if `missed` recovers nothing.
        missed: behind the position that the client gave.
        ring_backed: a ring keeps all that comes, so nothing needs to be held for a reader who catches up.
        held_bytes_max: payload bytes that may be held otherwise.
    """

    def __init__(
        self,
        read: Read,
        history: History,
        state: StateWalk | None,
        missed: Missed,
        ring_backed: bool,
        held_bytes_max: int,
    ) -> None:
        self.read = read
        self.topic_filter = read.topic_filter
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
        return self._frame(b"", True)

    def next_frame(self) -> bytes:
        """A frame's worth of what is to be sent.  `catching_up` is False after the last.

        Raises:
            Lost: it can't go on.
        """
        if not self._begun:
            self._begun = True
            return self._first_frame()
        state = self._state
        if state is not None:
            return self._frame(b',"state":[%b]' % self._some_of(state), self._is_more())
        fresh = self._freshness()
        texts = self._some_missed()
        return self._frame(b',"missed":[%b]%b' % (texts, fresh), self._is_more())

    def _freshness(self) -> bytes:
        return b',"fresh":true' if len(self._pieces) <= self._fresh else b""

    def _first_frame(self) -> bytes:
        missed, read = self.missed, self.read
        members = b""
        state = self._state
        texts = b"" if state is None else self._some_of(state)
        if texts or self._state is not None:
            members = b',"state":[%b]' % texts
        elif read.state and not (missed.recovered and read.since is not None):
            members = b',"state":[]'
        elif missed.recovered and read.since is not None:
            fresh = self._freshness() if self._pieces else b""
            members = b',"missed":[%b]%b' % (self._texts(self._pieces.pop()) if self._pieces else b"", fresh)
        more = self._is_more()
        head = subscribed_head(read, "" if more else self._at(), missed.recovered, missed.reason).encode()
        return text_frame(head + members + (b',"more":true}' if more else b"}"))

    def _frame(self, members: bytes, more: bool) -> bytes:
        head = b'{"subscribed":' + json.dumps(self.topic_filter.decode(), ensure_ascii=False).encode()
        if more:
            return text_frame(head + members + b',"more":true}')
        return text_frame(head + b',"at":"' + self._at().encode() + b'"' + members + b"}")

    def _at(self) -> str:
        """Up to where the reader is complete, now that it is live."""
        return self._history.positions.here()

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
        return b",".join([text_in(frame_of(one, self._history)) for one in held])

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
        made = b",".join([text_in(frame_of(one, self._history)) for one in found])
        if piece.is_whole() and len(texts) < TEXTS_PER_SEGMENT_MAX:
            texts[self.topic_filter] = made
        return made
