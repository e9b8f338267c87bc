"""Retained messages: the last one of each topic, found by filter.

Invariant: `_names` holds exactly the keys of `_by_topic`.
"""

from __future__ import annotations

import math

from broker.core.names import SYS_PREFIX, NameTree
from broker.core.publication import Publication
from protocol.mqtt.message import MessageStore


class RetainedStore:
    """Topic to publication (MQTT 3.1.1 §3.3.1.3).

    Args:
        store: told about every message that is kept.
        expiry_s: `retain_expiry_interval`; 0 keeps messages for ever.
    """

    def __init__(self, store: MessageStore, expiry_s: float = 0.0) -> None:
        self.expiry_s = expiry_s
        self._store = store
        self.changes = 0
        """Counts up with every change but those below `$SYS`, so that a saver can tell whether to save."""
        self._look_at = -math.inf
        """Nothing expires sooner, with `_looked_with_s` for `expiry_s`."""
        self._looked_with_s = expiry_s
        self._by_topic: dict[bytes, Publication] = {}
        self._names = NameTree()

    def __len__(self) -> int:
        return len(self._by_topic)

    def put(self, publication: Publication, now: float) -> None:
        """Keep a message, in place of an older one; an empty payload clears its topic [MQTT-3.3.1-10]."""
        topic = publication.topic
        if not topic.startswith(SYS_PREFIX):
            self.changes += 1
        older = self._by_topic.get(topic)
        if not publication.payload:
            if older is not None:
                self._forget(older)
            return
        publication.stored_at = now
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

    def matching(self, topic_filter: bytes, now: float) -> list[Publication]:
        """What a new subscription gets, parents before children, expired ones left out."""
        if b"+" not in topic_filter and b"#" not in topic_filter:
            one = self._by_topic.get(topic_filter)
            return [] if one is None or self._expired(one, now) else [one]
        found: list[Publication] = []
        for name in self._names.matching(topic_filter):
            publication = self._by_topic[name]
            if not self._expired(publication, now):
                found.append(publication)
        return found

    def expire(self, now: float) -> int:
        """Forget messages older than `expiry_s`; how many."""
        if self.expiry_s <= 0:
            return 0
        if self.expiry_s == self._looked_with_s and now < self._look_at:
            return 0
        expired: list[Publication] = []
        oldest = now
        for publication in self._by_topic.values():
            if self._expired(publication, now):
                expired.append(publication)
            elif publication.stored_at < oldest and not publication.topic.startswith(SYS_PREFIX):
                oldest = publication.stored_at
        for publication in expired:
            self._forget(publication)
            self.changes += 1
        self._looked_with_s = self.expiry_s
        self._look_at = oldest + self.expiry_s
        return len(expired)

    def _forget(self, publication: Publication) -> None:
        del self._by_topic[publication.topic]
        self._names.discard(publication.topic)
        self._store.release(publication)

    def _expired(self, publication: Publication, now: float) -> bool:
        # What the broker says about itself stays true until it says something else.
        return (
            self.expiry_s > 0
            and now - publication.stored_at >= self.expiry_s
            and not publication.topic.startswith(SYS_PREFIX)
        )
