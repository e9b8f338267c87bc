"""Routes with `columns` and `where`: what doesn't leave the database, and what doesn't leave Rowcast."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from support.columns_and_rows import ROUTE, TABLE, has_lists
from support.doctored import texts
from support.feeds import running
from support.installed import feed_config, install, sql

from broker.cli.main import main
from broker.config.model import ConfigError
from broker.config.toml import configuration as toml

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

ALL = ("insert", "update", "delete")


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
        got = await feed.outlet.until(4 if whole or kind == "outbox" else 3)
    expected = [(b"event/1", b'{"id":1,"status":"open"}'), (b"event/3", b'{"id":3,"status":"open"}')]
    if whole or kind == "outbox":
        expected.append((b"event/3", b'{"id":3,"status":"open"}'))  # the deleted row was known whole
    assert [row[:2] for row in got] == [*expected, (b"event/9", b'{"id":9,"status":"open"}')]


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
        got = await feed.outlet.until(3)
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
        got = await feed.outlet.until(1)
    assert [row[:2] for row in got] == [(b"event/1", b'{"id":1,"status":"open"}')]


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
