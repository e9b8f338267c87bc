"""How a sink writes: its statement, made from what the database's catalogue says of the table or function.  Pure.

One statement takes any number of rows, as one array of texts for each column; Postgres casts them to the columns'
types, so that a value means what it would mean in any INSERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import field, frozen
from psycopg import sql

from broker.config.ingest import Expression, SinkConfig
from broker.feed.cures import INSTALL_COMMAND
from broker.feed.driver.sql_text import identifier, quoted_name, text_of

TARGET_SQL: Final = """
SELECT to_regclass(%s)::oid::bigint, coalesce(has_table_privilege(to_regclass(%s), 'INSERT'), false),
       pg_relation_is_updatable(to_regclass(%s), true) & 8 <> 0
"""
"""The table, or view; whether this role may insert into it; whether anybody can."""

COLUMNS_SQL: Final = """
SELECT a.attname::text, coalesce(base.typname, t.typname)::text, format_type(a.atttypid, NULL),
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> '' OR a.attidentity = 'a',
       coalesce(a.attnum = ANY (i.indkey), false), has_column_privilege(a.attrelid, a.attnum, 'INSERT'),
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE'), a.attcollation = 0 OR c.collcollate IN ('C', 'POSIX')
           OR c.collname = 'C',
       EXISTS (SELECT FROM pg_index u WHERE u.indrelid = a.attrelid AND u.indisunique AND a.attnum = ANY (u.indkey))
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type base ON base.oid = t.typbasetype
LEFT JOIN pg_collation c ON c.oid = a.attcollation
LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

FUNCTION_SQL: Final = """
SELECT ARRAY(SELECT t.typname::text FROM unnest(p.proargtypes) WITH ORDINALITY AS one(oid, n)
             JOIN pg_type t ON t.oid = one.oid ORDER BY n),
       ARRAY(SELECT format_type(one.oid, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS one(oid, n) ORDER BY n),
       has_function_privilege(p.oid, 'EXECUTE')
FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
WHERE p.proname = %s AND CASE WHEN %s = '' THEN pg_function_is_visible(p.oid) ELSE s.nspname = %s END
  AND p.pronargs = %s AND p.prokind = 'f'
"""

DEAD_COLUMNS: Final = ("received", "sink", "topic", "payload", "client", "qos", "reason")
DEAD_TYPES: Final = ("timestamptz", "text", "text", "bytea", "text", "smallint", "text")

_TEXTS: Final = {"text", "varchar", "bpchar"}
_NUMBERS: Final = {"int2", "int4", "int8", "float4", "float8", "numeric"}
_FITTING: Final[dict[str, set[str]]] = {
    "$qos": _NUMBERS | _TEXTS,
    "$now": {"timestamptz", "timestamp", "date"} | _TEXTS,
    "$retain": {"bool"} | _TEXTS,
    "$client": _TEXTS,
    "$user": _TEXTS,
    "$topic": _TEXTS,
    "$message_id": _TEXTS,
}
"""The types that a name's value can have; what isn't here is for Postgres to decide, message by message."""


@frozen
class Problem:
    """Why a sink can't write, and what would cure it."""

    text: str
    cure: str


@frozen
class Plan:
    """What a writer needs.

    `statement` has a parameter for each column, `types` says what Postgres calls the columns' types inside.
    """

    statement: str = ""
    types: tuple[str, ...] = ()
    values: str = ""
    """Makes the values that `statement` writes, and writes none."""
    newest_id: str = ""
    """Asks for the greatest message id between two; "" where no column has them."""
    dead_letter: str = ""
    problems: tuple[Problem, ...] = field(default=())
    advice: tuple[Problem, ...] = ()


def table_plan(
    config: SinkConfig, target: Sequence[Any], columns: Sequence[Sequence[Any]], dead: Sequence[Any]
) -> Plan:
    """The plan for a table.

    Args:
        target: the row of TARGET_SQL; columns: the rows of COLUMNS_SQL; dead: TARGET_SQL's row of the dead letters.
    """
    if target[0] is None:
        proposed = create_table(config).replace("\n", " ")
        return Plan(problems=(Problem(f"there is no table {config.table}", f"create it: {proposed}"),))
    if not target[2]:
        cure = "name a table, or give the view an INSTEAD OF INSERT trigger"
        return Plan(problems=(Problem(f"nothing can be inserted into {config.table}", cure),))
    known = {row[0]: row for row in columns}
    problems = [*_column_problems(config, known), *_dead_problems(config, dead)]
    keys = [row[0] for row in columns if row[5]]
    if config.on_conflict == "update":
        problems += _key_problems(config, keys)
    if problems:
        return Plan(problems=tuple(problems))
    chosen = [known[name] for name, _ in config.columns]
    newest = ""
    advice: list[Problem] = []
    for (name, one), row in zip(config.columns, chosen, strict=True):
        if one.sole == "$message_id":
            newest = _newest_id(config.table, name)
            if not row[8]:
                cure = f'text COLLATE "C" lets an index find the ids of a client after a restart: {name}'
                advice.append(Problem(f"column {name} has a collation other than C", cure))
    if config.on_conflict == "nothing" and not any(row[9] for row in chosen):
        cure = "give one of its columns a unique index, or leave on_conflict out"
        advice.append(Problem(f"no row of {config.table} ever conflicts with another", cure))
    return Plan(
        _insert(config, chosen, keys),
        tuple(row[1] for row in chosen),
        _values([row[2] for row in chosen]),
        newest,
        dead_letter_statement(config),
        (),
        tuple(advice),
    )


