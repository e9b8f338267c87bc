"""What an installation refuses to break."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from support.columns_and_rows import ROUTE, TABLE
from support.doctored import sql, texts
from support.installed import connect, feed_config

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
