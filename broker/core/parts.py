"""Topics with a state: whoever subscribes gets a message that says all, and whoever was slow one that says the rest.

A topic's messages may come from several parts (the candles of each interval, say), each with an order of its own.

Invariant: a reader that has a part's `state()` as of `seq`, and every message since, is told nothing twice and
misses nothing; `prev` of each message is the `seq` of the one before it.
"""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from broker.core.name_tree import NameTree
from protocol.mqtt.topics import has_wildcard


@mypyc_attr(allow_interpreted_subclasses=True)
class Part:
    """One ordered stream of messages on one topic.

    Args:
        topic: where they are published.
        qos: of the messages for MQTT.
        retain: whether MQTT subscribers get the state, too.

    Attributes:
        seq: of the newest message.
        prev: of the one before it.
    """

    def __init__(self, topic: bytes, qos: int, retain: bool) -> None:
        self.topic = topic
        self.qos = qos
        self.retain = retain
        self.seq = 0
        self.prev = 0

    def state(self) -> list[bytes]:
        """Payloads for a new reader, who knows all up to `seq` then."""
        raise NotImplementedError

    def since(self, seq: int) -> list[bytes]:
        """Payloads for a reader that knows all up to `seq`, and nothing behind it."""
        raise NotImplementedError


class PartStore:
    """All parts, by topic."""

    def __init__(self) -> None:
        self._by_topic: dict[bytes, list[Part]] = {}
        self._names = NameTree()

    def add(self, part: Part) -> None:
        """Keep a part of the state of its topic."""
        others = self._by_topic.get(part.topic)
        if others is None:
            self._by_topic[part.topic] = [part]
            self._names.add(part.topic)
        else:
            others.append(part)

    def discard(self, part: Part) -> None:
        """It is published no more."""
        others = self._by_topic.get(part.topic)
        if others is None or part not in others:
            return
        others.remove(part)
        if not others:
            del self._by_topic[part.topic]
            self._names.discard(part.topic)

    def of(self, topic: bytes) -> list[Part]:
        """The parts of one topic, in the order in which they came to be."""
        found = self._by_topic.get(topic)
        return [] if found is None else found

    def matching(self, topic_filter: bytes) -> list[Part]:
        """The parts of every topic that a filter matches."""
        if not self._by_topic:
            return []
        if not has_wildcard(topic_filter):
            return self.of(topic_filter)
        found: list[Part] = []
        for name in self._names.matching(topic_filter):
            found += self._by_topic[name]
        return found
