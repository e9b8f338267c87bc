"""What one new subscription still has to get of the retained messages."""

from __future__ import annotations

from broker.core.parts import Part
from broker.core.publication import Publication
from broker.core.retained import RetainedStore
from protocol.mqtt.topics import DOLLAR, MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL


class Replay:
    """One filter of one session.

    Args:
        topic_filter: with the session's mount point.
        retained: where the messages are.
        granted: the subscription's QoS, or more.
        parts: whose states it gets, ahead of what is retained.
        began: `Replaying.live` at that time.
    """

    def __init__(
        self, topic_filter: bytes, retained: RetainedStore, granted: int, parts: list[Part], began: int
    ) -> None:
        self.walk = retained.walk(topic_filter)
        self.parts = parts
        self.granted = granted
        self.began = began
        self.strict = True
        """False: of what was followed by a live message it gets none; see `REPLAY_STRICT_FILTERS_MAX`."""
        self.next: Publication | None = None
        """Found, and waiting for the client's window."""
        self.early: set[bytes] = set()
        """Topics still to come whose message went out already, before a live one."""
        self._levels = topic_filter.split(SEPARATOR)

    def awaits(self, topic: bytes, levels: list[bytes]) -> bool:
        """Whether the retained message of this topic, whose levels these are, is still to come."""
        if not self._matches(levels) or topic in self.early:
            return False
        waiting = self.next
        return (waiting is not None and waiting.topic == topic) or self.walk.will_give(levels)

    def _matches(self, levels: list[bytes]) -> bool:
        count = len(levels)
        position = 0
        for level in self._levels:
            if level == MULTI_LEVEL:
                return position > 0 or levels[0][:1] != DOLLAR_BYTE
            if position >= count:
                return False
            if level != levels[position] and (
                level != SINGLE_LEVEL or (position == 0 and levels[0][:1] == DOLLAR_BYTE)
            ):
                return False
            position += 1
        return position == count


DOLLAR_BYTE = bytes([DOLLAR])
"""A wildcard at the beginning does not match it [MQTT-4.7.2-1]."""
