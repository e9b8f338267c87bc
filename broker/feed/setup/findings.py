"""What the doctor found, and what the checks of every kind of feed ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from attrs import frozen
from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.sql_text import quoted_name, text_of
from broker.feed.setup.steps import feed_role


@frozen
class Finding:
    """`level` is `fine`, `unwise` (works, but not for long or not well) or `wrong` (does not work)."""

    level: str
    text: str
    cure: str = ""


def fine(text: str) -> Finding:
    """Nothing to do."""
    return Finding("fine", text)


def unwise(text: str, cure: str) -> Finding:
    """It works, and will hurt some day."""
    return Finding("unwise", text, cure)


def wrong(text: str, cure: str) -> Finding:
    """It does not work, or loses rows."""
    return Finding("wrong", text, cure)


def counted(count: int, noun: str) -> str:
    """`1 table`, `2 tables`."""
    return f"{count} {noun}{'s' * (count != 1)}"


@frozen
class Relation:
    """A table as far as feeds care.  `kind`: pg_class.relkind; `identity`: relreplident."""

    kind: str
    is_unlogged: bool
    may_select: bool
    identity: str
    has_primary_key: bool


class Examination:
    """One feed's database, to be asked."""

    def __init__(self, connection: psycopg.Connection[Any], config: FeedConfig) -> None:
        self.connection = connection
        self.config = config
        self.role = feed_role(config)
        self.quoted_role = text_of(sql.Identifier(self.role))
        """For the SQL of a cure."""

    def all(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows that the query gives."""
        return self.connection.execute(query, parameters or None).fetchall()

    def one(self, query: str, *parameters: object) -> tuple[Any, ...]:
        """The first row; () if there is none."""
        rows = self.all(query, *parameters)
        return rows[0] if rows else ()

    def exists(self, name: str) -> bool:
        """Whether there is such a table, view, sequence or index."""
        return bool(self.one("SELECT to_regclass(%s) IS NOT NULL", name)[0])

    def relation(self, table: str) -> Relation | None:
        """What the catalogue says of a table, or None if there is none of that name."""
        query = (
            "SELECT relkind::text, relpersistence = 'u', has_table_privilege(oid, 'SELECT'), relreplident::text,"
            " EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)"
            " FROM pg_class c WHERE oid = to_regclass(%s)"
        )
        row = self.one(query, quoted_name(table))
        return Relation(*row) if row else None


Check = Callable[[Examination], Iterator[Finding]]
"""One question of the doctor's; it changes nothing."""
