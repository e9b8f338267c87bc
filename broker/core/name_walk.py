"""A walk over the names that a filter matches, a few steps at a time, while names come and go.

Invariant: a name that is there from the walk's beginning to its end is given once; one that comes meanwhile may be.
What a walk holds does not depend on how many names there are.
"""

from __future__ import annotations

from broker.core.name_tree import NameNode, NameTree
from protocol.mqtt.topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL

BELOW = -1
"""The depth of a place behind a `#`: everything there matches."""


class Place:
    """A node that the walk is at, and how far it has come among its children."""

    def __init__(self, node: NameNode, depth: int, level: int) -> None:
        self.node = node
        self.depth = depth
        """In the filter's levels."""
        self.level = level
        """In the tree: how many levels lead to the node."""
        self.begun = False
        self.batch: list[NameNode] = []
        self.position = 0
        self.last_number = -1
        self.end_number = node.next_number
        """What comes behind it came after the walk did, which would never end if it went after that."""

    def next_child(self) -> NameNode | None:
        """The next child of its node that is part of the walk, or None."""
        if self.position >= len(self.batch):
            self.batch = self.node.children_after(self.last_number)
            self.position = 0
            if not self.batch:
                return None
        child = self.batch[self.position]
        if child.number >= self.end_number:
            return None
        self.position += 1
        self.last_number = child.number
        return child


class NameWalk:
    """One walk; gives names in the order of `NameTree.matching`."""

    def __init__(self, names: NameTree, topic_filter: bytes) -> None:
        self._levels = topic_filter.split(SEPARATOR)
        self._root = names.root()
        self._path = [Place(names.root(), 0, 0)]
        self.steps = 0
        """What has been looked at so far: the measure of what the walk costs."""

    def is_over(self) -> bool:
        """Whether every name has been given."""
        return not self._path

    def next_name(self, steps_max: int) -> bytes | None:
        """The next name; None if there is none, or `steps` has reached so many before it was found."""
        path = self._path
        levels = self._levels
        while path and self.steps < steps_max:
            self.steps += 1
            place = path[-1]
            node = place.node
            depth = place.depth
            if depth == BELOW:
                name = self._step_below(place)
                if name is not None:
                    return name
                continue
            if depth == len(levels):
                path.pop()
                if node.name is not None:
                    return node.name
                continue
            level = levels[depth]
            if level in (MULTI_LEVEL, SINGLE_LEVEL):
                child = place.next_child()
                if child is None:
                    path.pop()
                    # "sport/#" also matches "sport" itself, as in Mosquitto after what is below it [MQTT-4.7.1-2]
                    if level == MULTI_LEVEL and node.name is not None:
                        return node.name
                elif child.hidden:
                    continue
                elif child.children is None and (level == MULTI_LEVEL or depth + 1 == len(levels)):
                    if child.name is not None:
                        return child.name
                else:
                    below = BELOW if level == MULTI_LEVEL else depth + 1
                    path.append(Place(child, below, place.level + 1))
                continue
            path.pop()
            children = node.children
            found = None if children is None else children.get(level)
            if found is not None:
                path.append(Place(found, depth + 1, place.level + 1))
        return None

    def _step_below(self, place: Place) -> bytes | None:
        """One step behind a `#`; the name that it led to, if it did."""
        if not place.begun:
            place.begun = True
            if place.node.name is not None:
                return place.node.name
        child = place.next_child()
        if child is None:
            self._path.pop()
        elif child.children is not None:
            self._path.append(Place(child, BELOW, place.level + 1))
        elif child.name is not None:
            return child.name  # most names end where nothing is below: no place is needed there
        return None

    def will_give(self, name_levels: list[bytes]) -> bool:
        """Whether a name is still to come.

        Args:
            name_levels: of a name that the filter matches; it may be there or not.
        """
        node = self._root
        level = 0
        for place in self._path:
            while level < place.level:
                found = _child(node, name_levels, level)
                if found is None:
                    return False
                node = found
                level += 1
            if level == len(name_levels):
                return place.depth != BELOW or not place.begun
            child = _child(node, name_levels, level)
            if child is None:
                return False
            depth = place.depth
            if depth >= 0 and self._levels[depth] not in (MULTI_LEVEL, SINGLE_LEVEL):
                return True  # not looked at yet
            if child.number != place.last_number:
                return place.last_number < child.number < place.end_number
        return False


def _child(node: NameNode, levels: list[bytes], level: int) -> NameNode | None:
    children = node.children
    return None if children is None or level >= len(levels) else children.get(levels[level])
