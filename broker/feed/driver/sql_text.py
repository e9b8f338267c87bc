"""Names of a configuration as SQL, and SQL as text.  Pure: needs no connection.

Invariant: what is quoted here and what `to_regclass` finds by it is the same table, whatever its letters are.
"""

from __future__ import annotations

from psycopg import sql


def split_name(name: str) -> tuple[str, str]:
    """Schema, or "", and name of what a configuration writes as `schema.name` or `name`."""
    schema, dot, last = name.partition(".")
    return (schema, last) if dot else ("", name)


def identifier(name: str) -> sql.Identifier:
    """`schema.name`, or `name`, quoted; further dots are the name's."""
    return sql.Identifier(*name.split(".", 1))


def quoted_name(name: str) -> str:
    """The same as text: what `to_regclass` wants, and what may be run as it is shown."""
    return text_of(identifier(name))


def text_of(composed: sql.Composable) -> str:
    """SQL as text."""
    return composed.as_string(None)
