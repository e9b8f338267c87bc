"""What the publications of a `wal` feed hold, and keep in."""

from __future__ import annotations

import psycopg
import pytest
from attrs import evolve
from support.columns_and_rows import ROUTE, TABLE, has_lists
from support.doctored import sql, texts
from support.installed import connect, feed_config, install

from broker.config.feeds import FeedConfig


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
