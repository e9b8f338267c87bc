"""What `install` makes for the kind `outbox`: triggers that differ from what routes want, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import config_of_both, run_steps, undone

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.setup.install_outbox import install_steps, leftovers

Undoing = psycopg.Connection[Any]
CONFIG = config_of_both("user=postgres dbname=shop")
TRIGGERS = (
    "SELECT tgrelid::regclass::text, oid, tgtype, tgenabled::text, encode(tgargs, 'escape') FROM pg_trigger"
    " WHERE tgname = 'rowcast_capture' ORDER BY 1"
)


@pytest.fixture
def undoing(outbox_database: str) -> Iterator[Undoing]:
    with undone(outbox_database) as connection:
        yield connection


def install(connection: Undoing, config: FeedConfig) -> None:
    run_steps(connection, install_steps(config, "PUBLIC"))


def of_event(*operations: str, table: str = "public.event") -> FeedConfig:
    route = Route("tables", ("t/{id}",), operations=operations)
    return evolve(CONFIG, sources=(Source("tables", (), tables=(table,)),), routes=(route,))


def test_what_is_as_it_should_be_is_not_made_again(undoing: Undoing) -> None:
    before = undoing.execute(TRIGGERS).fetchall()
    assert [table for table, *_ in before] == ["event", "parted", "parted_a"]
    install(undoing, CONFIG)
    assert undoing.execute(TRIGGERS).fetchall() == before


@pytest.mark.parametrize(
    ("operations", "bits"),
    [(("insert",), 5), (("update",), 17), (("delete",), 9), (("insert", "update", "delete"), 29)],
    ids=["insert", "update", "delete", "all"],
)
def test_trigger_is_for_each_row_of_the_operations_and_for_every_session(
    undoing: Undoing, operations: tuple[str, ...], bits: int
) -> None:
    (_, oid, *_), *_ = undoing.execute(TRIGGERS).fetchall()
    install(undoing, of_event(*operations))
    ((table, new_oid, *rest),) = undoing.execute(TRIGGERS).fetchall()
    assert (table, new_oid != oid, rest) == ("event", True, [bits, "A", r"public.event\000"])


def test_table_of_any_name_is_captured(undoing: Undoing) -> None:
    undoing.execute('CREATE TABLE "it\'s {odd} 100%" (id int)')
    install(undoing, of_event("insert", table="public.it's {odd} 100%"))
    undoing.execute('INSERT INTO "it\'s {odd} 100%" VALUES (7)')
    rows = undoing.execute("SELECT relation, operation, body FROM rowcast.outbox").fetchall()
    assert rows == [("public.it's {odd} 100%", "insert", '{"id":7}')]


@pytest.mark.parametrize("state", ["DISABLE", "ENABLE", "ENABLE REPLICA"])
@pytest.mark.parametrize("table", ["event", "parted", "parted_a"])
def test_trigger_that_is_off_is_on_again(undoing: Undoing, table: str, state: str) -> None:
    undoing.execute(f"ALTER TABLE ONLY {table} {state} TRIGGER rowcast_capture")
    install(undoing, CONFIG)
    assert [enabled for *_, enabled, _ in undoing.execute(TRIGGERS).fetchall()] == ["A"] * 3


def test_partition_that_was_a_captured_table_has_the_trigger_of_its_table(undoing: Undoing) -> None:
    undoing.execute("CREATE TABLE parted_b (id bigint PRIMARY KEY)")
    install(undoing, of_event("insert", table="public.parted_b"))
    undoing.execute("ALTER TABLE parted ATTACH PARTITION parted_b FOR VALUES FROM (100) TO (200)")
    install(undoing, CONFIG)
    assert {(table, args) for table, *_, args in undoing.execute(TRIGGERS).fetchall()} == {
        ("event", r"public.event\000"),
        *((table, r"public.parted\000") for table in ("parted", "parted_a", "parted_b")),
    }


def test_consumer_begins_behind_what_has_committed(undoing: Undoing) -> None:
    undoing.execute("ALTER TABLE rowcast.outbox_commit DISABLE TRIGGER outbox_number")
    undoing.execute("INSERT INTO rowcast.outbox_commit (xid, seq) VALUES ('1', 41), ('2', 42), ('3', NULL)")
    undoing.execute("SET CONSTRAINTS ALL IMMEDIATE")
    config = evolve(CONFIG, name="late")
    run_steps(undoing, [step for step in install_steps(config, "PUBLIC") if "consumer" in step.purpose])
    assert undoing.execute("SELECT read_seq FROM rowcast.feed WHERE name = 'late'").fetchone() == (42,)


@pytest.mark.parametrize(
    ("statement", "owed"),
    [
        ("SELECT 1", None),
        (
            "CREATE OR REPLACE FUNCTION rowcast.outbox_mark() RETURNS void LANGUAGE sql AS 'SELECT'",
            "rowcast.outbox_mark() had been altered by hand",
        ),
        ("UPDATE rowcast.feed SET read_seq = 3; DELETE FROM rowcast.outbox_pruned",
            "somebody has emptied rowcast.outbox_pruned"),
        ("SELECT setval('rowcast.outbox_seq', 9); UPDATE rowcast.feed SET read_seq = 12",
            "the numbers of the outbox had been set back"),
    ],
    ids=["nothing", "function", "pruned", "numbers"],
)  # fmt: skip
def test_what_was_altered_is_owed_once_it_is_put_right(
    undoing: Undoing, statement: str, owed: str | None
) -> None:
    undoing.execute(statement)
    install(undoing, CONFIG)
    assert undoing.execute("SELECT owed FROM rowcast.feed").fetchall() == [(owed,)]


def test_role_may_read_and_prune_and_no_more(undoing: Undoing) -> None:
    undoing.execute("CREATE ROLE feeder")
    install(undoing, evolve(CONFIG, dsn="user=feeder dbname=shop"))
    query = (
        "SELECT table_name || ' ' || string_agg(lower(privilege_type), ' ' ORDER BY privilege_type)"
        " FROM information_schema.role_table_grants WHERE grantee = 'feeder' GROUP BY table_name ORDER BY 1"
    )
    assert [text for (text,) in undoing.execute(query).fetchall()] == [
        "feed insert select update",
        "outbox delete select",
        "outbox_commit delete select",
        "outbox_pruned select update",
    ]
    undoing.execute("SET LOCAL ROLE feeder; SELECT last_value FROM rowcast.outbox_seq")


def test_publications_of_another_kind_are_taken_away(undoing: Undoing) -> None:
    undoing.execute(
        "CREATE PUBLICATION rowcast_test; CREATE PUBLICATION rowcast_test_delete; CREATE PUBLICATION mine"
    )
    run_steps(undoing, leftovers(of_event("insert")))
    assert undoing.execute("SELECT pubname::text FROM pg_publication").fetchall() == [("mine",)]
    assert [table for table, *_ in undoing.execute(TRIGGERS).fetchall()] == ["event"]
