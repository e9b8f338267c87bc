"""What the publications of a `wal` feed hold, and keep in."""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.columns_and_rows import ROUTE, TABLE, has_lists
from support.doctored import texts
from support.installed import connect, feed_config, install, sql

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.setup.install_publications import publications_statement, routes_of


def published(config: FeedConfig) -> dict[str, tuple[str, str | None]]:
    with connect(config.dsn) as connection:
        query = "SELECT pubname::text, attnames::text, rowfilter FROM pg_publication_tables ORDER BY 1"
        return {name: (columns, rows) for name, columns, rows in connection.execute(query).fetchall()}


def test_they_are_kept_out_of_the_publications_where_postgres_can(database: str) -> None:
    config = feed_config(database, routes=(evolve(ROUTE, operations=("insert", "update")),))
    sql(config.dsn, TABLE)
    install(config)
    found = published(config)
    if not has_lists(config):
        return
    condition = "((status = 'open'::text) AND (amount > (10)::numeric))"
    assert found == {
        "rowcast_test": ("{id,status,amount}", condition),
        "rowcast_test_update": ("{id,status,amount}", None),
    }
    said = texts(config, "fine")
    assert "of public.event id, status, amount are published, and not password_hash" in said
    assert f"only rows are published where {condition}" in said
    sql(
        config.dsn,
        "INSERT INTO event VALUES (1, 'a', 1, 'x')",
        "UPDATE event SET password_hash = 'y'",
        "DELETE FROM event",
    )


def test_what_was_kept_out_begins_to_flow_only_with_widen(database: str) -> None:
    narrow = feed_config(database, routes=(ROUTE,))
    sql(narrow.dsn, TABLE)
    if not has_lists(narrow):
        pytest.skip("no lists of columns before PostgreSQL 15")
    install(narrow)
    before = published(narrow)
    install(narrow)
    assert published(narrow) == before
    wider = evolve(narrow, routes=(evolve(ROUTE, columns=("id", "status", "password_hash")),))
    with pytest.raises(psycopg.errors.RaiseException, match="install with --widen"):
        install(wider)
    other_rows = evolve(narrow, routes=(evolve(ROUTE, condition="status = 'shut' and amount > 0"),))
    with pytest.raises(psycopg.errors.RaiseException, match="install with --widen"):
        install(other_rows)
    assert published(narrow) == before
    everything = evolve(narrow, routes=(evolve(ROUTE, columns=(), condition=""),))
    install(everything)
    assert published(narrow) == before
    install(wider, widen=True)
    assert published(narrow)["rowcast_test"][0] == "{id,status,amount,password_hash}"
    install(everything, widen=True)
    columns, rows = published(narrow)["rowcast_test"]
    assert (columns.startswith("{id,status,amount,password_hash"), rows) == (True, None)


SOURCE = Source("tables", (), tables=("public.it's", "public.other"))


def spec(*routes: Route, widen: bool = False) -> dict[str, Any]:
    """What the statement is told."""
    config = feed_config("dbname=shop", sources=(SOURCE,), routes=routes)
    found = re.search(r"jsonb := +E?'(.*?)';\n", publications_statement(config, widen))
    assert found is not None
    return dict(json.loads(found[1].replace("''", "'").replace("\\\\", "\\")))


def test_publications_are_one_for_each_operation() -> None:
    told = spec(Route("tables", ("t/{id}",), kind="public.it's", operations=("delete", "update")), widen=True)
    assert (told["widen"], spec()["widen"]) == (True, False)
    assert [(one["name"], one["operation"]) for one in told["publications"]] == [
        ("rowcast_test", "insert"),
        ("rowcast_test_update", "update"),
        ("rowcast_test_delete", "delete"),
    ]
    ((name, operations),) = [(table["name"], table["operations"]) for table in told["tables"]]
    assert (name, operations) == ('"public"."it\'s"', ["update", "delete"])


IS_OPEN = "\"status\" = 'open'"
OPEN = Route("tables", ("t/{id}",), kind="public.it's", columns=("id",), condition="status = 'open'")


@pytest.mark.parametrize(
    ("routes", "columns", "condition", "asked"),
    [
        ((OPEN,), ["id", "status"], IS_OPEN, ["status"]),
        ((OPEN, evolve(OPEN, condition="")), ["id", "status"], None, ["status"]),
        ((OPEN, evolve(OPEN, columns=())), None, IS_OPEN, ["status", "status"]),
        ((evolve(OPEN, operations=("update",)),), ["id", "status"], None, []),
        ((OPEN, evolve(OPEN, operations=("update",), condition="")), ["id", "status"], IS_OPEN, ["status"]),
        ((OPEN, evolve(OPEN, kind="public.other", columns=(), condition="")), ["id", "status"], IS_OPEN, ["status"]),
        ((evolve(OPEN, topics=("t/{body.at}",), condition=""),), ["body.at", "body", "id"], None, []),
        ((evolve(OPEN, once_per=("key",), condition=""),), ["id", "key"], None, []),
    ],
    ids=["one", "one unfiltered", "all columns", "updates", "updates unfiltered", "other table", "member", "once"],
)  # fmt: skip
def test_lists_and_filters_are_what_all_routes_of_a_table_agree_on(
    routes: tuple[Route, ...], columns: list[str] | None, condition: str | None, asked: list[str]
) -> None:
    table = spec(*routes)["tables"][0]
    assert (table["columns"], table["filtered_by"]) == (columns, asked)
    assert table["filter"] is None if condition is None else condition in table["filter"]


def test_routes_of_a_table_are_those_of_its_kind_or_of_none_in_its_source() -> None:
    routes = (
        Route("tables", ("a",), kind="public.other"),
        Route("tables", ("b",)),
        Route("tables", ("c",), kind="public.it's"),
        Route("elsewhere", ("d",)),
    )
    config = feed_config("", sources=(SOURCE, Source("again", (), tables=SOURCE.tables)), routes=routes)
    assert routes_of(config, "public.other") == list(routes[:2])
    assert routes_of(config, "public.it's") == list(routes[1:3])
    assert routes_of(config, "public.nothing") == []
