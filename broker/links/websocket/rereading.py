"""Reads again from databases what rings have forgotten, for subscriptions that missed it: one after the other.

Everything that one subscription missed is there before the first of it is sent, so it gets all or nothing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import trio

from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.core.history import Beyond, History, Missed, Piece, Segment, cost
from broker.core.publication import Publication
from broker.core.row_source import PLACES_PER_READ, RowReader, SourceError
from broker.core.traces import DIGEST_BYTES, Page, digest
from broker.links.websocket.catching_up import Subscription
from broker.links.websocket.room import Room
from protocol.mqtt.topics import matches

if TYPE_CHECKING:
    from broker.links.websocket.following import FollowingLink

logger = logging.getLogger("broker.links")

ROWS_MAX: Final = 50_000
BYTES_MAX: Final = 32 * 1024 * 1024
"""What one subscription may have read again, in memory's bytes; a page that starts anew is quicker than more."""

CACHED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of the pages that were read last: those who come back together have missed much the same."""


class Rereading:
    """Serves subscriptions in the order in which they asked.

    Args:
        nursery: where the reading goes on, for as long as somebody waits.
        counters: where bugs are counted; one ends the connection that it was done for.
    """

    def __init__(self, history: History, nursery: trio.Nursery, counters: Counters) -> None:
        self._history = history
        self._nursery = nursery
        self._counters = counters
        self._line: deque[tuple[FollowingLink, Subscription, Beyond]] = deque()
        self._room = Room()
        self._cache: OrderedDict[tuple[Page, bytes], Segment] = OrderedDict()
        self._cached_bytes = 0
        self._serving = False

    def ask(self, link: FollowingLink, one: Subscription) -> None:
        """Have `link.settle` called when what this subscription missed was read, or can't be."""
        beyond = one.missed.beyond
        assert beyond is not None
        self._line.append((link, one, beyond))
        if not self._serving:
            self._serving = True
            self._nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                readers: dict[str, RowReader] = {}
                while self._line:
                    link, one, beyond = self._line.popleft()
                    await self._room.wait()
                    if not one.is_over:
                        with barrier(self._counters, link.peer, link.close_for_a_bug):
                            await self._recover(link, one, beyond, _Readers(self._history, readers, stack))
        finally:
            self._serving = False
            self._cache.clear()
            self._cached_bytes = 0

    async def _recover(
        self, link: FollowingLink, one: Subscription, beyond: Beyond, readers: _Readers
    ) -> None:
        try:
            pieces = await self._all_of(one, beyond, readers)
        except SourceError as error:
            logger.info(
                "%s: what it missed of %s can't be read again: %s",
                link.peer,
                one.read.topic_filter.decode(),
                error,
            )
            link.settle(one, Missed(self._history.positions.here(), str(error), [], False))
            return
        narrower = beyond.ring.topic_filter != one.topic_filter
        link.settle(one, Missed(self._history.positions.here(), "", pieces, narrower))
        self._room.add(lambda: one.holds_pieces)

    async def _all_of(self, one: Subscription, beyond: Beyond, readers: _Readers) -> list[Piece]:
        """What was missed: from the source, and what the ring has behind it now.  Raises: SourceError."""
        ring, number = beyond.ring, beyond.number
        traces = ring.traces
        assert traces is not None
        pieces: list[Piece] = []
        rows = size = 0
        while number < ring.lost_through:
            if number < traces.lost_through:
                raise SourceError(traces.lost_why)
            page = traces.pages_behind(number)[0]
            through = page.numbers[-1]
            segment = await self._segment(page, one.topic_filter, ring.topic_filter, readers)
            kept = segment.kept
            first = 0
            while first < len(kept) and kept[first].sequence <= number:
                first += 1
            if first < len(kept):
                pieces.append(Piece(segment, first, len(kept)))
            number = through
            rows += len(kept) - first
            size += segment.size
            if rows > ROWS_MAX or size > BYTES_MAX:
                raise SourceError("there were more rows since than are read again for one subscription")
            await trio.lowlevel.checkpoint()
        return pieces + ring.behind(number)

    async def _segment(self, page: Page, wanted: bytes, all_of_it: bytes, readers: _Readers) -> Segment:
        """The messages of a page that a filter matches, as they were published."""
        key = (page, wanted)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        is_full = page.is_full()
        chosen = [
            index for index, topic in enumerate(page.topics) if wanted == all_of_it or matches(wanted, topic)
        ]
        segment = Segment()
        for start in range(0, len(chosen), PLACES_PER_READ):
            await _read(page, chosen[start : start + PLACES_PER_READ], segment, readers)
        if is_full:
            self._cache[key] = segment
            self._cached_bytes += segment.size
            while self._cached_bytes > CACHED_BYTES_MAX:
                self._cached_bytes -= self._cache.popitem(last=False)[1].size
        return segment


class _Readers:
    """One for each database, opened when it is needed."""

    def __init__(self, history: History, opened: dict[str, RowReader], stack: AsyncExitStack) -> None:
        self._history = history
        self._opened = opened
        self._stack = stack

    async def candidates(self, places: list[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
        by_feed: dict[str, list[bytes]] = {}
        for place in dict.fromkeys(places):
            by_feed.setdefault(place[: place.index(0)].decode(), []).append(place)
        found: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for feed, some in by_feed.items():
            found |= await self._of(feed, some)
        return found

    async def _of(self, feed: str, places: list[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
        reader = self._opened.get(feed)
        if reader is None:
            source = self._history.sources.get(feed)
            if source is None:
                raise SourceError(f"the feed {feed} is not there any more")
            reader = self._opened[feed] = await self._stack.enter_async_context(source.open())
        try:
            return await reader.candidates(places)
        except SourceError:
            del self._opened[feed]  # the next one connects anew
            raise


async def _read(page: Page, chosen: list[int], segment: Segment, readers: _Readers) -> None:
    """Add messages of a page to a segment.  Raises: SourceError."""
    found = await readers.candidates([page.marks[index][DIGEST_BYTES:] for index in chosen])
    for index in chosen:
        mark, topic = page.marks[index], page.topics[index]
        for candidate, payload in found.get(mark[DIGEST_BYTES:], ()):
            if candidate == topic and digest(candidate, payload) == mark[:DIGEST_BYTES]:
                break
        else:
            raise SourceError("a row was changed since, or is gone")
        one = Publication(topic, payload)
        one.sequence = page.numbers[index]
        segment.kept.append(one)
        segment.size += cost(one)
