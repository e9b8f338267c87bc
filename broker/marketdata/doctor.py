"""What `rowcast feed check` says of market data: queries that are asked again and again, replays, tables of candles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import psycopg
from psycopg import errors, sql

from broker.config.feeds import FeedConfig
from broker.config.market import (
    CALCULATORS,
    Common,
    DepthConfig,
    Intake,
    MarketConfig,
    MarkPriceConfig,
    OfTrades,
    shown_name,
)
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.setup.findings import Finding, fine, unwise, wrong
from broker.feed.setup.steps import feed_role
from broker.marketdata.history import COLUMNS, CREATE, KEYS
from broker.marketdata.intake.polled import ANSWER_TIMEOUT_S, ROWS_MAX, inner_of, statement_of

Connection = psycopg.Connection[Any]

BEGINNINGS: Final = ("select", "with", "values", "table", "(", "--", "/*")
"""Of a query that gives rows."""

READ_ONLY: Final = "SET default_transaction_read_only = on"


def places(config: MarketConfig) -> dict[str, tuple[FeedConfig, list[Intake], bool]]:
    """By title, what is to be looked at over one connection: queries, and whether replays and tables are there, too."""
    found: dict[str, tuple[FeedConfig, list[Intake], bool]] = {}
    for intake in config.intakes:
        if intake.kind == "query":
            found[f"source {intake.feed.name}, kind query"] = (intake.feed, [intake], False)
    kept = any(table.replay or getattr(table, "history", "") for _, table in _tables(config))
    if kept and config.database is not None:
        found["market data"] = (config.database, [], True)
    return found


def examine(connection: Connection, config: MarketConfig, title: str) -> Iterator[Finding]:
    """One of `places`, over an autocommitting connection.  It is left unable to write."""
    feed, intakes, kept = places(config)[title]
    connection.execute(READ_ONLY)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{round(ANSWER_TIMEOUT_S)}s"])
    for intake in intakes:
        yield from _query(connection, config, intake)
    if not kept:
        return
    for name, table in _tables(config):
        if table.replay:
            columns = _columns(connection, table.replay, f"replay of {name}", feed)
            if isinstance(columns, Finding):
                yield columns
            else:
                yield from _wanted(name, table, columns, "the replay") or [
                    fine(f"replay of {name}: can be read")
                ]
        if history := getattr(table, "history", ""):
            yield from _history(connection, name, history, feed)


def _tables(config: MarketConfig) -> list[tuple[str, Common]]:
    return [
        (shown_name(kind, index, table), table)
        for kind in CALCULATORS
        for index, table in enumerate(getattr(config, kind))
    ]


def _query(connection: Connection, config: MarketConfig, intake: Intake) -> Iterator[Finding]:
    columns = _columns(connection, intake.query, "the query", intake.feed)
    if isinstance(columns, Finding):
        yield columns
        return
    problems = [
        wrong(f"key: the query gives no {name}; it gives {', '.join(columns)}", "name columns of the query")
        for name in intake.key
        if name not in columns
    ]
    for name, table in _tables(config):
        if table.from_ == intake.feed.name:
            problems += _wanted(name, table, columns, "the query")
    yield from problems
    if not problems:
        yield from _answer(connection, intake)


def _answer(connection: Connection, intake: Intake) -> Iterator[Finding]:
    """What it gives, and how long it takes."""
    began = time.monotonic()
    try:
        with connection.cursor() as cursor:
            rows = cursor.execute(statement_of(intake)).fetchmany(ROWS_MAX + 1)
    except psycopg.Error as error:
        yield _failed(error, intake.query, "the query", intake.feed)
        return
    took_s = time.monotonic() - began
    if len(rows) > ROWS_MAX:
        yield wrong(f"it gives more than {ROWS_MAX} rows", "let it give what may change only")
    twice = len(rows) - len({key for key, _ in rows})
    if twice:
        what = f"{twice} of {len(rows)} rows have the key of another one, and do not count"
        yield wrong(what, f"let key name columns that identify a row: {', '.join(intake.key)} do not")
    if took_s > intake.every_s:
        what = f"it takes {_shown(took_s)}, and is to be asked every {_shown(intake.every_s)}"
        yield unwise(
            what, "an index, fewer rows, or a longer `every`: until then it is asked without a pause"
        )
    else:
        yield fine(f"{len(rows)} rows in {_shown(took_s)}, asked every {_shown(intake.every_s)}")


def _shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _columns(connection: Connection, query: str, what: str, feed: FeedConfig) -> list[str] | Finding:
    """What a query's rows have; what is wrong with it."""
    try:
        cursor = connection.execute(sql.SQL("SELECT * FROM (") + inner_of(query) + sql.SQL("\n) q LIMIT 0"))
    except psycopg.Error as error:
        return _failed(error, query, what, feed)
    return [column.name for column in cursor.description or ()]


