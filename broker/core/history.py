"""What was published, kept for whoever comes back: positions, rings of messages, and what a reader missed.

A position names a place in the one order of all publications of a process: `EPOCH/NUMBER`.  A publication gets
its number when the first of those asks who have use for it, which is before anything else is published; so numbers
are in the order of publishing whoever asks, and cost nothing where nobody does.

The contract of `History.missed`: all that was published behind a position, in order and each once, or nothing of it
and the reason.

Invariant: a ring holds every publication that its filter matches with a number above its `lost_through`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.row_source import RowSource, StateSource
from broker.core.traces import Traces
from protocol.mqtt.topics import covers, has_wildcard, matches

SEGMENT_MESSAGES_MAX: Final = 256
SEGMENT_BYTES_MAX: Final = 64 * 1024
"""A segment is what leaves to a reader who catches up in one go, and what a slow one keeps alive."""

MESSAGE_OVERHEAD_BYTES: Final = 400
"""What a kept message costs beside its topic and payload; counted, so that a ring's limit is about memory."""


class Segment:
    """Some publications in order.  Append-only: whoever holds one reads it as it was, evicted or not."""

    __slots__ = ("_earlier", "_newest", "kept", "places", "size", "start", "texts", "times", "whole")

    def __init__(self) -> None:
        self.kept: list[Publication] = []
        self._newest: dict[bytes, int] = {}
        """Where the last message of each topic is, of those that `_earlier` knows."""
        self._earlier: list[int] = []
        """For each message, where the one before it of its topic is; -1 if there is none here."""
        self.times: list[float] = []
        self.places: list[bytes] = []
        """Where the row of each is; b"" if it is of none that can be read again."""
        self.size = 0
        self.start = 0
        """Those before it are evicted."""
        self.texts: dict[bytes, bytes] = {}
        """What the whole segment is to the readers of a filter; see `broker.links.websocket.catching_up`."""
        self.whole: Piece | None = None
        """All of it, once it is full and somebody asked: the same for a thousand readers."""

    def is_full(self) -> bool:
        """Whether the next message begins another segment."""
        return len(self.kept) >= SEGMENT_MESSAGES_MAX or self.size >= SEGMENT_BYTES_MAX

    def of_topic(self, topic: bytes, first: int, last: int) -> list[Publication]:
        """The messages of one topic in `kept[first:last]`, without a look at the others."""
        kept, newest, earlier = self.kept, self._newest, self._earlier
        for index in range(len(earlier), len(kept)):
            name = kept[index].topic
            earlier.append(newest.get(name, -1))
            newest[name] = index
        found: list[Publication] = []
        index = newest.get(topic, -1)
        while index >= first:
            if index < last:
                found.append(kept[index])
            index = earlier[index]
        found.reverse()
        return found

    def rest(self) -> Piece:
        """What is not evicted of it, as of now."""
        if self.start or not self.is_full():
            return Piece(self, self.start, len(self.kept))
        if self.whole is None:
            self.whole = Piece(self, 0, len(self.kept))
        return self.whole


class Piece:
    """A part of what was missed: `segment.kept[first:last]`, of which those count that the filter matches."""

    __slots__ = ("first", "last", "segment")

    def __init__(self, segment: Segment, first: int, last: int) -> None:
        self.segment = segment
        self.first = first
        self.last = last

    def is_whole(self) -> bool:
        """Whether it will always be the same for everybody."""
        return self.first == 0 and self.last == len(self.segment.kept) and self.segment.is_full()

    def publications(self, topic_filter: bytes, narrower: bool) -> list[Publication]:
        """Its messages, of a `narrower` filter only those that match."""
        if narrower and not has_wildcard(topic_filter):
            return self.segment.of_topic(topic_filter, self.first, self.last)
        kept = self.segment.kept[self.first : self.last]
        return [one for one in kept if matches(topic_filter, one.topic)] if narrower else kept


