"""`row`, `columns`, `format` and `add` of a [source.NAME] that is no table: how messages hold their rows."""

from __future__ import annotations

import re

from broker.config.market import AddedColumn, RowsConfig
from broker.config.toml.checks import check_choice, json_path_through_arrays
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader
from broker.config.toml.tables import AddTable, SourceTable

MISPLACED = "only for tcp, udp and mqtt, whose messages may have something around their rows"


def check_unused(reader: Reader, path: Path, table: SourceTable) -> None:
    """A source whose rows come from Postgres, and as they are."""
    for key in ("add", "columns"):
        if getattr(table, key):
            reader.wrong((*path, key), f"{key}: {MISPLACED}")
    if table.format != "json":
        reader.wrong((*path, "format"), f"format: {MISPLACED}")
    if len(table.row) > 1:
        reader.wrong((*path, "row"), f"row: one path is wanted; several are {MISPLACED}")


def rows_config(reader: Reader, path: Path, table: SourceTable) -> RowsConfig:
    """How the messages of a source hold their rows."""
    check_choice(reader, (*path, "format"), table.format, ("json", "csv"))
    if table.format == "csv":
        if not table.columns:
            reader.wrong((*path, "format"), "columns is missing: name what stands where in a line")
        if table.row or table.kind:
            reader.wrong((*path, "format"), "format: lines of csv are rows, without row or kind")
    paths = tuple(json_path_through_arrays(reader, (*path, "row"), text) for text in table.row)
    added = tuple(_added(reader, (*path, "add", name), name, one) for name, one in table.add.items())
    return RowsConfig(paths, table.columns, table.format, added)


def _added(reader: Reader, path: Path, name: str, table: AddTable) -> AddedColumn:
    paths = tuple(json_path_through_arrays(reader, path, text) for text in table.at)
    if bool(table.at) == bool(table.value):
        reader.wrong(path, 'at: a path is wanted, such as "$.channel", or a value that all rows get')
    try:
        groups = re.compile(table.match).groups
    except re.error as error:
        reader.wrong(path, f"match: no regular expression: {error}")
    else:
        if table.match and groups != 1:
            reader.wrong(path, f"match: one group in parentheses is wanted, not {groups}")
    return AddedColumn(name, paths, table.value, table.match, table.words)
