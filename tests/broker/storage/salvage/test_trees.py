"""Pages are found by their parents or by the pointer map: what one of the two has lost, the other still knows."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from broker.storage.connections import create
from broker.storage.salvage.cells import Node
from broker.storage.salvage.pages import NODE, ROOT, Pages
from broker.storage.salvage.salvage import tables
from broker.storage.salvage.trees import UNREADABLE, Trees
from broker.storage.schema import TABLE_NAMES, Row, Value, checked

PAGE = 4096
MESSAGES = 60
SUBSCRIPTIONS = 400


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with a tree by number and one by key, both of several pages."""
    path = tmp_path_factory.mktemp("file") / "rowcast.db"
    create(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        add(connection, "state", [(1, 1_800_000_000.5)])
        messages: list[tuple[Value, ...]] = [
            (number, b"t/%d" % number, bytes(500), 1, 0, b"p", None, 0, b"", 0.0)
            for number in range(1, MESSAGES + 1)
        ]
        add(connection, "message", messages)
        add(connection, "subscription", [(1, b"filter/%d" % number, 1, 0) for number in range(SUBSCRIPTIONS)])
        add(connection, "retained", [(1, 7), (2, 8)])
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


def add(connection: sqlite3.Connection, table: str, rows: list[tuple[Value, ...]]) -> None:
    marks = ", ".join("?" * (len(rows[0]) + 1))
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", [checked(*row) for row in rows])


def trees(data: bytes) -> Trees:
    return Trees(Pages(data, None, None), tables())


def counts(found: Trees) -> dict[str, int]:
    return {name: len(rows) for name, rows in found.rows().items() if rows}


WHOLE = {"state": 1, "message": MESSAGES, "subscription": SUBSCRIPTIONS, "retained": 2}


def pages_of(found: Trees, table: str) -> list[int]:
    return [number for number, (name, _) in found.by_page.items() if name == table]


def parent_of(data: bytes, table: str) -> int:
    """The page whose children all others of a table are."""
    pages = Pages(data, None, None)
    (root,) = [number for number in pages_of(trees(data), table) if pages.mapped(number)[0] == ROOT]
    assert not Node(pages.page(root), False, pages.page).is_leaf
    return root


def overwritten(data: bytes, page: int, by: bytes, at: int = 0) -> bytes:
    start = (page - 1) * PAGE + at
    return data[:start] + by + data[start + len(by) :]


def test_of_a_whole_file_every_row_is_found_and_nothing_is_wrong(data: bytes) -> None:
    found = trees(data)
    assert counts(found) == WHOLE
    assert found.wrong == {}
    assert found.is_ours
    assert set(found.rows()) == set(TABLE_NAMES)


def test_without_the_page_that_names_the_tables_they_are_known_by_their_rows(data: bytes) -> None:
    found = trees(overwritten(data, 1, bytes(PAGE - 100), 100))
    assert counts(found) == WHOLE
    assert not found.is_ours


def test_without_its_pointers_a_page_is_found_by_the_map(data: bytes) -> None:
    for table in ("message", "subscription"):
        parent = parent_of(data, table)
        found = trees(overwritten(data, parent, bytes(PAGE)))
        # The parent of a tree by key holds rows itself.
        lost = 0 if table == "message" else len(trees(data).by_page[parent][1])
        assert counts(found) == {**WHOLE, table: WHOLE[table] - lost}
        assert found.wrong[parent][0] == table


def test_without_the_map_pages_are_found_by_their_parents(data: bytes) -> None:
    found = trees(overwritten(data, 2, bytes(PAGE)))
    assert counts(found) == WHOLE
    assert found.wrong == {}
    assert found.is_ours


@pytest.mark.parametrize("table", ["message", "subscription"])
def test_a_page_that_is_not_what_was_written_costs_its_rows_alone(data: bytes, table: str) -> None:
    whole = trees(data)
    leaf = next(
        number for number in pages_of(whole, table) if Pages(data, None, None).mapped(number)[0] == NODE
    )
    on_it = len(whole.by_page[leaf][1])
    found = trees(overwritten(data, leaf, b"\xff" * 3000, 1000))
    lost = WHOLE[table] - counts(found)[table]
    assert 0 < lost <= on_it
    assert found.wrong == {leaf: (table, lost)}


def test_a_page_whose_kind_is_wrong_is_read_as_its_tables_and_named(data: bytes) -> None:
    leaf = next(
        number
        for number in pages_of(trees(data), "message")
        if Pages(data, None, None).mapped(number)[0] == NODE
    )
    found = trees(overwritten(data, leaf, b"\x0a"))
    assert counts(found) == WHOLE
    assert found.wrong == {leaf: ("message", 0)}


def test_a_page_that_is_not_there_is_named(data: bytes) -> None:
    pages = Pages(data, None, None)
    last = max(number for number in trees(data).by_page if pages.mapped(number)[0] == NODE)
    table = trees(data).by_page[last][0]
    found = trees(data[: (last - 1) * PAGE])
    assert counts(found)[table] < WHOLE[table]
    assert found.wrong.get(last, (table, UNREADABLE)) == (table, UNREADABLE)


def test_rows_of_another_order_than_the_keys_are_remains_of_rows(data: bytes) -> None:
    """The pointer of the second row of a page leads to the first row again."""
    leaf = next(
        number
        for number in pages_of(trees(data), "message")
        if Pages(data, None, None).mapped(number)[0] == NODE
    )
    start = (leaf - 1) * PAGE
    first = data[start + 8 : start + 10]
    found = trees(overwritten(data, leaf, first, 10))
    assert counts(found) == {**WHOLE, "message": MESSAGES - 1}
    assert found.wrong == {leaf: ("message", 1)}


def test_the_state_and_what_is_retained_are_told_apart(data: bytes) -> None:
    """Both have two numbers in a row; without the page of names, the clock tells which is which."""
    found = trees(overwritten(data, 1, bytes(PAGE - 100), 100))
    rows: dict[str, list[Row]] = found.rows()
    assert [row[1] for row in rows["state"]] == [1_800_000_000.5]
    assert [row[1] for row in rows["retained"]] == [7, 8]
