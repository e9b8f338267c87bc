"""How messages hold their rows: what is read, and what is told of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from support.toml_files import noted, reader_of

from broker.config.market import AddedColumn, RowsConfig
from broker.config.toml.message_rows import MISPLACED, check_unused, rows_config
from broker.config.toml.tables import AddTable, SourceTable

PATH = ("source", "ticks")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, RowsConfig()),
        ({"row": ("$.data", "$.rows[0]")}, RowsConfig((("data",), ("rows", "[0]")))),
        ({"row": ("$",), "columns": ("p", "q")}, RowsConfig(((),), ("p", "q"))),
        ({"format": "csv", "columns": ("p",)}, RowsConfig((), ("p",), "csv")),
        (
            {
                "add": {
                    "s": AddTable(("$.ch", "$.e"), match="book_(.+)", words={"a": "b"}),
                    "v": AddTable(value="x"),
                }
            },
            RowsConfig(
                added=(
                    AddedColumn("s", (("ch",), ("e",)), "", "book_(.+)", {"a": "b"}),
                    AddedColumn("v", value="x"),
                )
            ),
        ),
    ],
)
def test_rows_are_where_it_is_said(table: dict[str, Any], expected: RowsConfig) -> None:
    reader = reader_of()
    assert rows_config(reader, PATH, SourceTable(**table)) == expected
    assert reader.mistakes() == []


WHAT = 'at: a path is wanted, such as "$.channel", or a value that all rows get'


@pytest.mark.parametrize(
    ("table", "mistakes"),
    [
        ({"format": "xml"}, ['format: "json" or "csv" is wanted, not "xml"']),
        ({"format": "csv"}, ["columns is missing: name what stands where in a line"]),
        (
            {"format": "csv", "columns": ("p",), "row": ("$.a",)},
            ["format: lines of csv are rows, without row or kind"],
        ),
        (
            {"format": "csv", "columns": ("p",), "kind": "$.a"},
            ["format: lines of csv are rows, without row or kind"],
        ),
        ({"add": {"s": AddTable()}}, [WHAT]),
        ({"add": {"s": AddTable(("$.a",), value="x")}}, [WHAT]),
        ({"add": {"s": AddTable(("$.a",), match="a")}}, ["match: one group in parentheses is wanted, not 0"]),
        (
            {"add": {"s": AddTable(("$.a",), match="(a)(b)")}},
            ["match: one group in parentheses is wanted, not 2"],
        ),
        (
            {"add": {"s": AddTable(("$.a",), match="(a")}},
            ["match: no regular expression: missing ), unterminated subpattern at position 0"],
        ),
        (
            {"add": {"s": AddTable(("a",))}},
            [
                "s: $ and keys with a point before each are wanted, and places in arrays in brackets,"
                ' such as "$.data[0]"'
            ],
        ),
    ],
)
def test_what_can_t_be_is_told(table: dict[str, Any], mistakes: list[str]) -> None:
    reader = reader_of()
    rows_config(reader, PATH, SourceTable(**table))
    assert noted(reader) == mistakes


@pytest.mark.parametrize(
    ("table", "mistakes"),
    [
        ({"row": ("$.a",), "kind": "$.k"}, []),
        ({"columns": ("p",)}, [f"columns: {MISPLACED}"]),
        ({"add": {"v": AddTable(value="x")}}, [f"add: {MISPLACED}"]),
        ({"format": "csv"}, [f"format: {MISPLACED}"]),
        ({"row": ("$.a", "$.b")}, [f"row: one path is wanted; several are {MISPLACED}"]),
    ],
)
def test_rows_of_postgres_come_as_they_are(table: dict[str, Any], mistakes: list[str]) -> None:
    reader = reader_of()
    check_unused(reader, PATH, SourceTable(**table))
    assert noted(reader) == mistakes
