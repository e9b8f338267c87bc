"""Retained messages: the last one of each topic, found by filter.

Invariant: `_names` holds exactly the keys of `_by_topic`.
"""

from __future__ import annotations

from broker.core.names import SYS_PREFIX, NameTree
from broker.core.publication import Publication
from protocol.mqtt.message import MessageStore


class RetainedStore:
    """Topic to publication (MQTT 3.1.1 §3.3.1.3).

    Args:
        store: told about every message that is kept.
    """

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self.changes = 0
        """Counts up with every change but those below `$SYS`, so that a saver can tell whether to save."""
        self._by_topic: dict[bytes, Publication] = {}
        self._names = NameTree()

    def __len__(self) -> int:
        return len(self._by_topic)

    def put(self, publication: Publication) -> None:
        """Keep a message, in place of an older one; an empty payload clears its topic [MQTT-3.3.1-10]."""
        topic = publication.topic
        if not topic.startswith(SYS_PREFIX):
            self.changes += 1
        older = self._by_topic.get(topic)
        if not publication.payload:
            if older is not None:
                self._forget(older)
            return
        if older is None:
            self._names.add(topic)
        else:
            self._store.release(older)
        self._store.hold(publication)
        self._by_topic[topic] = publication

    def get(self, topic: bytes) -> Publication | None:
        return self._by_topic.get(topic)

    def all(self) -> list[Publication]:
        return list(self._by_topic.values())

    def matching(self, topic_filter: bytes) -> list[Publication]:
        """What a new subscription gets, parents before children."""
        if b"+" not in topic_filter and b"#" not in topic_filter:
            one = self._by_topic.get(topic_filter)
            return [] if one is None else [one]
        return [self._by_topic[name] for name in self._names.matching(topic_filter)]

    def _forget(self, publication: Publication) -> None:
        del self._by_topic[publication.topic]
        self._names.discard(publication.topic)
        self._store.release(publication)
