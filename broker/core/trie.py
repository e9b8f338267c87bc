"""Subscriptions by topic filter, and who gets a topic: the one index that all receivers share.

Filters without wildcards stand in one flat dictionary, the others in a trie of levels.  What a topic matched is
cached, see `matches.py`.  A topic that one filter matches shares that filter's own `Targets`, live, so a subscriber
more or less costs the cache nothing; a topic that several filters match has a merged copy, which is dropped when one
of them changes.

Invariant: every cached topic's entry is what `_resolve` would give now.
"""

from __future__ import annotations

from collections.abc import Iterator

from broker.core.matches import MatchCache
from broker.core.receiver import Receiver
from broker.core.targets import Leaf, Targets
from protocol.mqtt.topics import DOLLAR, MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL, has_wildcard


class TrieNode:
    """One level of the filters that have wildcards.

    `here` ends at this level, `plus_here` ends in a `+` below it, `multi` in a `#`: a filter that ends in a
    wildcard needs no node for it.
    """

    def __init__(self) -> None:
        self.children: dict[bytes, TrieNode] | None = None
        self.plus: TrieNode | None = None
        self.here: Leaf | None = None
        self.plus_here: Leaf | None = None
        self.multi: Leaf | None = None

    def is_empty(self) -> bool:
        """Whether nothing hangs on it, so that it may go."""
        return (
            self.children is None
            and self.plus is None
            and self.here is None
            and self.plus_here is None
            and self.multi is None
        )


def _below(node: TrieNode, level: bytes) -> TrieNode:
    """The next node on a filter's path, made if it is not there."""
    if level == SINGLE_LEVEL:
        plus = node.plus
        if plus is None:
            plus = node.plus = TrieNode()
        return plus
    children = node.children
    if children is None:
        children = node.children = {}
    child = children.get(level)
    if child is None:
        child = children[level] = TrieNode()
    return child


