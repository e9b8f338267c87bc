"""A changed row to its JSON: of inserts, updates with what they didn't touch, and deletes as far as they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.feed.wal.relations import Relations, RowColumns, Table, full_name
from protocol.pgjson import TypeEntry
from protocol.pgoutput import (
    DELETE,
    INSERT,
    KEY,
    UNCHANGED,
    UPDATE,
    WHOLE,
    Column,
    Columns,
    Relation,
    RowChange,
)

RELATION = Relation(
    20_000,
    "public",
    "event",
    "d",
    (Column("id", 20, key=True), Column("note", 25), Column("done", 16), Column("tags", 1009)),
)
CATALOG = {1009: TypeEntry(0, 25, b",", None, False)}
ROW: Columns = [b"1", b'a"b', b"t", b"{x,y}"]


def columns_of(columns: RowColumns, *names: str) -> dict[str, Any]:
    return {name: columns[name] for name in names}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (RowChange(INSERT, 1, ROW), {"id": 1, "note": 'a"b', "done": True, "tags": ["x", "y"]}),
        (
            RowChange(INSERT, 1, [b"1", None, b"f", None]),
            {"id": 1, "note": None, "done": False, "tags": None},
        ),
        (
            RowChange(UPDATE, 1, [b"1", UNCHANGED, b"f", b"{}"], WHOLE, ROW),
            {"id": 1, "note": 'a"b', "done": False, "tags": []},
        ),
        (RowChange(UPDATE, 1, [b"1", UNCHANGED, b"f", b"{}"]), {"id": 1, "done": False, "tags": []}),
        (
            RowChange(UPDATE, 1, [b"2", b"x", b"f", b"{}"], KEY, [b"1", None, None, None]),
            {"id": 2, "note": "x", "done": False, "tags": []},
        ),
        (RowChange(DELETE, 1, None, KEY, [b"1", None, None, None]), {"id": 1}),
        (RowChange(DELETE, 1, None, WHOLE, ROW), {"id": 1, "note": 'a"b', "done": True, "tags": ["x", "y"]}),
    ],
)
def test_the_row_that_the_change_left_behind(change: RowChange, expected: dict[str, Any]) -> None:
    text, columns = Table(RELATION, CATALOG).render(change)
    assert json.loads(text) == expected
    routed = {name: str(value) if name == "id" else value for name, value in expected.items()}
    assert columns_of(columns, *expected) == routed, "numbers stay texts"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (RowChange(UPDATE, 1, [b"1", UNCHANGED, b"f", b"{}"]), "note"),
        (RowChange(DELETE, 1, None, KEY, [b"1", None, None, None]), "note"),
        (RowChange(INSERT, 1, ROW), "other"),
    ],
)
def test_a_column_that_is_not_there_is_no_null(change: RowChange, name: str) -> None:
    _, columns = Table(RELATION, CATALOG).render(change)
    with pytest.raises(KeyError):
        columns[name]


def test_bytes_that_are_no_text_do_not_stop_a_row() -> None:
    _, columns = Table(RELATION, CATALOG).render(RowChange(INSERT, 1, [b"1", b"\xff", b"t", None]))
    assert columns["note"] == "\udcff"


def test_a_table_is_called_as_it_was_when_its_rows_were_written() -> None:
    assert full_name(RELATION) == "public.event"
    assert Table(RELATION, CATALOG).name == "public.event"
    assert Table(RELATION, CATALOG, "public.former").name == "public.former"


def test_types_of_users_are_asked_for_each_time_and_the_server_s_once() -> None:
    relations = Relations()
    relation = Relation(20_000, "public", "t", "d", (Column("a", 20), Column("b", 3904), Column("c", 16_500)))
    assert relations.unknown_types(relation) == [3904, 16_500]
    entry = TypeEntry(0, 0, b",", None, False)
    relations.learn(relation, {3904: entry, 16_500: entry})
    assert relations.unknown_types(relation) == [16_500]
    assert relations.own_types == {16_500: entry}


def test_the_last_description_counts() -> None:
    relations = Relations()
    assert not relations.knows(20_000)
    first = relations.learn(RELATION, {})
    assert relations.table(20_000) is first
    second = relations.learn(RELATION, {}, "public.former")
    assert relations.table(20_000) is second
    assert relations.knows(20_000)
