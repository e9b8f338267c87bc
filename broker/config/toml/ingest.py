"""[[mqtt.sink]] of a TOML configuration to an IngestConfig."""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import field, frozen

from broker.config.feeds import FeedConfig
from broker.config.ingest import (
    BYTES_MAX,
    MESSAGES_MAX,
    ROWS_MAX,
    Batch,
    Expression,
    IngestConfig,
    SinkConfig,
    TopicPattern,
    check_name,
    parse_call,
    parse_expression,
    parse_pattern,
)
from broker.config.toml.checks import check_choice
from broker.config.toml.document import Document, array_of
from broker.config.toml.lines import Path
from broker.config.toml.reader import Reader, label

T = TypeVar("T")

ACKNOWLEDGE = ("committed", "received")
ON_CONFLICT = ("nothing", "update")
ON_NULL = ("null", "refuse")


@frozen
class SinkTable:
    """[[mqtt.sink]], but for `columns`, whose keys are anybody's."""

    topics: tuple[str, ...]
    name: str = ""
    table: str = ""
    call: str = ""
    on_conflict: str | None = None
    on_null: str = "null"
    batch: Batch = field(factory=Batch)
    dead_letters: str = ""
    acknowledge: str = "committed"
    max_messages: int = MESSAGES_MAX
    max_bytes: int = BYTES_MAX


def sinks_of(reader: Reader, document: Document, database: FeedConfig | None) -> IngestConfig | None:
    """Every sink; None if there are none, or no database for them."""
    tables = array_of(reader, document, "mqtt", "sink")
    if not tables:
        return None
    if "database" not in document:
        reader.wrong(("mqtt", "sink", 0), "sink without a database: add [database] with its dsn")
    found: list[SinkConfig] = []
    for index, value in enumerate(tables):
        sink = _sink(reader, ("mqtt", "sink", index), value, [one.name for one in found])
        if sink is not None:
            found.append(sink)
    return None if database is None else IngestConfig(database, tuple(found))


def _sink(reader: Reader, path: Path, value: dict[str, Any], taken: list[str]) -> SinkConfig | None:
    table = reader.structure({key: value[key] for key in value if key != "columns"}, SinkTable, path)
    if table is None:
        return None
    patterns = _patterns(reader, path, table)
    levels = patterns[0].names if patterns else ()
    for index, pattern in enumerate(patterns[1:], 1):
        if set(pattern.names) != set(levels):
            what = (
                f"topics: {pattern.text} names other levels than {patterns[0].text}: give all the same names"
            )
            reader.wrong((*path, "topics", index), what)
    function, columns = _values(reader, path, table, value.get("columns"), levels if patterns else None)
    _check(reader, path, table)
    name = _name(reader, path, table, table.name or table.table or function or f"sink {path[-1]}", taken)
    return SinkConfig(
        name,
        patterns,
        table.table,
        function,
        columns,
        table.on_conflict or "",
        table.on_null,
        table.batch,
        table.dead_letters,
        table.acknowledge,
        table.max_messages,
        table.max_bytes,
        reader.where(path),
    )


def _check(reader: Reader, path: Path, table: SinkTable) -> None:
    check_choice(reader, (*path, "on_conflict"), table.on_conflict, ON_CONFLICT)
    check_choice(reader, (*path, "on_null"), table.on_null, ON_NULL)
    check_choice(reader, (*path, "acknowledge"), table.acknowledge, ACKNOWLEDGE)
    if table.call and table.on_conflict is not None:
        reader.wrong((*path, "on_conflict"), "on_conflict: only with a table; a function decides for itself")
    if not 1 <= table.batch.rows <= ROWS_MAX:
        reader.wrong((*path, "batch", "rows"), f"rows: 1 to {ROWS_MAX} is wanted, not {table.batch.rows}")
    for key in ("max_messages", "max_bytes"):
        if getattr(table, key) < 1:
            reader.wrong((*path, key), f"{key}: at least 1 is wanted")
    if table.dead_letters:
        _named(reader, (*path, "dead_letters"), table.dead_letters)


def _name(reader: Reader, path: Path, table: SinkTable, name: str, taken: list[str]) -> str:
    """A name that no sink has yet."""
    if name not in taken:
        return name
    if table.name:
        reader.wrong((*path, "name"), f"name: another sink is called {name}: give each a name of its own")
    return next(f"{name} {number}" for number in range(2, 1 + ROWS_MAX) if f"{name} {number}" not in taken)


def _patterns(reader: Reader, path: Path, table: SinkTable) -> tuple[TopicPattern, ...]:
    found: list[TopicPattern] = []
    for index, text in enumerate(table.topics):
        try:
            found.append(parse_pattern(text))
        except ValueError as error:
            reader.wrong((*path, "topics", index), f"topics: {error}")
    if not table.topics:
        reader.wrong((*path, "topics"), "topics: at least one is wanted")
    return tuple(found)


def _values(
    reader: Reader, path: Path, table: SinkTable, columns: object, levels: tuple[str, ...] | None
) -> tuple[str, tuple[tuple[str, Expression], ...]]:
    """The function, if one is called, and where each value comes from."""
    if bool(table.table) == bool(table.call):
        reader.wrong(
            path, 'sink: one of `table = "schema.table"` and `call = "schema.function(...)"` is wanted'
        )
        return "", ()
    if table.call:
        if columns is not None:
            reader.wrong((*path, "columns"), "columns: only with a table; a function has arguments")
        if levels is None:
            return "", ()
        try:
            return parse_call(table.call, levels)
        except ValueError as error:
            reader.wrong((*path, "call"), f"call: {error}")
            return "", ()
    _named(reader, (*path, "table"), table.table)
    if not isinstance(columns, dict) or not columns:
        reader.wrong(
            (*path, "columns"), 'columns: a table is wanted, such as { device = "{device}", value = "$.v" }'
        )
        return "", ()
    found: list[tuple[str, Expression]] = []
    for name, text in columns.items():
        where = (*path, "columns", name)
        if not isinstance(text, str):
            reader.wrong(where, f'{name}: text in quotes is wanted, such as "{{level}}" or "$.member"')
        elif levels is not None:
            try:
                found.append((name, parse_expression(text, levels)))
            except ValueError as error:
                reader.wrong(where, f"{name}: {error}")
    return "", tuple(found)


def _named(reader: Reader, path: Path, name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        reader.wrong(path, f"{label(path)}: {error}")