class SubscriptionTrie:
    """All subscriptions of the process.

    Args:
        duplicates: deliver one copy per matching filter rather than one per receiver.
    """

    def __init__(self, duplicates: bool = False) -> None:
        self.count = 0
        """Subscriptions: pairs of filter and receiver."""
        self.filtered = False
        """Ask each receiver's `may_read` when a topic is resolved; see `restrict`."""
        self._always_filtered = False
        self.misses = 0
        self.looked_at = 0
        """Levels of filters, and receivers, that were looked at for the last of them."""
        self._duplicates = duplicates
        self._exact: dict[bytes, Leaf] = {}
        self._root = TrieNode()
        self._cache = MatchCache()

    def restrict(self, filtered: bool) -> None:
        """Ask every receiver `may_read` per topic from now on, or stop asking; rules changed, so forget."""
        self.filtered = filtered or self._always_filtered
        self.forget()

    def restrict_always(self) -> None:
        """From now on, whatever the configured listeners say: somebody came by another one, whose rules restrict."""
        if not self._always_filtered:
            self._always_filtered = True
            self.restrict(True)

    def copy_per_filter(self, duplicates: bool) -> None:
        """Deliver one copy per matching filter from now on, or one per receiver."""
        if duplicates != self._duplicates:
            self._duplicates = duplicates
            self.forget()

    def forget(self) -> None:
        """Resolve every topic anew, for example because access rules changed."""
        self._cache.clear()

    def recheck(self, topic_filter: bytes) -> None:
        """Some receiver of this filter may read other topics from now on: resolve those that it matches anew."""
        leaf = self._leaf(topic_filter)
        if leaf is not None and leaf.merged:
            self._invalidate(leaf)

    def cached(self, topic: bytes) -> Targets | None:
        """Who gets this topic, if that was asked lately; otherwise None."""
        return self._cache.newest.get(topic)

    def cached_count(self) -> int:
        """Topics whose receivers are remembered."""
        return self._cache.count()

    def match(self, topic: bytes) -> Targets:
        """Who gets this topic.  The answer is live and shared: read it now, change nothing.

        Args:
            topic: a valid topic name; a topic starting with `$` needs a filter that does, too [MQTT-4.7.2-1].
        """
        targets = self._cache.newest.get(topic)
        if targets is None:
            targets = self._cache.recall(topic)
            if targets is None:
                targets = self._resolve(topic)
            self._cache.keep(topic, targets)
        return targets

    def subscribe(self, topic_filter: bytes, receiver: Receiver, granted: int) -> bool:
        """Add or change a subscription.

        Returns:
            Whether it is new; an existing one only gets the new QoS [MQTT-3.8.4-3].
        """
        is_exact = not has_wildcard(topic_filter)
        leaf = self._exact.get(topic_filter) if is_exact else self._find(topic_filter)
        created = leaf is None
        if leaf is None:
            leaf = Leaf(topic_filter, is_exact)
            if is_exact:
                self._exact[topic_filter] = leaf
            else:
                self._insert(leaf)
        is_new = leaf.get(receiver) < 0
        leaf.add(receiver, granted)
        if is_new:
            self.count += 1
        if created or leaf.merged:
            self._invalidate(leaf)
        return is_new

    def unsubscribe(self, topic_filter: bytes, receiver: Receiver) -> bool:
        """Remove a subscription; False if there was none."""
        leaf = self._leaf(topic_filter)
        if leaf is None or not leaf.remove(receiver):
            return False
        self.count -= 1
        if leaf.is_empty():
            self._remove(leaf)
            self._invalidate(leaf)
        elif leaf.merged:
            self._invalidate(leaf)
        return True

    def settle_plain(self, topic_filter: bytes, receiver: Receiver) -> None:
        """This receiver has just begun to take raw packets, or ceased to; `receiver.plain` says which."""
        leaf = self._leaf(topic_filter)
        if leaf is not None and 0 <= leaf.get(receiver) <= 2:
            leaf.not_plain += -1 if receiver.plain else 1
            if leaf.merged:
                self._invalidate(leaf)

    def subscriptions(self) -> Iterator[tuple[bytes, Receiver, int]]:
        """Every subscription, for reports; one that comes or goes while this is read may be there or not."""
        for leaf in list(self._exact.values()):
            for receiver, granted in leaf.pairs():
                yield leaf.topic_filter, receiver, granted
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            for end in (node.here, node.plus_here, node.multi):
                if end is not None:
                    for receiver, granted in end.pairs():
                        yield end.topic_filter, receiver, granted
            if node.plus is not None:
                nodes.append(node.plus)
            if node.children is not None:
                nodes.extend(node.children.values())

    def _leaf(self, topic_filter: bytes) -> Leaf | None:
        if not has_wildcard(topic_filter):
            return self._exact.get(topic_filter)
        return self._find(topic_filter)

    def _find(self, topic_filter: bytes) -> Leaf | None:
        """The leaf of a filter with wildcards."""
        levels = topic_filter.split(SEPARATOR)
        node = self._root
        for level in levels[:-1]:
            if level == SINGLE_LEVEL:
                below = node.plus
            else:
                children = node.children
                below = None if children is None else children.get(level)
            if below is None:
                return None
            node = below
        last = levels[-1]
        if last == MULTI_LEVEL:
            return node.multi
        if last == SINGLE_LEVEL:
            return node.plus_here
        children = node.children
        end = None if children is None else children.get(last)
        return None if end is None else end.here

    def _insert(self, leaf: Leaf) -> None:
        """A filter with wildcards that is not there yet."""
        levels = leaf.topic_filter.split(SEPARATOR)
        node = self._root
        for level in levels[:-1]:
            node = _below(node, level)
        last = levels[-1]
        if last == MULTI_LEVEL:
            node.multi = leaf
        elif last == SINGLE_LEVEL:
            node.plus_here = leaf
        else:
            _below(node, last).here = leaf

    def _remove(self, leaf: Leaf) -> None:
        topic_filter = leaf.topic_filter
        if leaf.is_exact:
            del self._exact[topic_filter]
            return
        levels = topic_filter.split(SEPARATOR)
        path = [self._root]
        for level in levels[:-1]:
            path.append(_below(path[-1], level))
        last = levels[-1]
        if last == MULTI_LEVEL:
            path[-1].multi = None
        elif last == SINGLE_LEVEL:
            path[-1].plus_here = None
        else:
            path.append(_below(path[-1], last))
            path[-1].here = None
        self._prune(path, levels)

    def _prune(self, path: list[TrieNode], levels: list[bytes]) -> None:
        """Drop the nodes at the end of a path that lead nowhere any more."""
        for depth in range(len(path) - 1, 0, -1):
            if not path[depth].is_empty():
                return
            above = path[depth - 1]
            if levels[depth - 1] == SINGLE_LEVEL:
                above.plus = None
                continue
            children = above.children
            assert children is not None
            del children[levels[depth - 1]]
            if not children:
                above.children = None

    def _invalidate(self, leaf: Leaf) -> None:
        leaf.merged = False
        if leaf.is_exact:
            self._cache.drop(leaf.topic_filter)
        else:
            self._cache.note_change(leaf.topic_filter)

    def _resolve(self, topic: bytes) -> Targets:
        self.misses += 1
        self.looked_at = 0
        leaves: list[Leaf] = []
        exact = self._exact.get(topic)
        if exact is not None:
            leaves.append(exact)
        if not self._root.is_empty():
            self._match(topic, leaves)
        if len(leaves) == 1 and not self.filtered:
            return leaves[0]
        return self._merge(topic, leaves)

    def _match(self, topic: bytes, leaves: list[Leaf]) -> None:
        levels = topic.split(SEPARATOR)
        root = self._root
        if topic and topic[0] == DOLLAR:
            children = root.children
            child = None if children is None else children.get(levels[0])
            if child is not None:
                self._descend(child, levels, 1, leaves)
            return
        self._descend(root, levels, 0, leaves)

    def _descend(self, node: TrieNode, levels: list[bytes], depth: int, leaves: list[Leaf]) -> None:
        self.looked_at += 1
        multi = node.multi
        if multi is not None:
            leaves.append(multi)
        if depth == len(levels):
            here = node.here
            if here is not None:
                leaves.append(here)
            return
        children = node.children
        if children is not None:
            child = children.get(levels[depth])
            if child is not None:
                self._descend(child, levels, depth + 1, leaves)
        plus_here = node.plus_here
        if plus_here is not None and depth + 1 == len(levels):
            leaves.append(plus_here)
        plus = node.plus
        if plus is not None:
            self._descend(plus, levels, depth + 1, leaves)

    def _merge(self, topic: bytes, leaves: list[Leaf]) -> Targets:
        merged = Targets()
        for leaf in leaves:
            leaf.merged = True
            self.looked_at += leaf.count()
            if self._duplicates:
                part = Targets()
                self._copy(topic, leaf, part)
                if merged.parts is None:
                    merged.parts = []
                merged.parts.append(part)
                merged.not_plain += part.not_plain
            else:
                self._copy(topic, leaf, merged)
        return merged

    def _copy(self, topic: bytes, leaf: Leaf, into: Targets) -> None:
        for receiver, granted in leaf.pairs():
            if not self.filtered or receiver.may_read(topic):
                into.add_highest(receiver, granted)
