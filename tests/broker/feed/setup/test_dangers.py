"""What an installation refuses, since the application's writers would fail."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from support.columns_and_rows import ROUTE, TABLE
from support.doctored import as_kind, texts, undone
from support.installed import connect, feed_config, sql

from broker.config.feeds import Route
from broker.feed.setup.dangers import dangers


def test_generated_column_in_a_replica_identity_is_refused_where_writers_would_be(dsn: str) -> None:
    config = feed_config(dsn, routes=(Route("tables", ("e",), kind="public.event", operations=("update",)),))
    sql(dsn, "ALTER TABLE event ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED")
    assert "generated columns" not in texts(config)
    sql(dsn, "ALTER TABLE event REPLICA IDENTITY FULL")
    with connect(dsn) as connection:
        refuses = connection.info.server_version >= 180000
        assert refuses == any("(twice)" in one.text for one in dangers(connection, config))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": ("id", "statsu")}, "has no column statsu; did you mean status?"),
        ({"condition": "amont > 1"}, "has no column amont; did you mean amount?"),
        ({"condition": "amount = 'x'"}, "compares amount of public.event as text, and it is numeric"),
        ({"condition": "status > 1"}, "compares status of public.event as number, and it is text"),
        ({"condition": "status"}, "compares status of public.event as boolean, and it is text"),
    ],
)
@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_mistakes_are_found_by_check_and_refused_by_install(
    database: str, kind: str, changes: dict[str, Any], says: str
) -> None:
    config = feed_config(database, kind, routes=(evolve(ROUTE, **changes),))
    sql(config.dsn, TABLE)
    with connect(database) as connection:
        refused = " ".join(found.text for found in dangers(connection, config))
    assert says in refused
    assert says in texts(config)


@pytest.mark.parametrize(
    ("made", "kind", "operations", "texts_"),
    [
        ("TABLE event (id int PRIMARY KEY)", "wal", ("insert", "update", "delete"), []),
        ("TABLE other (id int)", "wal", ("insert",), ["there is no table public.event"]),
        ("TABLE other (id int)", "outbox", ("insert",), ["there is no table public.event"]),
        ("TABLE other (id int)", "listen", ("insert",), ["there is no table public.event"]),
        ("VIEW event AS SELECT 1 AS id", "outbox", ("insert",), ["public.event is no table but a view or the like"]),
        ("UNLOGGED TABLE event (id int)", "wal", ("insert",), ["public.event is unlogged: its changes are in no WAL"]),
        ("UNLOGGED TABLE event (id int)", "outbox", ("insert",), []),
        ("TABLE event (id int) PARTITION BY RANGE (id)", "wal", ("insert",), []),
        ("TABLE event (id int)", "wal", ("insert",), []),
        (
            "TABLE event (id int)", "wal", ("insert", "delete"),
            ["public.event has no replica identity: updating or deleting its rows fails"],
        ),
        ("TABLE event (id int)", "outbox", ("insert", "delete"), []),
        ("TABLE event (nothing int)", "wal", ("insert",), []),
    ],
    ids=[
        "good", "none", "none outbox", "none listen", "view", "unlogged", "unlogged outbox", "partitioned", "insert",
        "delete", "delete outbox", "misspelt topic",
    ],
)  # fmt: skip
def test_only_what_would_break_or_could_not_be_made_is_refused(
    kept_database: str, made: str, kind: str, operations: tuple[str, ...], texts_: list[str]
) -> None:
    config = as_kind("user=postgres", kind)
    config = evolve(config, routes=tuple(evolve(route, operations=operations) for route in config.routes))
    with undone(kept_database, f"CREATE {made}") as connection:
        found = dangers(connection, config)
    assert [one.text for one in found] == texts_
    assert all(one.level == "wrong" and one.cure for one in found)