def _failed(error: psycopg.Error, query: str, what: str, feed: FeedConfig) -> Finding:
    text = f"{what}: {first_line(error)}"
    role = text_of(sql.Identifier(feed_role(feed)))
    if isinstance(error, errors.InsufficientPrivilege):
        return wrong(text, f"grant it, such as GRANT SELECT ON TABLE ... TO {role}, and USAGE on its schema")
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName):
        return wrong(text, "create it, or name its schema, too")
    if isinstance(error, errors.UndefinedColumn | errors.UndefinedFunction):
        return wrong(text, "name what is there")
    if isinstance(error, errors.QueryCanceled):
        return wrong(f"{what}: no answer within {ANSWER_TIMEOUT_S:g} s", "an index, or fewer rows")
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return wrong(f"{what}: it writes, each time that it is asked", "let it read only")
    if isinstance(error, errors.SyntaxError) and not query.strip().lower().startswith(BEGINNINGS):
        return wrong(f"{what} is no SELECT", "one that gives rows is wanted, and one statement only")
    return wrong(text, "try it in psql, as this role")


def _wanted(name: str, table: Common, columns: list[str], what: str) -> list[Finding]:
    """Columns that a calculator can't do without."""
    wanted = [table.symbol]
    if isinstance(table, DepthConfig):
        wanted += [table.side, table.price, table.size] if table.shape == "levels" else []
        if table.shape != "levels" and not {table.bids, table.asks, table.changes} & set(columns):
            wanted += [table.bids, table.asks]
        wanted += [table.time] if table.time else []
    elif isinstance(table, OfTrades):
        wanted += [table.price, table.size, *([table.time] if table.time else [])]
    elif isinstance(table, MarkPriceConfig) and table.index is None:
        wanted += [table.mark]
    missing = [column for column in wanted if column not in columns]
    if not missing:
        return []
    text = f"{name} wants {', '.join(missing)}: {what} gives {', '.join(columns) or 'nothing'}"
    return [wrong(text, f"select it, or say in [[market.{name.removeprefix('market.')}]] what it is called")]


def _history(connection: Connection, name: str, table: str, feed: FeedConfig) -> Iterator[Finding]:
    [there] = connection.execute("SELECT to_regclass(%s)::oid", [quoted_name(table)]).fetchall()
    if there[0] is None:
        yield wrong(f"history of {name}: there is no table {table}", CREATE.format(table=quoted_name(table)))
        return
    has = dict(
        connection.execute(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped",
            there,
        ).fetchall()
    )
    missing = [column for column, _ in COLUMNS if column not in has]
    if missing:
        yield wrong(
            f"history of {name}: {table} has no {', '.join(missing)}", CREATE.format(table=quoted_name(table))
        )
        return
    denied = _denied(connection, there[0])
    if denied:
        role = text_of(sql.Identifier(feed_role(feed)))
        yield wrong(
            f"history of {name}: {', '.join(denied)} on {table} is denied",
            f"GRANT {', '.join(denied)} ON {quoted_name(table)} TO {role}",
        )
    keys = sorted(column for column, _ in COLUMNS[:KEYS])
    can_replace = _has_key(connection, there[0], keys)
    if not can_replace:
        yield wrong(
            f"history of {name}: {table} has no primary key of {', '.join(keys)}, by which candles are replaced",
            f'ALTER TABLE {quoted_name(table)} ADD PRIMARY KEY (symbol, "interval", start)',
        )
    if not denied and can_replace:
        yield fine(f"history of {name}: candles are kept in {table}")


def _denied(connection: Connection, table_oid: int) -> list[str]:
    """The rights on a table of candles that this role lacks."""
    query = "SELECT name FROM unnest(%s::text[]) AS name WHERE NOT has_table_privilege(%s::oid, name)"
    return [name for (name,) in connection.execute(query, [["SELECT", "INSERT", "UPDATE"], table_oid])]


def _has_key(connection: Connection, table_oid: int, columns: list[str]) -> bool:
    """Whether there is a unique index of these columns that ON CONFLICT can name.  `columns`: in alphabetical order."""
    query = (
        "SELECT 1 FROM pg_index i WHERE indrelid = %s AND indisunique AND indisvalid AND indimmediate"
        " AND indpred IS NULL AND indexprs IS NULL AND %s ="
        ' (SELECT array_agg(attname::text ORDER BY attname::text COLLATE "C") FROM pg_attribute'
        " WHERE attrelid = indrelid AND attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1]))"
    )
    return bool(connection.execute(query, [table_oid, columns]).fetchall())