class Ring(Receiver):
    """The last publications of a filter.

    Args:
        topic_filter: whose publications it keeps.
        bytes_max, count_max: how much, overhead included, and how many.
        age_max_s: how long.
        traces: of what it has dropped; None if nobody could read that again.
    """

    def __init__(
        self,
        positions: Positions,
        topic_filter: bytes,
        bytes_max: int,
        count_max: int,
        age_max_s: float,
        traces: Traces | None = None,
    ) -> None:
        super().__init__(plain=False)
        self.topic_filter = topic_filter
        self.bytes_max = bytes_max
        self.count_max = count_max
        self.age_max_s = age_max_s
        self.count = 0
        self.size = 0
        self.lost_through = positions.number
        """The highest number that is, or may be, missing."""
        self.lost_why = "it is older than the history"
        self.now = 0.0
        """Monotonic seconds; see `History.tick`."""
        self.traces = traces
        self._positions = positions
        self._segments: deque[Segment] = deque()
        self._last = positions.number

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self._positions.stamp(publication)
        if publication.sequence > self._last:  # else it comes a second time (`allow_duplicate_messages`)
            self._keep(publication, self.now, self._positions.place)

    def _keep(self, publication: Publication, at: float, place: bytes) -> None:
        self._last = publication.sequence
        segments = self._segments
        if not segments or segments[-1].is_full():
            segments.append(Segment())
        segment = segments[-1]
        size = cost(publication)
        segment.kept.append(publication)
        segment.times.append(at)
        segment.places.append(place)
        segment.size += size
        self.size += size
        self.count += 1
        if self.size > self.bytes_max or self.count > self.count_max:
            self._evict()

    def expire(self) -> None:
        """Forget what is too old."""
        segments = self._segments
        limit = self.now - self.age_max_s
        while segments:
            oldest = segments[0]
            if oldest.times[oldest.start] > limit:
                return
            self._drop_first("it is older than the history's age")

    def _evict(self) -> None:
        while self.count and (self.size > self.bytes_max or self.count > self.count_max):
            self._drop_first("there were more messages since than the history holds")

    def _drop_first(self, why: str) -> None:
        segment = self._segments[0]
        publication = segment.kept[segment.start]
        segment.start += 1
        self.lost_through = publication.sequence
        self.lost_why = why
        if self.traces is not None:
            place = segment.places[segment.start - 1]
            self.traces.add(publication.sequence, publication.topic, publication.payload, place)
        self.size -= cost(publication)
        self.count -= 1
        if segment.start == len(segment.kept):
            self._segments.popleft()

    def interrupt(self, why: str) -> None:
        """Publications may be missing just here: nobody can go on from before."""
        self.forget(self._positions.number, why)

    def forget(self, number: int, why: str) -> None:
        """Hold nothing, and be complete behind this number."""
        self.lost_through = self._last = number
        self.lost_why = why
        self._segments.clear()
        self.count = 0
        self.size = 0
        if self.traces is not None:
            self.traces.clear(self.lost_through, why)

    def reaches(self, number: int) -> bool:
        """Whether everything behind it is kept, or has a trace."""
        return number >= self.lost_through or (self.traces is not None and number >= self.traces.lost_through)

    def behind(self, number: int) -> list[Piece]:
        """Everything kept with a higher number."""
        pieces: list[Piece] = []
        for segment in reversed(self._segments):
            kept, first = segment.kept, segment.start
            if kept[-1].sequence <= number:
                break
            if kept[first].sequence <= number:
                pieces.append(Piece(segment, _first_above(kept, first, number), len(kept)))
                break
            pieces.append(segment.rest())
        pieces.reverse()
        return pieces

    def kept(self) -> list[tuple[Publication, float, bytes]]:
        """All of it, with times and places, for whoever saves it."""
        return [
            (segment.kept[index], segment.times[index], segment.places[index])
            for segment in self._segments
            for index in range(segment.start, len(segment.kept))
        ]

    def empty_copy(self, number: int, why: str) -> Ring:
        """Another one with the same limits, without traces, complete behind this number; for `adopt`."""
        copy = Ring(self._positions, self.topic_filter, self.bytes_max, self.count_max, self.age_max_s)
        copy.forget(number, why)
        return copy

    def add(self, publication: Publication, at: float) -> None:
        """Keep an older publication, if it is behind the last one; `at` in monotonic seconds."""
        if publication.sequence > self._last:
            self._keep(publication, at, b"")

    def adopt(self, copy: Ring) -> None:
        """Hold what a copy was given, instead of what is here."""
        self.lost_through, self.lost_why = copy.lost_through, copy.lost_why
        self._segments, self._last = copy._segments, copy._last
        self.count, self.size = copy.count, copy.size

    def restore(
        self, kept: Iterable[tuple[Publication, float, bytes]], lost_through: int, lost_why: str
    ) -> None:
        """Go on where an earlier process was stopped."""
        self.lost_through = lost_through
        self.lost_why = lost_why
        self._last = lost_through
        for publication, at, place in kept:
            if publication.sequence > self._last:
                self._keep(publication, at, place)
        self._last = self._positions.number


