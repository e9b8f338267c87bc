"""Rows are read off a page as SQLite wrote them, and of a page that is not what it wrote, nothing but right rows."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.storage.salvage.cells import (
    LEAF_INDEX,
    LEAF_TABLE,
    Node,
    Unreadable,
    is_right,
    right_rows,
    values_of,
)
from broker.storage.schema import Value, checked, row_checksum

BY_NUMBER = "CREATE TABLE t (number INTEGER PRIMARY KEY, a, b, checksum)"
BY_KEY = "CREATE TABLE t (number INTEGER, a, b, checksum, PRIMARY KEY (number, a)) WITHOUT ROWID"
VALUES: list[Value] = [
    None,
    0,
    1,
    -1,
    127,
    -129,
    32_768,
    -8_388_609,
    2**31,
    -(2**40),
    2**47,
    2**62,
    0.5,
    b"",
    b"x" * 100,
    b"long" * 3000,
]
PAGE = 4096


class File:
    """Pages of a file that SQLite wrote, with one table."""

    def __init__(self, path: Path, table: str, rows: list[tuple[Value, ...]]) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute(table)
            connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [checked(*row) for row in rows])
            connection.commit()
            (self.root,) = connection.execute("SELECT rootpage FROM sqlite_master").fetchone()
        self._data = path.read_bytes()

    def page(self, number: int) -> bytes:
        return self._data[(number - 1) * PAGE : number * PAGE]

    def rows(self) -> Iterator[list[Value]]:
        waiting = [self.root]
        while waiting:
            node = Node(self.page(waiting.pop()), False, self.page)
            yield from values_of(node)
            if not node.is_leaf:
                waiting += [*(cell.child for cell in node.cells), node.right]


@pytest.mark.parametrize("table", [BY_NUMBER, BY_KEY])
def test_every_row_is_read_as_sqlite_has_it(tmp_path: Path, table: str) -> None:
    rows: list[tuple[Value, ...]] = [
        (number, b"%d" % number if one is None and table is BY_KEY else one, other)
        for number, (one, other) in enumerate(((a, b) for a in VALUES for b in VALUES), -20)
    ]
    found = sorted(File(tmp_path / "file", table, rows).rows(), key=lambda row: row[0] or 0)
    assert [tuple(row[:3]) for row in found] == [(row[0] or 0, *row[1:]) for row in rows]
    assert all(map(is_right, found))


@pytest.mark.parametrize("table", [BY_NUMBER, BY_KEY])
def test_of_a_page_with_changed_bytes_only_rows_that_were_written_are_right(
    tmp_path: Path, table: str
) -> None:
    rows: list[tuple[Value, ...]] = [(number, b"a%d" % number, b"b" * number) for number in range(1, 40)]
    file = File(tmp_path / "file", table, rows)
    page = file.page(file.root)
    assert right_rows(page) == len(rows)
    chance = random.Random(1)
    written = {(*row, row_checksum(*row)) for row in rows}
    for _ in range(80):
        at, bit = chance.randrange(PAGE), chance.randrange(8)
        changed = page[:at] + bytes((page[at] ^ 1 << bit,)) + page[at + 1 :]
        try:
            node = Node(changed, False, lambda _: b"", LEAF_TABLE if table is BY_NUMBER else LEAF_INDEX)
        except Unreadable:
            continue
        assert {tuple(row) for row in values_of(node) if is_right(row)} <= written


def test_a_row_that_was_deleted_is_no_row_though_its_bytes_are_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = File(path, BY_NUMBER, [(1, b"a", b"b"), (2, b"gone", b"gone"), (3, b"a", b"b")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM t WHERE number = 2")
        connection.commit()
    page = path.read_bytes()[(file.root - 1) * PAGE : file.root * PAGE]
    assert b"gone" in page
    assert [row[0] for row in values_of(Node(page, False, file.page))] == [1, 3]


def test_a_row_that_was_deleted_is_none_though_the_number_of_rows_says_so(tmp_path: Path) -> None:
    """A bit of the number makes one more of three: the pointer of what was deleted last is still there."""
    path = tmp_path / "file"
    file = File(path, BY_NUMBER, [(1, b"a", b"b"), (2, b"a", b"b"), (3, b"gone", b"gone")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("INSERT INTO t VALUES (0, x'01', x'02', 0)")
        connection.execute("DELETE FROM t WHERE number = 3")
        connection.commit()
    page = bytearray(path.read_bytes()[(file.root - 1) * PAGE : file.root * PAGE])
    assert page[3:5] == b"\x00\x03"
    page[4] = 4
    assert [row[0] for row in values_of(Node(bytes(page), False, file.page))] == [0, 1, 2]


def test_a_long_row_whose_pages_are_gone_or_go_in_a_circle_is_left_out(tmp_path: Path) -> None:
    file = File(tmp_path / "file", BY_NUMBER, [(1, b"a", b"long" * 5000), (2, b"a", b"b")])
    for load in (lambda _: b"", lambda _: (9).to_bytes(4, "big") + b"x" * (PAGE - 4)):
        node = Node(file.page(file.root), False, load)
        assert [row[0] for row in values_of(node)] == [2]
        assert node.expected == 2


@pytest.mark.parametrize("page", [bytes(PAGE), b"\x01" * PAGE, b"\xff" * PAGE])
def test_what_is_no_page_of_a_tree_is_told(page: bytes) -> None:
    with pytest.raises(Unreadable):
        Node(page, False, lambda _: b"")
    assert right_rows(page) == 0


def test_a_page_that_is_not_there_has_no_rows() -> None:
    assert Node(b"", False, lambda _: b"").cells == []


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ([1, b"a", row_checksum(1, b"a")], True),
        ([1, b"b", row_checksum(1, b"a")], False),
        ([row_checksum()], False),
        ([], False),
        ([1, b"a", None], False),
        ([1] * 20, False),
        ([10**400, 5], False),
    ],
)
def test_a_row_is_right_by_its_checksum(values: list[Value], right: bool) -> None:
    assert is_right(values) == right