def _key_problems(config: SinkConfig, keys: Sequence[str]) -> list[Problem]:
    """Why a row's key does not say which row it replaces."""
    if not keys:
        cure = "give it one, or leave on_conflict out"
        return [Problem(f"{config.table} has no primary key for on_conflict", cure)]
    missing = [name for name in keys if name not in dict(config.columns)]
    if missing:
        return [
            Problem(f'on_conflict = "update" needs {", ".join(missing)}', "write the whole key in columns")
        ]
    return []


def function_plan(config: SinkConfig, found: Sequence[Sequence[Any]], dead: Sequence[Any]) -> Plan:
    """The plan for a function, `found` being the rows of FUNCTION_SQL."""
    count = len(config.columns)
    problems = _dead_problems(config, dead)
    if not found:
        cure = f"create it, or correct `call`; a procedure can't be called here: {config.function}"
        problems.append(Problem(f"there is no function {config.function} with {count} arguments", cure))
    elif len(found) > 1:
        cure = "give the one that is meant a name of its own"
        problems.append(
            Problem(f"there are {len(found)} functions {config.function} with {count} arguments", cure)
        )
    elif not found[0][2]:
        cure = (
            f"GRANT EXECUTE ON FUNCTION {quoted_name(config.function)} to the feed's role: {INSTALL_COMMAND}"
        )
        problems.append(Problem(f"{config.function} may not be executed", cure))
    if problems:
        return Plan(problems=tuple(problems))
    kinds, types, _ = found[0]
    values = sql.SQL(", ").join([_cast(index, name) for index, name in enumerate(types)])
    call = sql.SQL("SELECT {}({}) FROM {}").format(identifier(config.function), values, _rows(count))
    return Plan(text_of(call), tuple(kinds), _values(types), "", dead_letter_statement(config))


def create_table(config: SinkConfig) -> str:
    """A table that would do, for somebody to look at: types are guessed from what the columns are made of."""
    lines = [f"    {text_of(sql.Identifier(name))} {_guess(one)}" for name, one in config.columns]
    return f"CREATE TABLE IF NOT EXISTS {quoted_name(config.table)} (\n" + ",\n".join(lines) + "\n)"


def create_dead_letters(name: str) -> str:
    """CREATE TABLE for what a sink's table refuses."""
    lines = [f"    {column} {kind} NOT NULL" for column, kind in zip(DEAD_COLUMNS, DEAD_TYPES, strict=True)]
    return f"CREATE TABLE IF NOT EXISTS {quoted_name(name)} (\n" + ",\n".join(lines) + "\n)"


def _guess(one: Expression) -> str:
    guesses = {
        "$payload": "jsonb",
        "$qos": "smallint",
        "$now": "timestamptz",
        "$retain": "boolean",
        "$message_id": 'text COLLATE "C" PRIMARY KEY',
    }
    if one.path is None:
        return guesses.get(one.sole, "text")
    last = str(one.path[-1]) if one.path else ""
    if one.unit or last in ("ts", "at", "time", "timestamp"):
        return "timestamptz"
    return "numeric" if one.path else "jsonb"


def _column_problems(config: SinkConfig, known: dict[str, Sequence[Any]]) -> list[Problem]:
    problems: list[Problem] = []
    written = dict(config.columns)
    for name, one in config.columns:
        row = known.get(name)
        if row is None:
            listed = ", ".join(known)
            problems.append(Problem(f"{config.table} has no column {name}", f"its columns are {listed}"))
            continue
        kind = row[1]
        wanted = _FITTING.get(one.sole)
        if row[4]:
            problems.append(Problem(f"column {name} is generated", "leave it out of columns"))
        elif wanted is not None and kind not in wanted:
            cure = f"a type for it is {' or '.join(sorted(wanted))}"
            problems.append(Problem(f"column {name} is {row[2]}, which {one.text} never is", cure))
        elif one.unit and kind not in {"timestamptz", "timestamp", "date"}:
            cure = f"leave the unit out, or make it timestamptz: {name}"
            problems.append(Problem(f"column {name} is {row[2]}, which is no time", cure))
        elif one.sole == "$payload" and kind in _NUMBERS - {"numeric"}:
            pass  # a bare number is a payload, too
        if not row[6] or (config.on_conflict == "update" and not row[5] and not row[7]):
            right = "INSERT" if not row[6] else "UPDATE"
            cure = f"GRANT {right} ON {quoted_name(config.table)} to the feed's role: {INSTALL_COMMAND}"
            problems.append(Problem(f"column {name} may not be written", cure))
    for name, row in known.items():
        if row[3] and name not in written:
            cure = "write it in columns, or give it a default"
            problems.append(Problem(f"column {name} is NOT NULL and nothing is written to it", cure))
    return problems