class Beyond:
    """What a reader missed reaches behind what a ring keeps, but no further than its traces."""

    def __init__(self, ring: Ring, number: int) -> None:
        self.ring = ring
        self.number = number


class Missed:
    """What a reader missed: all of it as `pieces`, or `beyond` says where to look, or `reason` why it is nothing."""

    def __init__(
        self, at: str, reason: str, pieces: list[Piece], narrower: bool, beyond: Beyond | None = None
    ) -> None:
        self.at = at
        """With `pieces` the reader is complete up to here; live messages come behind it."""
        self.reason = reason
        self.pieces = pieces
        self.narrower = narrower
        """The pieces hold more than was asked for; see `Piece.publications`."""
        self.beyond = beyond

    @property
    def recovered(self) -> bool:
        """Whether everything that was missed is here."""
        return not self.reason and self.beyond is None


class History:
    """The rings of a broker.

    Args:
        positions: shared with everybody who shows positions.
        rings: subscribed with the engine by the caller, under their filters.
        sources: where rows can be read again, by feed.
    """

    def __init__(
        self, positions: Positions, rings: Iterable[Ring] = (), sources: dict[str, RowSource] | None = None
    ) -> None:
        self.positions = positions
        self.rings = list(rings)
        self.sources = {} if sources is None else sources
        self.tables: dict[str, StateSource] = {}
        """Where the state of topics is that nobody retains, by feed."""

    def tick(self, now: float) -> None:
        """Forget what is too old by now; monotonic seconds."""
        for ring in self.rings:
            ring.now = now
            ring.expire()

    def interrupt(self, why: str) -> None:
        """Rows may be missing here, says a feed."""
        for ring in self.rings:
            ring.interrupt(why)

    def keeps(self, topic_filter: bytes) -> bool:
        """Whether some ring keeps all that this filter matches."""
        return any(covers(ring.topic_filter, topic_filter) for ring in self.rings)

    def has_tables(self, topic_filter: bytes) -> bool:
        """Whether part of the state of this filter has to be read from a table."""
        return any(tables.serves(topic_filter) for tables in self.tables.values())

    def missed(self, topic_filter: bytes, since: str) -> Missed:
        """What was published to a filter behind a position.

        Args:
            since: a position, `now` for nothing, `start` for all that is kept.
        """
        at = self.positions.here()
        if since == "now":
            return Missed(at, "", [], False)
        rings = [ring for ring in self.rings if covers(ring.topic_filter, topic_filter)]
        if not rings:
            return Missed(at, f"no history is kept of {topic_filter.decode(errors='replace')}", [], False)
        ring = rings[0]
        for other in rings[1:]:
            if other.lost_through < ring.lost_through:
                ring = other
        number: int | None = ring.lost_through
        if since != "start":
            number = self.positions.number_of(since)
            if number is None:
                return Missed(
                    at, "the position is unknown: this server did not give it, or has forgotten", [], False
                )
            if number < ring.lost_through:
                for other in rings:
                    if other.reaches(number):
                        return Missed(at, "", [], False, Beyond(other, number))
                return Missed(at, _why_not(ring), [], False)
        assert number is not None
        return Missed(at, "", ring.behind(number), ring.topic_filter != topic_filter)


def cost(publication: Publication) -> int:
    """Bytes of memory, about: the message, and its frame, which is kept with it."""
    return 2 * (len(publication.payload) + len(publication.topic)) + MESSAGE_OVERHEAD_BYTES


def _why_not(ring: Ring) -> str:
    traces = ring.traces
    return ring.lost_why if traces is None or not traces.count else traces.lost_why


def _first_above(kept: list[Publication], low: int, number: int) -> int:
    """The index of the first with a higher number; `kept[low]` has none, the last has."""
    high = len(kept)
    while low < high:
        middle = (low + high) // 2
        if kept[middle].sequence <= number:
            low = middle + 1
        else:
            high = middle
    return low
