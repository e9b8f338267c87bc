"""What topics matched, remembered: bounded in bytes, and never searched when subscriptions change.

A filter with wildcards that comes or goes closes the generation of what is remembered, if that holds a topic which
begins as the filter does.  A topic of an older generation is looked at when it is asked for again: is one of the
filters that changed since for it?  So a SUBSCRIBE costs the same however much is remembered, topics that begin
otherwise lose nothing by it, and one that nobody publishes to any more costs nothing but its bytes until it has grown
old.

Invariant: a topic is in one generation at most, and `newest` holds nothing that a change since then could concern.
Each topic's beginnings are in its generation's `beginnings`, which may hold others, too.
"""

from __future__ import annotations

from typing import Final

from broker.core.limits import MATCH_CACHE_BYTES_MAX
from broker.core.targets import Leaf, Targets
from protocol.mqtt.topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL

GENERATIONS_MAX: Final = 8
CHANGES_MAX: Final = 8
"""Filters that may concern a topic of one generation; with more, finding its receivers anew is as cheap."""

_TOPIC_BYTES: Final = 112
"""A remembered topic's place in a dictionary, beside the bytes of its name: 76 to 104 by RSS."""
_RECEIVER_BYTES: Final = 100
"""A receiver's place in a merged copy."""
_BEGINNING_BYTES: Final = 100
"""The hash of a topic's beginning in a set."""
_STALE_BEGINNINGS_MAX: Final = 1024
"""Of topics that were dropped; with more, a generation is closed for them."""


class Generation:
    """Topics remembered between two changes, and the filters that have changed since, each as its levels."""

    def __init__(self, topics: dict[bytes, Targets], beginnings: set[int], topics_bytes: int) -> None:
        self.topics = topics
        self.beginnings = beginnings
        self.topics_bytes = topics_bytes
        self.changes: list[list[bytes]] = []

    def size(self) -> int:
        """Bytes of what it remembers."""
        return self.topics_bytes + _BEGINNING_BYTES * len(self.beginnings)

    def pop(self, topic: bytes) -> Targets | None:
        """Forget a topic, and say what was known of it."""
        found = self.topics.pop(topic, None)
        if found is not None:
            self.topics_bytes -= _size(topic, found)
            if not self.topics:
                self.beginnings = set()
        return found


class MatchCache:
    """Topic to receivers."""

    def __init__(self) -> None:
        self.newest: dict[bytes, Targets] = {}
        """To be read by whoever is in a hurry."""
        self._newest_bytes = 0
        self._beginnings: set[int] = set()
        """Of the topics in `newest`, by their hashes."""
        self._older: list[Generation] = []

    def size(self) -> int:
        """About what all that is remembered takes."""
        newest = self._newest_bytes + _BEGINNING_BYTES * len(self._beginnings)
        return newest + sum([older.size() for older in self._older])

    def count(self) -> int:
        """How many topics are remembered."""
        return len(self.newest) + sum([len(older.topics) for older in self._older])

    def clear(self) -> None:
        """Forget all of them."""
        self._begin()
        self._older = []

    def recall(self, topic: bytes) -> Targets | None:
        """What an older generation knows of the topic and is still true; whatever it knows, it forgets."""
        if not self._older:
            return None
        position = len(self._older) - 1
        while position >= 0:
            found = self._older[position].pop(topic)
            if found is not None:
                return None if self._has_changed(topic, position) else found
            position -= 1
        return None

    def keep(self, topic: bytes, targets: Targets) -> None:
        """Remember what a topic, which is not remembered, matches."""
        self.newest[topic] = targets
        self._newest_bytes += _size(topic, targets)
        beginnings = self._beginnings
        end = topic.find(SEPARATOR)
        if end >= 0:
            beginnings.add(hash(topic[:end]))
            end = topic.find(SEPARATOR, end + 1)
        beginnings.add(hash(topic if end < 0 else topic[:end]))
        if (
            self._newest_bytes + _BEGINNING_BYTES * len(beginnings) > MATCH_CACHE_BYTES_MAX >> 1
            or len(beginnings) > 2 * len(self.newest) + _STALE_BEGINNINGS_MAX
        ):
            self._close_generation()

    def drop(self, topic: bytes) -> None:
        """A filter without wildcards changed: forget this topic."""
        found = self.newest.pop(topic, None)
        if found is not None:
            self._newest_bytes -= _size(topic, found)
            if not self.newest:
                self._beginnings = set()
            return
        for older in self._older:
            if older.pop(topic) is not None:
                return

    def note_change(self, topic_filter: bytes) -> None:
        """A filter with wildcards came, went, or has other receivers: the topics it matches are to be found anew."""
        if topic_filter == MULTI_LEVEL:
            self.clear()
            return
        beginning = _beginning(topic_filter)
        if _holds(self._beginnings, self.newest, beginning):
            self._close_generation()
        elif not self._concerns_older(beginning):
            return
        changes = self._older[-1].changes
        if len(changes) >= CHANGES_MAX:
            self._older = []
            return
        changes.append(topic_filter.split(SEPARATOR))

    def _close_generation(self) -> None:
        older = self._older
        older.append(Generation(self.newest, self._beginnings, self._newest_bytes))
        self._begin()
        # A generation is at most half of what may be, so the newest one always stays.
        while len(older) > GENERATIONS_MAX or (len(older) > 1 and self.size() > MATCH_CACHE_BYTES_MAX >> 1):
            del older[0]

    def _begin(self) -> None:
        self.newest = {}
        self._newest_bytes = 0
        self._beginnings = set()

    def _concerns_older(self, beginning: bytes) -> bool:
        return any(_holds(older.beginnings, older.topics, beginning) for older in self._older)

    def _has_changed(self, topic: bytes, position: int) -> bool:
        levels = topic.split(SEPARATOR)
        for older in self._older[position:]:
            for changed in older.changes:
                if _concerns(changed, levels):
                    return True
        return False


def _beginning(topic_filter: bytes) -> bytes:
    """The levels with which all topics of a filter with wildcards begin, two at most; b"" for none."""
    levels: list[bytes] = []
    for level in topic_filter.split(SEPARATOR, 2)[:2]:
        if level in (SINGLE_LEVEL, MULTI_LEVEL):
            break
        levels.append(level)
    return SEPARATOR.join(levels)


def _holds(beginnings: set[int], topics: dict[bytes, Targets], beginning: bytes) -> bool:
    """Whether one of these topics may begin so."""
    return hash(beginning) in beginnings if beginning else len(topics) > 0


def _size(topic: bytes, targets: Targets) -> int:
    size = _TOPIC_BYTES + len(topic)
    if isinstance(targets, Leaf):
        return size  # the filter's own, which is there in any case
    parts = targets.parts
    if parts is None:
        return size + _RECEIVER_BYTES * targets.count()
    for part in parts:
        size += _RECEIVER_BYTES * (1 + part.count())
    return size


def _concerns(filter_levels: list[bytes], levels: list[bytes]) -> bool:
    """Whether the filter may match the topic; that `$` is hidden from wildcards does not matter here."""
    position = 0
    count = len(levels)
    for level in filter_levels:
        if level == MULTI_LEVEL:
            return True
        if position >= count or (level != SINGLE_LEVEL and level != levels[position]):
            return False
        position += 1
    return position == count
