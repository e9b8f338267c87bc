"""How names of a configuration become SQL."""

from __future__ import annotations

import pytest
from psycopg import sql

from broker.feed.driver.sql_text import quoted_name, split_name, text_of


@pytest.mark.parametrize(
    ("name", "written", "parts"),
    [
        ("a.B", '"a"."B"', ("a", "B")),
        ("a", '"a"', ("", "a")),
        ("a.b.c", '"a"."b.c"', ("a", "b.c")),
        ('a."', '"a".""""', ("a", '"')),
    ],
    ids=["two parts", "one", "three", "quote"],
)
def test_what_follows_the_first_dot_is_the_name(name: str, written: str, parts: tuple[str, str]) -> None:
    assert quoted_name(name) == written
    assert split_name(name) == parts


def test_sql_is_text_without_a_connection() -> None:
    assert text_of(sql.SQL("GRANT {} TO {}").format(sql.SQL("SELECT"), sql.Identifier('o"d'))) == (
        'GRANT SELECT TO "o""d"'
    )
