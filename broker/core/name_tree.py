"""A tree of topic names that is searched by topic filter: the retained messages.

The mirror of `SubscriptionTrie`, which holds filters and is searched by name.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL

LISTED_MIN: Final = 256
"""A level with more names than this is walked so many at a time, in a list that all who walk it share."""


class NameNode:
    """One level of a name.  `name` is the whole topic where one ends here."""

    def __init__(self, number: int, hidden: bool) -> None:
        self.name: bytes | None = None
        self.children: dict[bytes, NameNode] | None = None
        self.number = number
        """Among its siblings, in the order in which they came; never given twice."""
        self.hidden = hidden
        """The first level of a name that starts with `$`."""
        self.gone = False
        self.next_number = 0
        self._order: list[NameNode] | None = None
        self._order_gone = 0

    def child(self, level: bytes, hidden: bool) -> NameNode:
        """The child of that level, made if it is not there."""
        children = self.children
        if children is None:
            children = self.children = {}
        child = children.get(level)
        if child is None:
            child = children[level] = NameNode(self.next_number, hidden)
            self.next_number += 1
            if self._order is not None:
                self._order.append(child)
        return child

    def forget_child(self, level: bytes) -> None:
        """The level below has gone, with everything below it."""
        children = self.children
        assert children is not None
        child = children.pop(level)
        child.gone = True
        if not children:
            self.children = None
        order = self._order
        if order is not None:
            self._order_gone += 1
            if 2 * self._order_gone > len(order):
                self._order = None
                self._order_gone = 0

    def children_after(self, number: int) -> list[NameNode]:
        """The next children behind that number, in order; not all of them where they are many."""
        children = self.children
        if children is None:
            return []
        if len(children) <= LISTED_MIN:
            self._order = None
            self._order_gone = 0
            return [child for child in children.values() if child.number > number]
        order = self._order
        if order is None:
            order = self._order = list(children.values())
        found: list[NameNode] = []
        position = _behind(order, number)
        while position < len(order) and len(found) < LISTED_MIN:
            child = order[position]
            if not child.gone:
                found.append(child)
            position += 1
        return found


def _behind(order: list[NameNode], number: int) -> int:
    """The first position whose number is above that one."""
    low = 0
    high = len(order)
    while low < high:
        middle = (low + high) // 2
        if order[middle].number <= number:
            low = middle + 1
        else:
            high = middle
    return low


class NameTree:
    """Topic names, in the order in which each level was first seen."""

    def __init__(self) -> None:
        self._root = NameNode(0, False)
        self.count = 0
        self.levels = 0
        """Of all names; one that several names share counts once."""

    def root(self) -> NameNode:
        """The node above all first levels."""
        return self._root

    def add(self, name: bytes) -> None:
        """Add a topic name; nothing if it is there."""
        node = self._root
        hidden = name[:1] == b"$"
        for level in name.split(SEPARATOR):
            number = node.next_number
            node = node.child(level, hidden)
            if node.number == number:
                self.levels += 1
            hidden = False
        if node.name is None:
            self.count += 1
            node.name = name

    def missing(self, name: bytes) -> int:
        """How many levels a name would add."""
        node = self._root
        levels = name.split(SEPARATOR)
        for depth, level in enumerate(levels):
            child = None if node.children is None else node.children.get(level)
            if child is None:
                return len(levels) - depth
            node = child
        return 0

    def discard(self, name: bytes) -> None:
        """Forget a name, and the levels that led only to it."""
        levels = name.split(SEPARATOR)
        path = [self._root]
        for level in levels:
            children = path[-1].children
            child = None if children is None else children.get(level)
            if child is None:
                return
            path.append(child)
        if path[-1].name is None:
            return
        path[-1].name = None
        self.count -= 1
        for depth in range(len(levels), 0, -1):
            node = path[depth]
            if node.name is not None or node.children:
                return
            path[depth - 1].forget_child(levels[depth - 1])
            self.levels -= 1

    def matching(self, topic_filter: bytes) -> list[bytes]:
        """The names that the filter matches, parents before children.

        As in Mosquitto, `a/#` gives what is below `a` before `a` itself.  A filter that starts with a wildcard
        matches no name that starts with `$` [MQTT-4.7.2-1].
        """
        found: list[bytes] = []
        levels = topic_filter.split(SEPARATOR)
        self._collect(self._root, levels, 0, found)
        return found

    def _collect(self, node: NameNode, levels: list[bytes], depth: int, found: list[bytes]) -> None:
        if depth == len(levels):
            if node.name is not None:
                found.append(node.name)
            return
        level = levels[depth]
        if level == MULTI_LEVEL:
            self._collect_below(node, depth == 0, found)
            if node.name is not None:
                found.append(node.name)
            return
        children = node.children
        if children is None:
            # "sport/#" also matches "sport" itself [MQTT-4.7.1-2]; _collect_below above sees to it.
            return
        if level != SINGLE_LEVEL:
            child = children.get(level)
            if child is not None:
                self._collect(child, levels, depth + 1, found)
            return
        for child in children.values():
            if not child.hidden:
                self._collect(child, levels, depth + 1, found)

    def _collect_below(self, node: NameNode, at_root: bool, found: list[bytes]) -> None:
        # By a stack of our own: a name may have 200 levels, and a compiled frame is not a Python frame.
        stack = [node]
        while stack:
            current = stack.pop()
            if current.name is not None and current is not node:
                found.append(current.name)
            children = current.children
            if children is None:
                continue
            below = [
                child for child in children.values() if current is not node or not at_root or not child.hidden
            ]
            below.reverse()
            stack.extend(below)
