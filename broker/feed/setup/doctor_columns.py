"""What the doctor says about columns that routes name: misspelt ones, and those that a row doesn't bring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from broker.config.conditions import parse_condition
from broker.feed.driver.sql_text import quoted_name
from broker.feed.routing.columns_wanted import columns_wanted, missing_text
from broker.feed.routing.tables import appearances
from broker.feed.setup.findings import Examination, Finding, unwise, wrong


def check_columns(examination: Examination) -> Iterator[Finding]:
    """Each column that a topic, a property, `once_per`, `columns` or `where` names is one of the table's."""
    for wanted in columns_wanted(examination.config):
        columns = _columns(examination, wanted.table)
        if not columns:
            continue  # no such table, which is said elsewhere
        if not wanted.is_in(columns):
            yield wrong(missing_text(wanted, columns), f"correct it in {wanted.where}")
            continue
        is_generated, has_members, kind = columns[wanted.column_in(columns)]
        if wanted.name not in columns and not has_members:
            what = f"{wanted.where}: {wanted.column_in(columns)} of {wanted.table} is {kind}, which has no members"
            yield wrong(what, f"leave out what follows the dot in {wanted.name}, or make it jsonb")
        elif examination.config.captures_by == "publication" and is_generated:
            what = f"{wanted.where}: {wanted.name} of {wanted.table} is a generated column, which is not in the WAL"
            yield wrong(what, 'name the columns it is made of, or use kind = "outbox"')
    yield from check_conditions(examination)
    yield from _deleted(examination)


COMPARED_AS: Final = {
    "number": "typcategory = 'N' AND typname NOT IN ('float4', 'money') AND typname NOT LIKE 'reg%%'",
    "text": "(typcategory = 'S' AND typname NOT IN ('bpchar', 'citext') AND coalesce(collisdeterministic, true))"
    " OR typcategory = 'E'",
    "boolean": "typcategory = 'B'",
    "": "true",
}
"""Types whose text decides as Postgres does."""

_COMPARED: Final = (
    "WITH RECURSIVE made_of AS (SELECT atttypid AS oid, format_type(atttypid, atttypmod) AS written, attcollation"
    "  FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped"
    " UNION ALL SELECT typbasetype, written, attcollation FROM made_of JOIN pg_type USING (oid) WHERE typbasetype <> 0)"
    " SELECT {}, written FROM made_of JOIN pg_type t USING (oid) LEFT JOIN pg_collation c ON c.oid = attcollation"
    " WHERE typbasetype = 0"
)
"""Whether a column may be compared as one of them, and its type: of a domain what it is made of decides."""


def check_conditions(examination: Examination) -> Iterator[Finding]:
    """What a route's `where` compares a column with has to be what the column is."""
    config = examination.config
    for appearance in appearances(config):
        for route in filter(appearance.wanted_by, config.routes):
            types = parse_condition(route.condition).types if route.condition else ()
            for name, kind in types:
                query = _COMPARED.format(COMPARED_AS[kind])
                row = examination.one(query, quoted_name(appearance.table), name)
                if row and not row[0]:
                    what = f"{route.where}: where compares {name} of {appearance.table} as {kind}, and it is {row[1]}"
                    yield wrong(what, _CURES[kind])


_CURES: Final = {
    "number": "write text in single quotes; real and money can't be compared here",
    "text": "write numbers without quotes; types beside text, varchar and enums can't be compared here",
    "boolean": "only a boolean stands alone or beside TRUE or FALSE",
}


def misplaced(examination: Examination) -> list[Finding]:
    """What is wrong with `columns` and `where`, which go into the database."""
    found = list(check_conditions(examination))
    for wanted in columns_wanted(examination.config):
        columns = _columns(examination, wanted.table)
        if wanted.use in ("columns", "where") and columns and not wanted.is_in(columns):
            found.append(wrong(missing_text(wanted, columns), f"correct it in {wanted.where}"))
    return found


_COLUMNS: Final = (
    "SELECT a.attname::text, a.attgenerated <> '', t.typcategory = 'C' OR t.typcategory = 'U'"
    " AND t.typname NOT IN ('bytea', 'uuid', 'xml'), format_type(a.atttypid, a.atttypmod)"
    " FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
"""Name, whether it is generated, whether its values may have members, its type."""


def _columns(examination: Examination, table: str) -> dict[str, tuple[bool, bool, str]]:
    return {name: tuple(rest) for name, *rest in examination.all(_COLUMNS, quoted_name(table))}


def _deleted(examination: Examination) -> Iterator[Finding]:
    """Of a deleted row `wal` knows the key; of one that moves to another partition nobody says that it was updated."""
    is_wal = examination.config.captures_by == "publication"
    for wanted in columns_wanted(examination.config):
        if not is_wal or "delete" not in wanted.operations or wanted.use != "topic":
            continue
        relation = examination.relation(wanted.table)
        if relation is None or relation.identity == "f":
            continue
        query = (
            "SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
            " AND a.attnum = ANY (i.indkey::int2[]) WHERE i.indrelid = to_regclass(%s) AND a.attname = %s"
            " AND CASE WHEN %s = 'i' THEN i.indisreplident ELSE i.indisprimary END"
        )
        name = wanted.column_in(_columns(examination, wanted.table))
        if not examination.one(query, quoted_name(wanted.table), name, relation.identity)[0]:
            yield unwise(
                f"{wanted.where}: deletes of {wanted.table} come without {name}, so its topic can't be made",
                f'ALTER TABLE {quoted_name(wanted.table)} REPLICA IDENTITY FULL, or leave out "delete"',
            )
