"""A tree of topic names that is searched by topic filter: the retained messages, and what the match cache knows.

The mirror of `SubscriptionTrie`, which holds filters and is searched by name.
"""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = b"/"
SINGLE_LEVEL: Final = b"+"
MULTI_LEVEL: Final = b"#"
DOLLAR: Final = 0x24
SYS_PREFIX: Final = b"$SYS/"
"""Topics of what the broker says about itself."""
CONTROL_PREFIX: Final = b"$CONTROL/"
"""Topics by which Mosquitto's plugins are spoken to: nothing that is published there goes anywhere."""


class NameNode:
    """One level of a name.  `name` is the whole topic where one ends here."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.children: dict[bytes, NameNode] | None = None


class NameTree:
    """Topic names, in the order in which each level was first seen."""

    def __init__(self) -> None:
        self._root = NameNode()
        self.count = 0

    def add(self, name: bytes) -> None:
        node = self._root
        for level in name.split(SEPARATOR):
            children = node.children
            if children is None:
                children = node.children = {}
            child = children.get(level)
            if child is None:
                child = children[level] = NameNode()
            node = child
        if node.name is None:
            self.count += 1
            node.name = name

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
            siblings = path[depth - 1].children
            assert siblings is not None
            del siblings[levels[depth - 1]]

    def clear(self) -> None:
        self._root = NameNode()
        self.count = 0

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
        for name, child in children.items():
            if depth > 0 or not name or name[0] != DOLLAR:
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
                child
                for name, child in children.items()
                if current is not node or not at_root or not name or name[0] != DOLLAR
            ]
            below.reverse()
            stack.extend(below)
