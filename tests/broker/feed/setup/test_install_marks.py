"""Marks that an installation keeps are those that the feed finds at its first start, or it would announce a gap."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import config_of_both, undone

from broker.config.feeds import OPERATIONS, FeedConfig, Route, Source
from broker.feed.captured import PUBLISHED, TRIGGERED, marks_of, parameters
from broker.feed.setup.install_marks import remember_statement
from broker.feed.setup.steps import know
from broker.feed.wal.slots import publication_names

KEPT = "SELECT captured FROM rowcast.feed WHERE name = 'test'"


def kept(connection: psycopg.Connection[Any], config: FeedConfig) -> dict[str, dict[str, str]]:
    connection.execute(know(config, "0"))
    connection.execute(remember_statement(config))
    ((marks,),) = connection.execute(KEPT).fetchall()
    return dict(marks)


def found(connection: psycopg.Connection[Any], config: FeedConfig) -> dict[str, dict[str, str]]:
    """As the feed's own look."""
    query = PUBLISHED if config.captures_by == "publication" else TRIGGERED
    rows = connection.execute(query.encode(), parameters(config, publication_names(config))).fetchall()
    return marks_of(config, rows)[0]


def words(marks: dict[str, dict[str, str]]) -> str:
    """What is captured."""
    captured = [(table, operation) for table, some in marks.items() for operation in some if some[operation]]
    ordered = sorted(captured, key=lambda one: (one[0], OPERATIONS.index(one[1])))
    return ", ".join(f"{table.removeprefix('public.')} {operation}" for table, operation in ordered)


PUBLISH = "CREATE PUBLICATION rowcast_test{} FOR TABLE event{} WITH (publish = '{}', publish_via_partition_root = true)"
BOTH = [PUBLISH.format("", ", parted", "insert"), PUBLISH.format("_delete", ", parted", "delete")]
UNLOGGED = "CREATE UNLOGGED TABLE off PARTITION OF parted FOR VALUES FROM (200) TO (300)"
ODD = 'public.it\'s 100% "{odd}"'


@pytest.mark.parametrize(
    ("statements", "captured"),
    [
        ([], ""),
        (BOTH, "event insert, event delete, parted insert, parted delete"),
        (BOTH[:1], "event insert, parted insert"),
        ([PUBLISH.format("", "", "insert, delete")], "event insert, event delete"),
        ([*BOTH, "DROP TABLE parted"], "event insert, event delete"),
        ([*BOTH, UNLOGGED], "event insert, event delete"),
        ([BOTH[0], PUBLISH.format("_update", "", "insert, delete")], "event insert, event delete, parted insert"),
    ],
    ids=["nothing", "both", "inserts", "one for both", "no table", "unlogged", "two for one"],
)  # fmt: skip
def test_marks_of_publications(outbox_database: str, statements: list[str], captured: str) -> None:
    config = config_of_both("user=postgres", "wal")
    with undone(outbox_database, *statements) as connection:
        marks = kept(connection, config)
        assert marks == found(connection, config)
    assert words(marks) == captured


ALTER = "ALTER TABLE {} {} TRIGGER {}"


@pytest.mark.parametrize(
    ("statements", "captured"),
    [
        ([], "event insert, event delete, parted insert, parted delete"),
        ([ALTER.format("event", "DISABLE", "rowcast_capture")], "parted insert, parted delete"),
        ([ALTER.format("parted_a", "DISABLE", "rowcast_capture")], "event insert, event delete"),
        (["DROP TABLE parted_a"], "event insert, event delete, parted insert, parted delete"),
        ([ALTER.format("rowcast.outbox_commit", "DISABLE", "outbox_number")], ""),
        (["CREATE RULE greedy AS ON INSERT TO rowcast.outbox DO INSTEAD NOTHING"], ""),
        (["DROP TABLE event"], "parted insert, parted delete"),
    ],
    ids=["all", "off", "partition off", "no partition", "unnumbered", "rule", "no table"],
)
def test_marks_of_triggers(outbox_database: str, statements: list[str], captured: str) -> None:
    config = config_of_both("user=postgres")
    with undone(outbox_database, *statements) as connection:
        connection.execute("UPDATE rowcast.feed SET captured = NULL")
        marks = kept(connection, config)
        assert marks == found(connection, config)
    assert words(marks) == captured


def test_marks_that_are_known_stay(outbox_database: str) -> None:
    config = config_of_both("user=postgres")
    with undone(outbox_database, """UPDATE rowcast.feed SET captured = '{"a": {}}'""") as connection:
        assert kept(connection, config) == {"a": {}}
        connection.execute("INSERT INTO rowcast.feed (name, kind) VALUES ('other', 'outbox')")
        connection.execute(remember_statement(config))
        assert connection.execute("SELECT captured FROM rowcast.feed WHERE name = 'other'").fetchone() == (
            None,
        )


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_names_of_tables_are_whatever_they_are(outbox_database: str, kind: str) -> None:
    config = evolve(
        config_of_both("user=postgres", kind),
        name="it's {odd}",
        sources=(Source("tables", (), tables=(ODD,)),),
        routes=(Route("tables", ("t",)),),
    )
    with undone(outbox_database) as connection:
        connection.execute(know(config, "0"))
        connection.execute(remember_statement(config))
        query = "SELECT captured FROM rowcast.feed WHERE name = %s"
        assert connection.execute(query, [config.name]).fetchone() == ({ODD: {"insert": ""}},)
