"""Routes with `columns` and `where`: what doesn't leave the database, and what doesn't leave Rowcast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.feeds import running
from support.installed import connect, feed_config

from broker.cli.main import main
from broker.config.feeds import FeedConfig, Route
from broker.config.model import ConfigError
from broker.config.toml import configuration as toml
from broker.feed.setup import doctor
from broker.feed.setup.install import install_steps

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

TABLE = (
    "CREATE TABLE event (id bigint PRIMARY KEY, status text, amount numeric, password_hash text,"
    " note text GENERATED ALWAYS AS (status || '!') STORED)"
)
ROUTE = Route(
    "tables",
    ("event/{id}",),
    columns=("id", "status"),
    condition="status = 'open' AND amount > 10",
    where="rowcast.toml:12",
)
ALL = ("insert", "update", "delete")


def sql(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def install(config: FeedConfig, widen: bool = False) -> None:
    with connect(config.dsn) as connection:
        for step in install_steps(config, widen=widen):
            connection.execute(step.statement)


def published(config: FeedConfig) -> dict[str, tuple[str, str | None]]:
    with connect(config.dsn) as connection:
        query = "SELECT pubname::text, attnames::text, rowfilter FROM pg_publication_tables ORDER BY 1"
        return {name: (columns, rows) for name, columns, rows in connection.execute(query).fetchall()}


def texts(config: FeedConfig, level: str = "wrong") -> str:
    with connect(config.dsn) as connection:
        found = doctor.examine(connection, config).findings
    return "\n".join(f"{one.text} -> {one.cure}" for one in found if one.level == level)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
@pytest.mark.parametrize("whole", [True, False], ids=["FULL", "key"])
async def test_only_the_columns_and_rows_of_a_route_come(database: str, kind: str, whole: bool) -> None:
    config = feed_config(database, kind, routes=(evolve(ROUTE, operations=ALL),))
    # PostgreSQL 18 takes no generated columns in a replica identity.
    full = ["ALTER TABLE event REPLICA IDENTITY FULL", "ALTER TABLE event DROP COLUMN note"]
    sql(config, TABLE, *(full if whole else []))
    install(config)
    assert texts(config) == ""
    async with running(config) as feed:
        sql(
            config,
            "INSERT INTO event VALUES (1, 'open', 11, 'secret'), (2, 'shut', 11, 'secret'), (3, 'open', NULL, 'x')",
            "UPDATE event SET amount = 12 WHERE id = 3",
            "UPDATE event SET amount = 13 WHERE id = 2",
            "DELETE FROM event WHERE id = 3",
            "INSERT INTO event VALUES (9, 'open', 99, 'secret')",
        )
        got = await feed.sink.until(4 if whole or kind == "outbox" else 3)
    expected = [(b"event/1", b'{"id":1,"status":"open"}'), (b"event/3", b'{"id":3,"status":"open"}')]
    if whole or kind == "outbox":
        expected.append((b"event/3", b'{"id":3,"status":"open"}'))  # the deleted row was known whole
    assert [row[:2] for row in got] == [*expected, (b"event/9", b'{"id":9,"status":"open"}')]


def test_they_are_kept_out_of_the_publications_where_postgres_can(database: str) -> None:
    config = feed_config(database, routes=(evolve(ROUTE, operations=("insert", "update")),))
    sql(config, TABLE)
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
        config,
        "INSERT INTO event VALUES (1, 'a', 1, 'x')",
        "UPDATE event SET password_hash = 'y'",
        "DELETE FROM event",
    )


def has_lists(config: FeedConfig) -> bool:
    with connect(config.dsn) as connection:
        return connection.info.server_version >= 150000


async def test_several_routes_get_each_what_it_wants(database: str) -> None:
    routes = (
        ROUTE,
        evolve(ROUTE, topics=("shut/{id}",), condition="status = 'shut'", columns=("id", "amount")),
    )
    config = feed_config(database, routes=routes)
    sql(config, TABLE)
    install(config)
    async with running(config) as feed:
        sql(
            config,
            "INSERT INTO event VALUES (1, 'open', 11, 's'), (2, 'shut', 1.50, 's'), (3, 'x', 99, 's')",
            "INSERT INTO event VALUES (9, 'shut', 99, 's')",
        )
        got = await feed.sink.until(3)
    assert [row[:2] for row in got] == [
        (b"event/1", b'{"id":1,"status":"open"}'),
        (b"shut/2", b'{"id":2,"amount":1.50}'),
        (b"shut/9", b'{"id":9,"amount":99}'),
    ]


async def test_snapshot_has_them_too(database: str) -> None:
    config = feed_config(database, routes=(evolve(ROUTE, snapshot="table"),))
    sql(config, TABLE, "INSERT INTO event VALUES (1, 'open', 11, 's'), (2, 'open', 1, 's')")
    install(config)
    async with running(config) as feed:
        got = await feed.sink.until(1)
    assert [row[:2] for row in got] == [(b"event/1", b'{"id":1,"status":"open"}')]


def test_what_was_kept_out_begins_to_flow_only_with_widen(database: str) -> None:
    narrow = feed_config(database, routes=(ROUTE,))
    sql(narrow, TABLE)
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


def test_hand_made_list_that_leaves_out_what_a_route_names_is_said(database: str) -> None:
    config = feed_config(database, routes=(Route("tables", ("event/{status}",), where="rowcast.toml:12"),))
    sql(config, TABLE)
    if not has_lists(config):
        pytest.skip("no lists of columns before PostgreSQL 15")
    install(config)
    sql(config, "ALTER PUBLICATION rowcast_test SET TABLE event (id)")
    assert "rowcast.toml:12 names status of public.event, which the publication leaves out" in texts(config)


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
    from broker.feed.setup.dangers import dangers

    config = feed_config(database, kind, routes=(evolve(ROUTE, **changes),))
    sql(config, TABLE)
    with connect(database) as connection:
        refused = " ".join(found.text for found in dangers(connection, config))
    assert says in refused
    assert says in texts(config)


FILE = """
[[listener]]
port = 0
[database]
dsn = "{dsn}"
kind = "wal"
name = "test"
replication = {{ allow_unbounded_wal = true }}
[source.tables]
tables = ["public.event"]
[[mqtt.route]]
from = "tables"
topics = ["event/{{id}}"]
{more}
"""


def test_configuration_has_words_for_it(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(FILE.format(dsn=database, more='columns = ["id", "status"]\nwhere = "status = \'open\'"'))
    (config,) = toml.load(file, {}).feeds
    assert (config.routes[0].columns, config.routes[0].condition) == (("id", "status"), "status = 'open'")
    sql(config, TABLE)
    assert main(["feed", "install", "-c", str(file), "--apply"]) == 0
    file.write_text(FILE.format(dsn=database, more='columns = ["id", "amount"]'))
    has_to_be_told = has_lists(config)
    assert main(["feed", "install", "-c", str(file), "--apply"]) == int(has_to_be_told)
    assert ("--widen" in capsys.readouterr().err) == has_to_be_told
    assert main(["feed", "install", "-c", str(file), "--apply", "--widen"]) == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("where = \"status > 'a'\"", "rowcast.toml:14: where: > compares numbers"),
        ('columns = ["$kind"]', "rowcast.toml:14: columns: $kind is no column's name"),
        ('body = "raw"\ncolumns = ["id"]', 'rowcast.toml:15: columns: body "raw" is the whole text'),
    ],
)
def test_mistakes_of_the_configuration_have_their_place(tmp_path: Path, more: str, says: str) -> None:
    file = tmp_path / "rowcast.toml"
    file.write_text(FILE.format(dsn="dbname=x", more=more))
    with pytest.raises(ConfigError) as error:
        toml.load(file, {})
    assert says in str(error.value)
