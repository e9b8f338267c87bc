"""Retained messages: the last one of each topic, found by filter.

Invariant: `_names` holds exactly the keys of `_by_topic`.
"""

from __future__ import annotations

from broker.core.counters import Counters
from broker.core.limits import RETAINED_CHANGES_MAX, RETAINED_LEVEL_BYTES, RETAINED_LEVELS_FREE
from broker.core.name_tree import NameTree
from broker.core.name_walk import NameWalk
from broker.core.publication import Publication
from broker.core.wheel import Wheel
from protocol.mqtt.message import MessageStore
from protocol.mqtt.reserved import SYS_PREFIX
from protocol.mqtt.topics import has_wildcard


class RetainedStore:
    """Topic to publication (MQTT 3.1.1 §3.3.1.3).

    Args:
        store: told about every message that is kept.
        counters: where refused messages are counted.

    `messages_max` and `bytes_max`, of topics and payloads, bound what is kept but for `$SYS`; 0 is no limit.  Topics
    with many levels of their own count for these, too.
    """

    def __init__(self, store: MessageStore, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self.messages_max = 0
        self.bytes_max = 0
        self.size = 0
        self._system = 0
        """Of the messages kept, those below `$SYS`."""
        self.puts = 0
        """Counts up with every message that is kept, and is its `stored_as`."""
        self.changes = 0
        """Counts up with every change but those below `$SYS`, so that a saver can tell whether to save."""
        self._changed: set[bytes] = set()
        """Topics that changed since `note_changed` or `take_changed`; those below `$SYS` are left out."""
        self._notes_changed = False
        self._by_topic: dict[bytes, Publication] = {}
        self._names = NameTree()
        self._expiring = Wheel()
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._by_topic)

    def put(self, publication: Publication) -> None:
        """Keep a message, in place of an older one; an empty payload clears its topic [MQTT-3.3.1-10].

        One that does not fit is counted; the older one goes all the same, since it is not true any more.
        """
        topic = publication.topic
        is_system = topic.startswith(SYS_PREFIX)
        if not is_system:
            self.changes += 1
            if self._notes_changed:
                self._note(topic)
        older = self._by_topic.get(topic)
        if not publication.payload:
            if older is not None:
                self._forget(older)
            return
        if not is_system and not self._fits(publication, older):
            self._counters.dropped_retained_full += 1
            if older is not None:
                self._forget(older)
            return
        if older is None:
            self._names.add(topic)
            self._system += 1 if is_system else 0
        else:
            self._store.release(older)
            self.size -= 0 if is_system else _size(older)
            self._expires_not(older)
        self._store.hold(publication)
        self._by_topic[topic] = publication
        self.size += 0 if is_system else _size(publication)
        self.puts += 1
        publication.stored_as = self.puts
        if publication.expires_at != 0.0:
            self._expiring.put(topic, publication.expires_at)

    def walk(self, topic_filter: bytes) -> NameWalk:
        """What a new subscription gets, a few steps at a time."""
        return NameWalk(self._names, topic_filter)

    def get(self, topic: bytes) -> Publication | None:
        """What is retained at exactly this topic, or None."""
        return self._by_topic.get(topic)

    def may_have(self, topic_filter: bytes) -> bool:
        """Whether a walk may find anything; False is certain."""
        if has_wildcard(topic_filter):
            return len(self._by_topic) > 0
        return topic_filter in self._by_topic

    def turn(self, now: float) -> bool:
        """It is so late; whether anything has expired."""
        self._now = now
        return self._expiring.turn(now)

    def expire_one(self) -> bool:
        """Forget one message that has expired; False if there is none [MQTT-3.3.2-5]."""
        topic = self._expiring.take()
        if topic is None:
            return False
        kept = self._by_topic.get(topic)
        if kept is None or kept.expires_at == 0.0:
            return True
        if not kept.has_expired(self._now):
            self._expiring.put(topic, kept.expires_at)
        else:
            self.changes += 1
            if self._notes_changed:
                self._note(topic)
            self._forget(kept)
        return True

    def note_changed(self) -> None:
        """Remember from now on which topics change, for `take_changed`."""
        self._notes_changed = True
        self._changed = set()

    def take_changed(self) -> dict[bytes, Publication | None] | None:
        """Topics that changed since the last call, with what they have now; None if they were not remembered."""
        if not self._notes_changed:
            return None
        changed = self._changed
        self._changed = set()
        return {topic: self._by_topic.get(topic) for topic in changed}

    def forget_changed(self) -> None:
        """Remember no more: whoever saves next looks at all."""
        self._notes_changed = False
        self._changed = set()

    def _note(self, topic: bytes) -> None:
        changed = self._changed
        changed.add(topic)
        if len(changed) > RETAINED_CHANGES_MAX and len(changed) > len(self._by_topic):
            self.forget_changed()

    def all(self) -> list[Publication]:
        """All retained messages; the list is the caller's own."""
        return list(self._by_topic.values())

    def matching(self, topic_filter: bytes) -> list[Publication]:
        """What a new subscription gets, parents before children."""
        if not has_wildcard(topic_filter):
            one = self._by_topic.get(topic_filter)
            return [] if one is None else [one]
        return [self._by_topic[name] for name in self._names.matching(topic_filter)]

    def _fits(self, publication: Publication, older: Publication | None) -> bool:
        size = self.size + _size(publication)
        count = len(self._by_topic) - self._system
        if older is not None:
            size -= _size(older)
            count -= 1
        if self.messages_max and count >= self.messages_max:
            return False
        return not self.bytes_max or size + self._tree_size(publication.topic) <= self.bytes_max

    def _tree_size(self, topic: bytes) -> int:
        """What the tree takes, with this topic, beyond what is usual for so many."""
        names = self._names
        missing = names.missing(topic)
        count = names.count if topic in self._by_topic else names.count + 1
        beyond = names.levels + missing - RETAINED_LEVELS_FREE * count
        return beyond * RETAINED_LEVEL_BYTES if beyond > 0 else 0

    def _forget(self, publication: Publication) -> None:
        if publication.topic.startswith(SYS_PREFIX):
            self._system -= 1
        else:
            self.size -= _size(publication)
        del self._by_topic[publication.topic]
        self._names.discard(publication.topic)
        self._expires_not(publication)
        self._store.release(publication)

    def _expires_not(self, publication: Publication) -> None:
        if publication.expires_at != 0.0:
            self._expiring.remove(publication.topic, publication.expires_at)


def _size(publication: Publication) -> int:
    return len(publication.topic) + len(publication.payload)
