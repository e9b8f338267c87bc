"""What the doctor says about columns that routes name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import as_kind, said, texts, undone
from support.installed import feed_config, install, sql

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.setup.doctor_columns import check_columns, check_conditions, misplaced
from broker.feed.setup.findings import Examination

ROUTE = Route("tables", ("event/{id}",), where="rowcast.toml:12")


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
@pytest.mark.parametrize(
    ("route", "says"),
    [
        (
            evolve(ROUTE, topics=("event/{nte}",)),
            "rowcast.toml:12: public.event has no column nte; did you mean note?",
        ),
        (evolve(ROUTE, once_per=("ID",)), "rowcast.toml:12: public.event has no column ID; did you mean"),
        (
            evolve(ROUTE, topics=("a/{payload.temp}",)),
            "public.event has no column payload; it has id, note, tags",
        ),
        (evolve(ROUTE, topics=("a/{note.temp}",)), "note of public.event is text, which has no members"),
        (evolve(ROUTE, topics=("a/{tags.temp}/{$kind}",)), ""),
    ],
)
def test_column_that_the_table_lacks_is_named_with_the_right_one(
    dsn: str, kind: str, route: Route, says: str
) -> None:
    sql(dsn, "ALTER TABLE event ADD tags jsonb")
    config = evolve(as_kind(dsn, kind), routes=(route,))
    install(config)
    said = texts(config)
    assert says in said
    assert bool(says) == bool(said), said


def test_generated_column_is_in_no_wal(dsn: str) -> None:
    sql(dsn, "ALTER TABLE event ADD size int GENERATED ALWAYS AS (length(note)) STORED")
    route = evolve(ROUTE, topics=("event/{size}",))
    for kind, says in (("wal", "size of public.event is a generated column"), ("outbox", "")):
        config = feed_config(dsn, kind, routes=(route,))
        install(config)
        assert says in texts(config)
        assert bool(says) == bool(texts(config))


def test_topics_of_deletes_need_what_deletes_bring(dsn: str) -> None:
    route = evolve(ROUTE, topics=("event/{id}/{note}",), operations=("insert", "delete"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert "deletes of public.event come without note" in texts(config, "unwise")
    assert "without id" not in texts(config, "unwise")
    sql(dsn, "ALTER TABLE event REPLICA IDENTITY FULL")
    assert "come without" not in texts(config, "unwise")


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(kept_database) as connection:
        yield connection


def of_table(route: Route, kind: str = "wal", table: str = "public.Odd") -> FeedConfig:
    return feed_config(
        "user=postgres", kind, sources=(Source("tables", (), tables=(table,)),), routes=(route,)
    )


TYPES = {
    "smallint": "number", "bigint": "number", "numeric(10,2)": "number", "double precision": "number", "oid": "number",
    "real": "", "money": "", "regclass": "",
    "text": "text", "character varying(9)": "text", "name": "text", "mood": "text", "letters": "text",
    "character(3)": "", "citext": "", "padded": "", "uuid": "", "date": "", "jsonb": "", "single": "", "nested": "",
    "boolean": "boolean", "truth": "boolean",
}  # fmt: skip
"""Types with what a condition may compare them as; each with NULL, too."""

MADE = """
CREATE TYPE mood AS ENUM ('up', 'down');
CREATE DOMAIN letters AS text;
CREATE DOMAIN padded AS char(3);
CREATE DOMAIN single AS real;
CREATE DOMAIN nested AS padded;
CREATE DOMAIN truth AS boolean;
"""
CITEXT = """
CREATE FUNCTION citext_in(cstring) RETURNS citext LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION citext_out(citext) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE citext (INPUT = citext_in, OUTPUT = citext_out, CATEGORY = 'S', COLLATABLE = true);
"""
"""As the extension makes it, which not every server has here."""


@pytest.mark.parametrize("type_", TYPES)
def test_condition_compares_what_is_decided_by_its_text_as_postgres_decides_it(
    undoing: psycopg.Connection[Any], type_: str
) -> None:
    undoing.execute("SET LOCAL client_min_messages = error")
    undoing.execute(CITEXT if type_ == "citext" else MADE)
    undoing.execute(f'CREATE TABLE "Odd" ("Of" {type_})')
    conditions = {"number": '"Of" > 1', "text": "\"Of\" = 'up'", "boolean": '"Of"', "": '"Of" IS NULL'}
    for kind, condition in conditions.items():
        config = of_table(evolve(ROUTE, topics=("t",), condition=condition))
        found = said(check_conditions, Examination(undoing, config))
        expected = f"rowcast.toml:12: where compares Of of public.Odd as {kind}, and it is {type_}"
        assert [one[:2] for one in found] == ([] if kind in (TYPES[type_], "") else [("wrong", expected)])
        assert [one.text for one in misplaced(Examination(undoing, config))] == [one[1] for one in found]
        assert all(cure for _, _, cure in found)


def test_text_whose_collation_takes_others_for_equal_is_not_compared(
    undoing: psycopg.Connection[Any],
) -> None:
    try:
        undoing.execute("CREATE COLLATION same (provider = icu, locale = 'und', deterministic = false)")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("a server without ICU")
    undoing.execute('CREATE TABLE "Odd" (one text COLLATE same, two text)')
    config = of_table(evolve(ROUTE, topics=("t",), condition="one = 'a' AND two = 'a'"))
    (found,) = said(check_conditions, Examination(undoing, config))
    assert "compares one of" in found[1]


@pytest.mark.parametrize(
    ("changes", "is_misplaced"),
    [
        ({"columns": ("id", "nothing")}, True),
        ({"condition": "nothing = 1"}, True),
        ({"topics": ("t/{nothing}",)}, False),
        ({"once_per": ("nothing",)}, False),
        ({"columns": ("id", "payload")}, False),
        ({"columns": ("payload.temp",)}, True),
    ],
    ids=["columns", "where", "topic", "once", "right", "member"],
)  # fmt: skip
def test_what_goes_into_the_database_is_refused_before_it(
    undoing: psycopg.Connection[Any], changes: dict[str, Any], is_misplaced: bool
) -> None:
    config = of_table(evolve(ROUTE, **({"topics": ("t",), "where": "F:1"} | changes)))
    examination = Examination(undoing, config)
    assert misplaced(examination) == []  # no such table, which is said elsewhere
    undoing.execute('CREATE TABLE "Odd" (id int, payload jsonb)')
    found = misplaced(examination)
    lacking = "payload" if "temp" in str(changes) else "nothing"
    assert [(one.level, one.text.partition(";")[0], one.cure) for one in found] == [
        ("wrong", f"F:1: public.Odd has no column {lacking}", "correct it in F:1")
    ] * is_misplaced


@pytest.mark.parametrize(
    ("type_", "has_members"),
    [
        ("json", True), ("jsonb", True), ("pair", True), ("text", False), ("bytea", False), ("uuid", False),
        ("xml", False), ("int", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_members_are_of_objects(
    undoing: psycopg.Connection[Any], kind: str, type_: str, has_members: bool
) -> None:
    undoing.execute(f'CREATE TYPE pair AS (a int, b int); CREATE TABLE "Odd" (id int, body {type_})')
    examination = Examination(undoing, of_table(evolve(ROUTE, topics=("t/{body.a}/{body}",)), kind))
    (what, cure) = (
        "body of public.Odd is {}, which has no members",
        "leave out what follows the dot in body.a",
    )
    named = "integer" if type_ == "int" else type_
    found = said(check_columns, examination)
    assert [(level, text) for level, text, _ in found] == (
        [] if has_members else [("wrong", f"rowcast.toml:12: {what.format(named)}")]
    )
    assert all(one[2].startswith(cure) for one in found)


@pytest.mark.parametrize(
    ("made", "kind", "topic", "lacking"),
    [
        ("(id int PRIMARY KEY, note text)", "wal", "t/{id}/{note}", "note"),
        ("(id int PRIMARY KEY, note text)", "outbox", "t/{id}/{note}", ""),
        ("(id int PRIMARY KEY, note text); ALTER TABLE \"Odd\" REPLICA IDENTITY FULL", "wal", "t/{note}", ""),
        (
            "(id int PRIMARY KEY, a int NOT NULL UNIQUE);"
            "ALTER TABLE \"Odd\" REPLICA IDENTITY USING INDEX \"Odd_a_key\"",
            "wal", "t/{a}/{id}", "id",
        ),
        ('("a.b" int PRIMARY KEY)', "wal", "t/{a.b}", ""),
        ("(a jsonb, id int PRIMARY KEY)", "wal", "t/{a.b}", "a"),
        ("(id int)", "wal", "t/{id}", "id"),
    ],
    ids=["key", "outbox", "full", "index", "dotted", "member", "no key"],
)  # fmt: skip
def test_topics_of_deletes_are_of_what_identifies_a_row(
    undoing: psycopg.Connection[Any], made: str, kind: str, topic: str, lacking: str
) -> None:
    undoing.execute(f'CREATE TABLE "Odd" {made}')
    config = of_table(evolve(ROUTE, topics=(topic,), operations=("delete",)), kind)
    found = said(check_columns, Examination(undoing, config))
    text = f"rowcast.toml:12: deletes of public.Odd come without {lacking}, so its topic can't be made"
    cure = 'ALTER TABLE "public"."Odd" REPLICA IDENTITY FULL, or leave out "delete"'
    assert found == [("unwise", text, cure)] * bool(lacking)
    inserts = of_table(evolve(ROUTE, topics=(topic,)), kind)
    assert said(check_columns, Examination(undoing, inserts)) == []