def _dead_problems(config: SinkConfig, dead: Sequence[Any]) -> list[Problem]:
    name = config.dead_letters
    if not name:
        return []
    if dead[0] is None:
        return [Problem(f"there is no table {name} for dead letters", f"create it: {INSTALL_COMMAND}")]
    if not dead[1]:
        return [
            Problem(f"{name} may not be written", f"GRANT INSERT ON {quoted_name(name)}: {INSTALL_COMMAND}")
        ]
    return []


def _insert(config: SinkConfig, columns: Sequence[Sequence[Any]], keys: list[str]) -> str:
    names = [row[0] for row in columns]
    count = len(names)
    casts = [_cast(index, row[2]) for index, row in enumerate(columns)]
    head = sql.SQL("INSERT INTO {} ({}) ").format(
        identifier(config.table), sql.SQL(", ").join([sql.Identifier(name) for name in names])
    )
    if config.on_conflict != "update":
        tail = sql.SQL(" ON CONFLICT DO NOTHING" if config.on_conflict else "")
        values = sql.SQL(", ").join(casts)
        return text_of(head + sql.SQL("SELECT {} FROM {}").format(values, _rows(count)) + tail)
    # The last of each key in this batch: one statement can't change a row twice.
    typed = sql.SQL(", ").join(
        [sql.SQL("{} AS {}").format(cast, _value(index)) for index, cast in enumerate(casts)]
    )
    key_values = sql.SQL(", ").join([_value(names.index(key)) for key in keys])
    select = sql.SQL(
        "SELECT DISTINCT ON ({}) {} FROM (SELECT {}, n FROM {}) AS typed ORDER BY {}, n DESC"
    ).format(
        key_values,
        sql.SQL(", ").join([_value(index) for index in range(count)]),
        typed,
        _rows(count, is_numbered=True),
        key_values,
    )
    changed = [name for name in names if name not in keys]
    assignments = sql.SQL(", ").join(
        [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in changed]
    )
    key_names = sql.SQL(", ").join([sql.Identifier(key) for key in keys])
    action = sql.SQL("UPDATE SET {}").format(assignments) if changed else sql.SQL("NOTHING")
    return text_of(head + select + sql.SQL(" ON CONFLICT ({}) DO {}").format(key_names, action))


def _values(kinds: Sequence[str]) -> str:
    made = sql.SQL(", ").join(
        [sql.SQL("max(num_nulls({}))").format(_cast(index, kind)) for index, kind in enumerate(kinds)]
    )
    return text_of(sql.SQL("SELECT {} FROM {}").format(made, _rows(len(kinds))))


def _value(index: int) -> sql.Identifier:
    return sql.Identifier(f"v{index}")


def _cast(index: int, kind: str) -> sql.Composed:
    # Without length or precision, so that the column's own decides, and refuses instead of cutting off.
    return sql.SQL("CAST(given.{} AS " + kind.replace("{", "{{").replace("}", "}}") + ")").format(
        _value(index)
    )


def _rows(count: int, is_numbered: bool = False) -> sql.Composed:
    arrays = sql.SQL(", ").join([sql.SQL("${}::text[]".replace("{}", str(n + 1))) for n in range(count)])
    names = [*(_value(index) for index in range(count)), *([sql.Identifier("n")] if is_numbered else [])]
    numbered = sql.SQL(" WITH ORDINALITY" if is_numbered else "")
    return sql.SQL("unnest({}){} AS given({})").format(arrays, numbered, sql.SQL(", ").join(names))


def _newest_id(table: str, column: str) -> str:
    return text_of(
        sql.SQL(
            'SELECT max({0} COLLATE "C") FROM {1} WHERE {0} COLLATE "C" >= $1 AND {0} COLLATE "C" < $2'
        ).format(sql.Identifier(column), identifier(table))
    )


def dead_letter_statement(config: SinkConfig) -> str:
    """INSERT of one dead letter; "" where the sink keeps none."""
    if not config.dead_letters:
        return ""
    names = sql.SQL(", ").join([sql.Identifier(name) for name in DEAD_COLUMNS])
    values = sql.SQL(", ").join([_cast(index, kind) for index, kind in enumerate(DEAD_TYPES)])
    return text_of(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
            identifier(config.dead_letters), names, values, _rows(len(DEAD_COLUMNS))
        )
    )
