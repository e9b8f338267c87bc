"""What the doctor says of the kind `listen`: who notifies, and what can be read by its key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import as_kind, findings, listen_config, said, texts, undone
from support.installed import install, sql

from broker.config.feeds import Fetch, Recovery
from broker.feed.cures import INSTALL
from broker.feed.setup.doctor_listen import check_channels, check_fetches, check_kept, check_recoveries
from broker.feed.setup.findings import Examination
from broker.feed.setup.steps import base_step


def test_doctor_examines_a_listen_feed(dsn: str) -> None:
    config = listen_config(dsn)
    assert "no function here notifies channel fill" in texts(config, "unwise")
    sql(
        dsn,
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_notify('fill', row_to_json(NEW)::text); RETURN NULL; END $$",
    )
    assert not findings(config)
    assert "channel fill" not in texts(config, "unwise")
    assert "can be read again by (id)" in texts(config, "fine")


@pytest.mark.parametrize(
    ("recovery", "level", "says"),
    [
        (Recovery("public.nothing", ("id",), ()), "wrong", "there is no table public.nothing"),
        (Recovery("public.event", ("id", "other"), ()), "wrong", "has not all of the columns id, other"),
        (Recovery("public.event", ("note",), ()), "unwise", "has no index on (note)"),
    ],
)
def test_doctor_examines_recovery(dsn: str, recovery: Recovery, level: str, says: str) -> None:
    assert says in texts(listen_config(dsn, recoveries=(recovery,)), level)


@pytest.mark.parametrize(
    ("key", "level", "says"),
    [
        (("id",), "fine", "public.event can be looked up by (id)"),
        (("note", "id"), "fine", "public.event can be looked up by (note, id)"),
        (("id", "other"), "wrong", "has not all of the columns id, other"),
        (("note",), "unwise", "has no unique index on (note)"),
    ],
)
def test_doctor_examines_what_is_fetched(dsn: str, key: tuple[str, ...], level: str, says: str) -> None:
    sql(dsn, "CREATE INDEX ON event (note)", "CREATE UNIQUE INDEX ON event (lower(note))")
    assert says in texts(listen_config(dsn, fetches=(Fetch("public.event", key, ()),)), level)


def test_place_that_is_not_kept_is_seen_for_listen(dsn: str) -> None:
    config = as_kind(dsn, "listen")
    assert "how far the feed got is not kept" in texts(config, "unwise")
    install(config)
    assert "how far the feed got" not in texts(config, "unwise")


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(
        kept_database, 'CREATE TABLE "Event" ("Id" bigint, part int, note text, gone int)'
    ) as connection:
        connection.execute('ALTER TABLE "Event" DROP COLUMN gone')
        yield connection


KEY = ("Id", "part")
RECOVERY = Recovery("public.Event", KEY, (("events", "fill"),))
FETCH = Fetch("public.Event", KEY, (("events", "fill"),))


def keyed(connection: psycopg.Connection[Any], what: Recovery | Fetch) -> list[tuple[str, str, str]]:
    is_fetch = isinstance(what, Fetch)
    config = listen_config("user='odd role'", recoveries=() if is_fetch else (what,))
    if isinstance(what, Fetch):
        config = evolve(config, fetches=(what,))
    return said(check_fetches if is_fetch else check_recoveries, Examination(connection, config))


ORDERED = "public.Event can be read again by (Id, part)"
UNORDERED = "public.Event has no index on (Id, part): recovery sorts it all"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ('INDEX ON "Event" ("Id", part)', ORDERED),
        ('INDEX ON "Event" ("Id", part, note)', ORDERED),
        ('UNIQUE INDEX ON "Event" ("Id", part)', ORDERED),
        ('INDEX ON "Event" (part, "Id")', UNORDERED),
        ('INDEX ON "Event" ("Id")', UNORDERED),
        ('INDEX ON "Event" ("Id") INCLUDE (part)', UNORDERED),
        ('INDEX ON "Event" ("Id", part) WHERE part > 0', UNORDERED),
        ('INDEX ON "Event" ("Id", (part + 1))', UNORDERED),
        ('INDEX ON "Event" USING brin ("Id", part)', UNORDERED),
    ],
    ids=["same", "longer", "unique", "other order", "shorter", "included", "partial", "expression", "brin"],
)
def test_table_is_read_again_by_an_index_in_the_order_of_its_key(
    undoing: psycopg.Connection[Any], index: str, text: str
) -> None:
    undoing.execute(f"CREATE {index}")
    ((level, found, cure),) = keyed(undoing, RECOVERY)
    assert (level, found) == ("fine" if text == ORDERED else "unwise", text)
    if cure:
        undoing.execute(cure)
        assert keyed(undoing, RECOVERY) == [("fine", ORDERED, "")]


FOUND = "public.Event can be looked up by (Id, part)"
UNFOUND = "public.Event has no unique index on (Id, part): looking up a row reads it all, and may find two"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ('UNIQUE INDEX ON "Event" ("Id", part)', FOUND),
        ('UNIQUE INDEX ON "Event" (part, "Id")', FOUND),
        ('UNIQUE INDEX ON "Event" ("Id")', FOUND),
        ('UNIQUE INDEX ON "Event" ("Id") INCLUDE (note)', FOUND),
        ('UNIQUE INDEX ON "Event" ("Id", part, note)', UNFOUND),
        ('INDEX ON "Event" ("Id", part)', UNFOUND),
        ('UNIQUE INDEX ON "Event" ("Id") WHERE part > 0', UNFOUND),
        ('UNIQUE INDEX ON "Event" ("Id", (part + 1))', UNFOUND),
    ],
    ids=["same", "other order", "shorter", "included", "longer", "not unique", "partial", "expression"],
)
def test_row_is_looked_up_by_a_unique_index_within_its_key(
    undoing: psycopg.Connection[Any], index: str, text: str
) -> None:
    undoing.execute(f"CREATE {index}")
    ((level, found, cure),) = keyed(undoing, FETCH)
    assert (level, found) == ("fine" if text == FOUND else "unwise", text)
    if cure:
        undoing.execute(cure)
        assert keyed(undoing, FETCH) == [("fine", FOUND, "")]


def test_index_that_could_not_be_made_whole_counts_for_nothing(undoing: psycopg.Connection[Any]) -> None:
    """As CREATE INDEX CONCURRENTLY leaves it that has failed."""
    undoing.execute('CREATE UNIQUE INDEX broken ON "Event" ("Id", part)')
    undoing.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    assert [text for what in (RECOVERY, FETCH) for _, text, _ in keyed(undoing, what)] == [UNORDERED, UNFOUND]


@pytest.mark.parametrize(
    ("what", "where"), [(RECOVERY, "[[recover]]"), (FETCH, "[[fetch]]")], ids=["recover", "fetch"]
)
def test_table_that_is_read_by_key_is_there_whole_and_may_be_read(
    undoing: psycopg.Connection[Any], what: Recovery | Fetch, where: str
) -> None:
    assert keyed(undoing, evolve(what, table="public.event")) == [
        ("wrong", "there is no table public.event", f"create it, or correct its name in {where}")
    ]
    for lacking in ("gone", "id", "ctid"):
        assert keyed(undoing, evolve(what, key=("Id", lacking))) == [
            ("wrong", f"public.Event has not all of the columns Id, {lacking}", f"correct `key` in {where}")
        ]
    undoing.execute('CREATE ROLE "odd role"; SET LOCAL ROLE "odd role"')
    ((level, text, cure),) = keyed(undoing, what)
    assert (level, text) == ("wrong", "public.Event may not be read")
    undoing.execute("RESET ROLE")
    undoing.execute(cure)
    undoing.execute('SET LOCAL ROLE "odd role"')
    assert "may not be read" not in str(keyed(undoing, what))


NOTIFIES = "CREATE FUNCTION tells() RETURNS {} LANGUAGE plpgsql AS $$ BEGIN {}; RETURN NULL; END $$"


@pytest.mark.parametrize(
    ("returns", "body", "is_notified"),
    [
        ("void", "PERFORM pg_notify('fill', '')", True),
        ("void", "NOTIFY fill", True),
        ("void", "PERFORM 'fill'", False),
        ("void", "PERFORM pg_notify('other', '')", False),
        ("trigger", "PERFORM pg_notify(TG_ARGV[0], '')", True),
        ("trigger", "PERFORM PG_NOTIFY(tg_table_name, '')", True),
        ("trigger", "PERFORM TG_ARGV[0]", False),
    ],
    ids=["call", "statement", "name alone", "other channel", "argument", "table's name", "argument alone"],
)
def test_channel_is_notified_by_a_function_that_has_or_is_given_its_name(
    undoing: psycopg.Connection[Any], returns: str, body: str, is_notified: bool
) -> None:
    undoing.execute("SET LOCAL check_function_bodies = off")
    undoing.execute(NOTIFIES.format(returns, body))
    found = said(check_channels, Examination(undoing, listen_config("")))
    assert found == [
        ("fine", "channel fill is notified by a function here", "")
        if is_notified
        else (
            "unwise",
            "no function here notifies channel fill",
            "create the trigger, unless programs notify it",
        )
    ]


def test_what_is_not_read_again_is_lost_in_a_gap(undoing: psycopg.Connection[Any]) -> None:
    examination = Examination(undoing, listen_config("", recoveries=()))
    assert said(check_recoveries, examination) == [
        (
            "unwise",
            "nothing can be read again after a gap: rows notified while nobody listens are lost",
            'add [[recover]] for the tables, or use kind = "wal"',
        )
    ]
    assert said(check_kept, examination) == []


def test_how_far_it_got_is_kept_where_something_is_read_again(undoing: psycopg.Connection[Any]) -> None:
    examination = Examination(undoing, listen_config(""))
    unkept = "how far the feed got is not kept: what commits while Rowcast is stopped is lost"
    assert said(check_kept, examination) == [("unwise", unkept, INSTALL)]
    undoing.execute(base_step().statement)
    assert said(check_kept, examination) == []
    undoing.execute("CREATE ROLE blind; SET LOCAL ROLE blind")
    assert [text for _, text, _ in said(check_kept, examination)] == [
        f"{examination.role} may not use the table rowcast.feed"
    ]
