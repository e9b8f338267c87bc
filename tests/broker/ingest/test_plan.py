"""What a sink writes, by what the catalogue says of its table; and what is told where it can't.  Without a database."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from broker.config.ingest import SinkConfig, parse_call, parse_expression, parse_pattern
from broker.ingest.plan import (
    create_dead_letters,
    create_table,
    dead_letter_statement,
    function_plan,
    table_plan,
)

PATTERN = parse_pattern("t/{device}")
TABLE = (1, True, True)
NO_DEAD = (None, False, False)


def sink(columns: dict[str, str], **more: Any) -> SinkConfig:
    written = tuple((name, parse_expression(text, PATTERN.names)) for name, text in columns.items())
    return SinkConfig("s", (PATTERN,), **{"table": "public.t", "columns": written, **more})


def column(
    name: str,
    kind: str = "text",
    *,
    is_needed: bool = False,
    is_generated: bool = False,
    is_key: bool = False,
    may_insert: bool = True,
    may_update: bool = True,
    is_c: bool = True,
    is_unique: bool = False,
) -> tuple[Any, ...]:
    """A row of COLUMNS_SQL."""
    return (
        name,
        kind,
        kind,
        is_needed,
        is_generated,
        is_key,
        may_insert,
        may_update,
        is_c,
        is_unique or is_key,
    )


DEVICE_AND_V = {"device": "{device}", "v": "$.v"}


@pytest.mark.parametrize(("on_conflict", "tail"), [("", ""), ("nothing", " ON CONFLICT DO NOTHING")])
def test_any_number_of_rows_is_one_insert_of_arrays(on_conflict: str, tail: str) -> None:
    config = sink(DEVICE_AND_V, on_conflict=on_conflict)
    plan = table_plan(config, TABLE, [column("device", is_unique=True), column("v", "numeric")], NO_DEAD)
    assert (plan.problems, plan.types) == ((), ("text", "numeric"))
    assert plan.statement == (
        'INSERT INTO "public"."t" ("device", "v") SELECT CAST(given."v0" AS text), CAST(given."v1" AS numeric)'
        ' FROM unnest($1::text[], $2::text[]) AS given("v0", "v1")' + tail
    )
    assert plan.values == (
        'SELECT max(num_nulls(CAST(given."v0" AS text))), max(num_nulls(CAST(given."v1" AS numeric)))'
        ' FROM unnest($1::text[], $2::text[]) AS given("v0", "v1")'
    )


def test_of_rows_with_one_key_the_last_counts_and_the_rest_of_it_is_updated() -> None:
    config = sink(DEVICE_AND_V, on_conflict="update")
    plan = table_plan(config, TABLE, [column("device", is_key=True), column("v")], NO_DEAD)
    assert 'SELECT DISTINCT ON ("v0")' in plan.statement
    assert 'ORDER BY "v0", n DESC ON CONFLICT ("device") DO UPDATE SET "v" = excluded."v"' in plan.statement
    alone = table_plan(
        sink({"device": "{device}"}, on_conflict="update"), TABLE, [column("device", is_key=True)], NO_DEAD
    )
    assert alone.statement.endswith('ON CONFLICT ("device") DO NOTHING')


def test_names_are_quoted_whatever_is_in_them() -> None:
    plan = table_plan(
        sink({'a"b{}': "{device}"}, table='my.ta"ble'), TABLE, [column('a"b{}', "my{type}")], NO_DEAD
    )
    assert plan.statement.startswith(
        'INSERT INTO "my"."ta""ble" ("a""b{}") SELECT CAST(given."v0" AS my{type})'
    )


@pytest.mark.parametrize(
    ("columns", "known", "more", "problem"),
    [
        ({"x": "{device}"}, [column("y")], {}, "public.t has no column x"),
        ({"x": "{$qos}"}, [column("x", "bool")], {}, "column x is bool, which {$qos} never is"),
        ({"x": "{$retain}"}, [column("x", "int4")], {}, "column x is int4, which {$retain} never is"),
        ({"x": "$.t ms"}, [column("x", "text")], {}, "column x is text, which is no time"),
        ({"x": "$.t"}, [column("x", is_generated=True)], {}, "column x is generated"),
        ({"x": "$.t"}, [column("x", may_insert=False)], {}, "column x may not be written"),
        (
            {"x": "$.t"},
            [column("x"), column("y", is_needed=True)],
            {},
            "column y is NOT NULL and nothing is written to it",
        ),
        ({"x": "$.t"}, [column("x")], {"on_conflict": "update"}, "public.t has no primary key for on_conflict"),
        (
            {"x": "$.t"},
            [column("x"), column("k", is_key=True)],
            {"on_conflict": "update"},
            'on_conflict = "update" needs k',
        ),
        (
            {"k": "{device}", "x": "$.t"},
            [column("k", is_key=True), column("x", may_update=False)],
            {"on_conflict": "update"},
            "column x may not be written",
        ),
        ({"x": "$.t"}, [column("x")], {"dead_letters": "dead"}, "there is no table dead for dead letters"),
    ],
)  # fmt: skip
def test_what_the_table_lacks_is_told_with_a_cure(
    columns: dict[str, str], known: list[tuple[Any, ...]], more: dict[str, Any], problem: str
) -> None:
    plan = table_plan(sink(columns, **more), TABLE, known, NO_DEAD)
    assert [one.text for one in plan.problems] == [problem]
    assert all(one.cure for one in plan.problems)
    assert plan.statement == ""


def test_a_key_need_not_be_updatable() -> None:
    known = [column("k", is_key=True, may_update=False), column("x")]
    assert (
        table_plan(sink({"k": "{device}", "x": "$.t"}, on_conflict="update"), TABLE, known, NO_DEAD).problems
        == ()
    )


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ((None, False, None), "there is no table public.t"),
        ((1, True, False), "nothing can be inserted into public.t"),
    ],
)
def test_a_table_that_is_none_is_told(target: tuple[Any, ...], text: str) -> None:
    [problem] = table_plan(sink(DEVICE_AND_V), target, [], NO_DEAD).problems
    assert problem.text == text


def test_dead_letters_may_be_refused() -> None:
    config = sink({"x": "$.t"}, dead_letters="dead")
    [problem] = table_plan(config, TABLE, [column("x")], (1, False, True)).problems
    assert problem.text == "dead may not be written"
    assert table_plan(config, TABLE, [column("x")], TABLE).dead_letter.startswith(
        'INSERT INTO "dead" ("received"'
    )
    assert dead_letter_statement(sink(DEVICE_AND_V)) == ""


def test_ids_are_looked_for_by_an_index_only_in_the_c_collation() -> None:
    config = sink({"id": "{$message_id}"}, on_conflict="nothing")
    good = table_plan(config, TABLE, [column("id", is_key=True)], NO_DEAD)
    assert good.advice == ()
    assert good.newest_id == (
        'SELECT max("id" COLLATE "C") FROM "public"."t" WHERE "id" COLLATE "C" >= $1 AND "id" COLLATE "C" < $2'
    )
    other = table_plan(config, TABLE, [column("id", is_c=False)], NO_DEAD)
    assert [one.text for one in other.advice] == [
        "column id has a collation other than C",
        "no row of public.t ever conflicts with another",
    ]
    assert other.statement


CALL = parse_call("app.f(topic, $.v)", PATTERN.names)[1]
CALLS = evolve(sink({}), table="", function="app.f", columns=CALL)


def test_a_function_is_called_once_for_each_message() -> None:
    plan = function_plan(CALLS, [(["text", "numeric"], ["text", "numeric"], True)], NO_DEAD)
    assert plan.statement == (
        'SELECT "app"."f"(CAST(given."v0" AS text), CAST(given."v1" AS numeric))'
        ' FROM unnest($1::text[], $2::text[]) AS given("v0", "v1")'
    )
    assert plan.types == ("text", "numeric")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], "there is no function app.f with 2 arguments"),
        ([(["text"], ["text"], True)] * 2, "there are 2 functions app.f with 2 arguments"),
        ([(["text"], ["text"], False)], "app.f may not be executed"),
    ],
)
def test_a_function_that_can_t_be_called_is_told(found: list[Any], text: str) -> None:
    [problem] = function_plan(CALLS, found, NO_DEAD).problems
    assert problem.text == text


def test_a_table_is_proposed_by_what_its_columns_are_made_of() -> None:
    columns = {
        "id": "{$message_id}", "n": "{$qos}", "device": "{device}", "whole": "$", "v": "$.v", "at": "$.x s",
        "ts": "$.ts",
        "body": "{$payload}", "kept": "{$retain}", "now": "{$now}", "text": "a-{device}",
    }  # fmt: skip
    text = create_table(sink(columns))
    assert text.splitlines()[0] == 'CREATE TABLE IF NOT EXISTS "public"."t" ('
    kinds = [line.strip(" ,").partition(" ")[2] for line in text.splitlines()[1:-1]]
    assert kinds == [
        'text COLLATE "C" PRIMARY KEY', "smallint", "text", "jsonb", "numeric", "timestamptz", "timestamptz", "jsonb",
        "boolean", "timestamptz", "text",
    ]  # fmt: skip


def test_a_table_for_dead_letters_has_a_column_for_all_that_is_known() -> None:
    text = create_dead_letters("dead")
    assert text.count("NOT NULL") == 7
    assert "payload bytea NOT NULL" in text
