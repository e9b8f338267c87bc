"""What the doctor finds of other times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import Told, as_kind, config_of_both, said, texts, undone
from support.installed import feed_config, install, sql

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_leftovers import check_leftovers
from broker.feed.setup.findings import Examination

LEFT_BY = {
    "wal": ["the slot rowcast_test_", "the publications rowcast_test, "],
    "outbox": ["fills the outbox"],
}


@pytest.mark.parametrize(
    ("before", "after"),
    [("wal", "outbox"), ("wal", "listen"), ("outbox", "wal"), ("outbox", "listen")],
)
def test_leftovers_of_another_kind_are_seen_and_an_installation_takes_them(
    dsn: str, before: str, after: str
) -> None:
    install(as_kind(dsn, before))
    config = as_kind(dsn, after)
    said = texts(config)
    assert all(what in said for what in LEFT_BY[before]), said
    install(config)
    assert texts(config) == ""


def test_leftovers_of_a_former_name_are_seen(dsn: str) -> None:
    install(feed_config(dsn, name="shop"))
    config = feed_config(dsn, name="main")
    install(config)
    said = texts(config, "unwise")
    assert "the slot rowcast_shop_" in said
    assert "pg_drop_replication_slot('rowcast_shop_" in said
    assert texts(config) == ""
    sql(
        dsn,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'rowcast_shop%'",
    )
    assert 'DROP PUBLICATION "rowcast_shop_update"' in texts(config, "unwise")


def test_feed_that_reads_the_outbox_no_more_is_seen(dsn: str) -> None:
    for name in ("shop", "main"):
        install(feed_config(dsn, "outbox", name=name))
    sql(dsn, "INSERT INTO event VALUES (1, 'a')")
    assert "1 transaction for the feed shop" in texts(feed_config(dsn, "outbox", name="main"), "unwise")


def test_trigger_of_a_table_that_no_route_names_any_more_is_seen(dsn: str) -> None:
    sql(dsn, "CREATE TABLE other (id bigint PRIMARY KEY)")
    config = feed_config(dsn, "outbox")
    both = evolve(
        config,
        sources=(Source("tables", (), tables=("public.event", "public.other")),),
        routes=(*config.routes, Route("tables", ("other/{id}",), kind="public.other")),
    )
    install(both)
    assert "the trigger of public.other fills the outbox" in texts(config)
    install(config)
    assert texts(config) == ""


Found = list[tuple[str, str, str]]
OWN, EARLIER, OTHER = "rowcast_test_shop", "rowcast_test", "rowcast_sh'p"
UNREAD = "the slot {} keeps {} bytes of WAL, and nobody reads it; this feed doesn't use it"
BEFORE = "the slot {} keeps {} bytes of WAL for the kind wal, which this feed was before"


def drop_slot(name: str) -> str:
    return f"if no other configuration has it: SELECT pg_drop_replication_slot('{name}')"


@pytest.mark.parametrize(
    ("kind", "slots", "expected"),
    [
        ("wal", [(OWN, False, 5)], []),
        ("wal", [(EARLIER, False, 5)], []),
        ("wal", [(EARLIER, False, 5), (OWN, True, 6)], [("unwise", UNREAD.format(EARLIER, 5), drop_slot(EARLIER))]),
        ("wal", [(EARLIER, True, 5), (OWN, True, 6)], []),
        ("wal", [(OTHER, False, None)], [("unwise", UNREAD.format(OTHER, 0), drop_slot("rowcast_sh''p"))]),
        ("wal", [(OTHER, True, 7)], []),
        ("outbox", [(OWN, True, 5)], [("wrong", BEFORE.format(OWN, 5), INSTALL)]),
        ("listen", [(EARLIER, False, 5)], [("wrong", BEFORE.format(EARLIER, 5), INSTALL)]),
        ("listen", [(OTHER, False, 5)], [("unwise", UNREAD.format(OTHER, 5), drop_slot("rowcast_sh''p"))]),
    ],
    ids=[
        "own", "earlier", "both", "both read", "other's", "other's read", "own outbox", "earlier listen",
        "other's listen",
    ],
)  # fmt: skip
def test_slots_that_nobody_reads_keep_wal(kind: str, slots: list[tuple[Any, ...]], expected: Found) -> None:
    config = feed_config("user=postgres dbname=shop", kind)
    assert said(check_leftovers, Told(config, {"restart_lsn": slots, "to_regclass": [(False,)]})) == expected


@pytest.fixture
def undoing(outbox_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(outbox_database) as connection:
        yield connection


WAS_WAL = "the {} left of the kind wal, which this feed was before"
STRANGE = "the publication {} is not this feed's, and has no slot that looks like its own"
DROP_UPDATE = 'if no other configuration has it: DROP PUBLICATION "rowcast_a_update"'
DROP = 'if no other configuration has it: DROP PUBLICATION "{}"'


@pytest.mark.parametrize(
    ("kind", "publications", "expected"),
    [
        ("wal", ["rowcast_test", "rowcast_test_update", "mine", "rowcast"], []),
        ("outbox", ["rowcast_test"], [("wrong", WAS_WAL.format("publication rowcast_test is"), INSTALL)]),
        (
            "outbox", ["rowcast_test_delete", "rowcast_test"],
            [("wrong", WAS_WAL.format("publications rowcast_test, rowcast_test_delete are"), INSTALL)],
        ),
        ("wal", ["rowcast_a_update"], [("unwise", STRANGE.format("rowcast_a_update"), DROP_UPDATE)]),
        ("outbox", ['rowcast_"b'], [("unwise", STRANGE.format('rowcast_"b'), DROP.format('rowcast_""b'))]),
    ],
    ids=["own", "before", "all before", "other's", "quoted"],
)  # fmt: skip
def test_publications_of_nobody_are_left(
    undoing: psycopg.Connection[Any], kind: str, publications: list[str], expected: Found
) -> None:
    config = config_of_both("user=postgres", kind)
    undoing.execute("DROP TRIGGER rowcast_capture ON event; DROP TRIGGER rowcast_capture ON parted")
    for name in publications:
        quoted = name.replace('"', '""')
        undoing.execute(f'CREATE PUBLICATION "{quoted}"')
    assert said(check_leftovers, Examination(undoing, config)) == expected


def test_publications_with_a_slot_of_their_name_are_another_feeds() -> None:
    answers: dict[str, list[tuple[Any, ...]]] = {
        "pg_publication ": [("rowcast_a",), ("rowcast_a_delete",), ("rowcast_b",)],
        "SELECT slot_name::text FROM": [("rowcast_a_shop",)],
        "to_regclass": [(False,)],
    }
    found = said(check_leftovers, Told(feed_config("user=postgres dbname=shop"), answers))
    assert [text for _, text, _ in found] == [STRANGE.format("rowcast_b")]


def fills(*tables: str) -> Found:
    return [
        ("wrong", f"the trigger of {', '.join(tables)} fills the outbox with rows that nobody reads", INSTALL)
    ]


def test_triggers_fill_the_outbox_for_nobody_unless_a_feed_reads_them(
    undoing: psycopg.Connection[Any],
) -> None:
    def found(config: FeedConfig) -> Found:
        return said(check_leftovers, Examination(undoing, config))

    both = config_of_both("user=postgres")
    assert found(both) == []
    only = evolve(both, sources=(Source("tables", (), tables=("event",)),))
    assert found(only) == fills("public.parted")
    assert found(evolve(both, kind="wal")) == fills("public.event", "public.parted")
    undoing.execute("INSERT INTO rowcast.feed (name, kind) VALUES ('other', 'wal')")
    assert found(only) == fills("public.parted")
    undoing.execute("UPDATE rowcast.feed SET kind = 'outbox' WHERE name = 'other'")
    assert found(only) == []


def test_feed_of_another_name_keeps_what_it_has_not_read(undoing: psycopg.Connection[Any]) -> None:
    undoing.execute(
        "ALTER TABLE rowcast.outbox_commit DISABLE TRIGGER USER; UPDATE rowcast.feed SET read_seq = 0"
    )
    undoing.execute(
        "INSERT INTO rowcast.outbox_commit (xid, seq) SELECT n::text::xid8, n FROM generate_series(1, 3) AS n"
    )
    undoing.execute(
        "INSERT INTO rowcast.feed (name, kind, read_seq)"
        " VALUES ('it''s', 'outbox', 1), ('read', 'outbox', 3), ('wal', 'wal', 0)"
    )
    assert said(check_leftovers, Examination(undoing, config_of_both("user=postgres"))) == [
        (
            "unwise",
            "the outbox keeps 2 transactions for the feed it's, which has not read them",
            "if no configuration has it any more: DELETE FROM rowcast.feed WHERE name = 'it''s'",
        )
    ]
