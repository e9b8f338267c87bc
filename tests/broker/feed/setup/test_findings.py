"""How the checks of every kind ask a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from support.doctored import undone
from support.installed import feed_config

from broker.feed.setup.findings import Examination, Finding, Relation, fine, unwise, wrong


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(kept_database) as connection:
        yield connection


def test_findings_are_of_three_levels_and_what_is_fine_has_no_cure() -> None:
    assert fine("a") == Finding("fine", "a", "")
    assert unwise("a", "b") == Finding("unwise", "a", "b")
    assert wrong("a", "b") == Finding("wrong", "a", "b")


def test_questions_are_answered_with_rows_or_the_first_or_none(
    undoing: psycopg.Connection[Any],
) -> None:
    examination = Examination(undoing, feed_config("user=somebody"))
    assert examination.role == "somebody"
    assert examination.all("SELECT n FROM generate_series(1, %s) AS n", 2) == [(1,), (2,)]
    assert examination.one("SELECT n FROM generate_series(7, 9) AS n") == (7,)
    assert examination.one("SELECT 1 WHERE false") == ()
    # Without parameters a per cent sign is one.
    assert examination.one("SELECT 'a' LIKE '%'") == (True,)


@pytest.mark.parametrize(
    ("name", "exists"), [("thing", True), ("thing_pkey", True), ("nothing", False), ("no.schema", False)]
)
def test_whether_something_of_a_name_is_there(
    undoing: psycopg.Connection[Any], name: str, exists: bool
) -> None:
    undoing.execute("CREATE TABLE thing (id int PRIMARY KEY)")
    assert Examination(undoing, feed_config("")).exists(name) is exists


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("TABLE odd.\"Thing\" (id int PRIMARY KEY)", Relation("r", False, True, "d", True)),
        ("TABLE odd.\"Thing\" (id int UNIQUE)", Relation("r", False, True, "d", False)),
        ("UNLOGGED TABLE odd.\"Thing\" (id int)", Relation("r", True, True, "d", False)),
        ("TEMPORARY VIEW \"Thing\" AS SELECT 1", None),
        ("VIEW odd.\"Thing\" AS SELECT 1", Relation("v", False, True, "n", False)),
        ("TABLE odd.\"Thing\" (id int PRIMARY KEY) PARTITION BY RANGE (id)", Relation("p", False, True, "d", True)),
    ],
    ids=["keyed", "unkeyed", "unlogged", "elsewhere", "view", "partitioned"],
)  # fmt: skip
def test_what_the_catalogue_says_of_a_table(
    undoing: psycopg.Connection[Any], made: str, expected: Relation | None
) -> None:
    undoing.execute("CREATE SCHEMA odd")
    undoing.execute(f"CREATE {made}")
    assert Examination(undoing, feed_config("")).relation("odd.Thing") == expected


def test_table_that_may_not_be_read_is_known_as_such(undoing: psycopg.Connection[Any]) -> None:
    undoing.execute("CREATE TABLE thing (id int); ALTER TABLE thing REPLICA IDENTITY FULL; CREATE ROLE blind")
    undoing.execute("SET LOCAL ROLE blind")
    assert Examination(undoing, feed_config("")).relation("public.thing") == Relation(
        "r", False, False, "f", False
    )
