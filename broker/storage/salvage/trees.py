"""Which pages belong to which table, though one of them, or what points to it, is not what was written.

A tree of pages is known twice: parents name their children, and the pointer map names each page's parent.  A page that
one of the two has lost is found by the other; a row counts only when its checksum is right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Set
from typing import Final

from broker.storage.backlog import intact
from broker.storage.salvage.cells import (
    INTERIOR_INDEX,
    INTERIOR_TABLE,
    LEAF_INDEX,
    LEAF_TABLE,
    Fields,
    Node,
    Unreadable,
    is_right,
    values_of,
)
from broker.storage.salvage.pages import FREE, LOST, NODE, ROOT, Pages
from broker.storage.schema import Row, Value, has_types

BY_NUMBER: Final = frozenset({"state", "message", "session", "retained"})
"""Tables whose rows have a number as their key; the others are stored as indexes."""

UNREADABLE: Final = -1
"""In place of a number of rows: the page is not there, or says nothing."""

NODES_MAX: Final = 200
"""Pages that are kept at hand."""

_CLOCK_MIN: Final = 100_000_000
"""No message has a number like that of a Unix time, by which `state` and `retained` are told apart."""


class Trees:
    """The rows of all tables.

    Args:
        pages: of the file.
        tables: of each table, what `sqlite_master` says of it, and how many columns it has.

    Attributes:
        by_page: of each page, whose rows stand there, and those that are as they were written.
        wrong: pages that hold rows which are not: page to table, and how many.
        is_ours: enough of the tables are there to say whose file it is.
    """

    def __init__(self, pages: Pages, tables: Mapping[str, tuple[str, int]]) -> None:
        self.by_page: dict[int, tuple[str, list[Row]]] = {}
        self.wrong: dict[int, tuple[str, int]] = {}
        self._pages = pages
        self._tables = tables
        self._owner: dict[int, str] = {}
        self._nodes: dict[tuple[int, int], Node | None] = {}
        roots = self._roots_by_name()
        self.is_ours = len(roots) > len(tables) // 2
        for name, root in roots.items():
            self._walk(name, root)
        self._find_roots(set(tables) - roots.keys())
        self._find_lost_pages()
        for number, name in self._owner.items():
            self._take(number, name)

    def rows(self) -> dict[str, list[Row]]:
        """By table, the rows that are as they were written."""
        rows: dict[str, list[Row]] = {name: [] for name in self._tables}
        for name, found in self.by_page.values():
            rows[name] += found
        return rows

    def _roots_by_name(self) -> dict[str, int]:
        roots: dict[str, int] = {}
        for fields in self._schema(1, set()):
            if len(fields) != 5:
                continue
            kind, name, _, root, statement = fields
            if kind != "table" or not isinstance(name, str) or not isinstance(root, int):
                continue
            expected = self._tables.get(name)
            if expected is None or statement != expected[0] or not self._is_root_of(name, root):
                continue
            roots[name] = root
        return roots

    def _schema(self, number: int, seen: set[int]) -> Iterator[Fields]:
        seen.add(number)
        for kind in (LEAF_TABLE, INTERIOR_TABLE):
            node = self._node(number, kind)
            if node is None:
                continue
            for cell in node.cells:
                if cell.fields is not None:
                    yield cell.fields
            for child in _children(node):
                if child not in seen and self._is_mapped(child, number):
                    yield from self._schema(child, seen)

    def _is_root_of(self, name: str, root: int) -> bool:
        kind = self._pages.mapped(root)[0]
        if kind == ROOT or (kind == LOST and root <= self._pages.count):
            node = self._node(root)
            if node is None or node.expected == 0 or self._guess(root, {name}) is not None:
                return True  # an empty table says no more of itself
            if self._guess(root, self._tables.keys()) is not None:
                return False
            # Nothing in it is right, or it is an index, whose entries have other columns.
            lengths = {len(cell.fields) for cell in node.cells if cell.fields is not None}
            return not lengths or self._tables[name][1] in lengths
        return self._guess(root, {name}) is not None

    def _find_roots(self, missing: set[str]) -> None:
        for number in range(3, self._pages.count + 1):
            if not missing:
                return
            if number not in self._owner and self._pages.mapped(number)[0] == ROOT:
                name = self._guess(number, missing)
                if name is not None:
                    missing.discard(name)
                    self._walk(name, number)

    def _guess(self, number: int, names: Set[str]) -> str | None:
        """Which of these tables' rows stand under a page."""
        waiting, seen = [number], {number}
        while waiting:
            at = waiting.pop()
            for kind in (LEAF_TABLE, LEAF_INDEX, INTERIOR_INDEX, INTERIOR_TABLE):
                node = self._node(at, kind)
                if node is None:
                    continue
                for values in values_of(node):
                    for name in names:
                        if (name in BY_NUMBER) == (kind == LEAF_TABLE) and self._is_row(name, values, names):
                            return name
                for child in _children(node):
                    if child not in seen and self._is_mapped(child, at):
                        seen.add(child)
                        waiting.append(child)
        return None

    def _is_row(self, name: str, values: list[Value], names: Set[str]) -> bool:
        if not self._is_right(name, values):
            return False
        if names >= {"state", "retained"} and name in ("state", "retained"):
            is_time = isinstance(values[1], float) or (
                isinstance(values[1], int) and (values[1] > _CLOCK_MIN or values[1] == 0)
            )
            return is_time == (name == "state")
        return True

    def _is_right(self, name: str, values: list[Value]) -> bool:
        return len(values) == self._tables[name][1] and is_right(values) and has_types(name, values[:-1])

    def _walk(self, name: str, root: int) -> None:
        """Give a table the pages below a root, as far as they can be reached."""
        self._owner[root] = name
        waiting = [root]
        while waiting:
            parent = waiting.pop()
            for child in self._children(parent, name):
                if child not in self._owner and self._is_child(child, parent):
                    self._owner[child] = name
                    waiting.append(child)

    def _children(self, number: int, name: str) -> list[int]:
        kind = INTERIOR_TABLE if name in BY_NUMBER else INTERIOR_INDEX
        node = self._node(number, kind)
        if node is None:
            return []
        return _children(node)

    def _is_child(self, child: int, parent: int) -> bool:
        """Whether the pointer map agrees, in one of the two things that it says at least."""
        if not 3 <= child <= self._pages.count or self._pages.is_map(child):
            return False
        kind, mapped = self._pages.mapped(child)
        if kind == LOST and mapped == 0:
            return True
        if mapped == parent:
            return kind not in (FREE, ROOT)
        if kind != NODE:
            return False
        node = self._node(mapped)
        return node is None or child not in _children(node)

    def _is_mapped(self, child: int, parent: int) -> bool:
        """Whether the pointer map says the same as the parent, or says nothing."""
        return self._pages.mapped(child) in ((NODE, parent), (LOST, 0))

    def _find_lost_pages(self) -> None:
        """Pages whose parent does not name them any more."""
        for number in range(3, self._pages.count + 1):
            if number in self._owner or self._pages.is_map(number):
                continue
            chain: list[int] = []
            at = number
            while at not in self._owner and at not in chain and self._pages.mapped(at)[0] == NODE:
                chain.append(at)
                at = self._pages.mapped(at)[1]
            name = self._owner.get(at)
            if name is not None:
                for page in chain:
                    self._owner[page] = name

    def _take(self, number: int, name: str) -> None:
        """The rows of one page, by the kind that its table says, if its own says something else."""
        leaf, interior = (LEAF_TABLE, INTERIOR_TABLE) if name in BY_NUMBER else (LEAF_INDEX, INTERIOR_INDEX)
        nodes = [node for kind in (leaf, interior) if (node := self._node(number, kind)) is not None]
        own = self._node(number)
        if not nodes:
            self.wrong[number] = (name, UNREADABLE)
            return
        is_parent = any(self._is_child(child, number) for child in _children(nodes[-1]))
        node = nodes[-1] if is_parent else nodes[0]
        right: list[Row] = []
        saved_from: list[Row] = []
        last: Row | None = None
        for values in values_of(node):
            key = tuple(values[:2])
            if not self._is_right(name, values):
                if name == "backlog":
                    saved_from += intact(values)
                continue
            if last is None or _is_after(key, last):
                last = key
                right.append(tuple(values))
        self.by_page[number] = (name, right + saved_from)
        wanted = 0 if node.kind == INTERIOR_TABLE else node.expected
        if len(right) != wanted:
            self.wrong[number] = (name, abs(wanted - len(right)))
        elif own is None or own.kind != node.kind:
            self.wrong[number] = (name, 0)

    def _node(self, number: int, kind: int = 0) -> Node | None:
        key = (number, kind)
        if key not in self._nodes:
            if len(self._nodes) >= NODES_MAX:
                self._nodes.clear()
            self._nodes[key] = self._read(number, kind)
        return self._nodes[key]

    def _read(self, number: int, kind: int) -> Node | None:
        page = self._pages.page(number)
        if not page or (kind and page[0] == kind):
            return self._node(number) if page else None
        try:
            return Node(page, number == 1, self._pages.page, kind)
        except (Unreadable, IndexError, struct.error):
            return None


def _children(node: Node) -> list[int]:
    return [] if node.is_leaf else [*(cell.child for cell in node.cells), node.right]


def _is_after(key: tuple[Value, ...], last: Row) -> bool:
    try:
        return key > last
    except TypeError:
        return False
