"""Statements that the kinds of feeds share: what they do, twice in a row, and to whose things they do nothing."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from psycopg import sql as composing
from support.doctored import run_steps, texts, undone
from support.installed import EVENT, connect, feed_config, sql

from broker.config.feeds import Replication, Route, Source
from broker.feed.setup.install import install_steps
from broker.feed.setup.steps import (
    base_step,
    create_unless,
    drop_triggers,
    drop_wal,
    feed_role,
    grants,
    know,
    publish_step,
    remember_installed,
    role_step,
    where_installed,
)

Undoing = psycopg.Connection[Any]


@pytest.fixture
def undoing(kept_database: str) -> Iterator[Undoing]:
    with undone(kept_database, EVENT, base_step().statement) as connection:
        yield connection


def one(connection: Undoing, query: str, *parameters: object) -> tuple[Any, ...] | None:
    return connection.execute(query, parameters or None).fetchone()


@pytest.mark.parametrize(
    ("dsn", "in_environment", "role"),
    [
        ("user=feeder dbname=x", "other", "feeder"),
        ("postgresql://feeder@host/x", "other", "feeder"),
        ("dbname=x", "other", "other"),
        ("dbname=x", "", "me"),
        ("dbname=x", None, "me"),
    ],
)
def test_role_is_whom_libpq_would_connect_as(
    dsn: str, in_environment: str | None, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    monkeypatch.delenv("PGUSER", raising=False)
    if in_environment is not None:
        monkeypatch.setenv("PGUSER", in_environment)
    assert feed_role(feed_config(dsn)) == role


KNOWN = (
    "SELECT kind, read_seq, read_id, captured IS NULL, moved_from, owed FROM rowcast.feed WHERE name = 'test'"
)


def test_feed_begins_where_it_is_installed_and_again_only_as_another_kind(undoing: Undoing) -> None:
    outbox, wal = feed_config("user=postgres", "outbox"), feed_config("user=postgres")
    undoing.execute(know(outbox, "40 + 2"))
    assert one(undoing, KNOWN) == ("outbox", 42, 0, True, None, None)
    undoing.execute(
        "UPDATE rowcast.feed SET read_seq = 50, read_id = 3, captured = '{}', marks = '{}', sealed = 'x'"
    )
    undoing.execute(know(outbox, "99"))
    assert one(undoing, KNOWN) == ("outbox", 50, 3, False, None, None)
    undoing.execute(know(wal, "7"))
    assert one(undoing, KNOWN) == ("wal", 7, 0, True, "outbox", None)
    assert one(undoing, "SELECT marks, sealed FROM rowcast.feed") == (None, None)
    undoing.execute(know(evolve(wal, kind="listen"), "0"))
    assert one(undoing, KNOWN) == ("listen", 0, 0, True, "outbox", None)


def test_feed_whose_schema_was_dropped_owes_a_gap_unless_it_was_removed(undoing: Undoing) -> None:
    config, other = feed_config("user=postgres"), feed_config("user=postgres", name="other")
    for installed in (config, other, config):
        undoing.execute(remember_installed(installed, True))
    kept = "SELECT setconfig[1] FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase" \
        " WHERE datname = current_database()"  # fmt: skip
    assert one(undoing, kept) == ("rowcast.installed=other,test",)
    undoing.execute("DROP SCHEMA rowcast CASCADE")
    undoing.execute(base_step().statement)
    undoing.execute(remember_installed(other, False))
    for known in (config, other):
        undoing.execute(know(known, "0"))
    owed = undoing.execute("SELECT name, owed FROM rowcast.feed ORDER BY 1").fetchall()
    assert owed == [("other", None), ("test", "the schema rowcast was dropped, and installed anew")]


@pytest.mark.parametrize("role", ["nobody_of_this_name", "postgres"])
def test_what_is_installed_is_remembered_only_where_the_role_may_be_changed(
    undoing: Undoing, role: str
) -> None:
    if role == "postgres":
        undoing.execute("CREATE ROLE blind; SET LOCAL ROLE blind")
    undoing.execute(remember_installed(feed_config(f"user={role}"), True))
    assert one(
        undoing, "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text LIKE '%rowcast.installed%'"
    ) == (0,)


ROLE = 'odd "role'
IS_ROLE = "SELECT rolcanlogin, rolreplication, rolsuper FROM pg_roles WHERE rolname = %s"


def test_role_is_made_once_and_may_replicate_where_it_has_to(undoing: Undoing) -> None:
    config = feed_config(f"user='{ROLE}'")
    for _ in range(2):
        run_steps(undoing, [role_step(config, may_replicate=False)])
        assert one(undoing, IS_ROLE, ROLE) == (True, False, False)
    for _ in range(2):
        run_steps(undoing, [role_step(config, may_replicate=True)])
        assert one(undoing, IS_ROLE, ROLE) == (True, True, False)


def test_superuser_is_given_nothing(undoing: Undoing) -> None:
    undoing.execute("CREATE ROLE boss SUPERUSER")
    run_steps(undoing, [role_step(feed_config("user=boss"), may_replicate=True)])
    assert one(undoing, IS_ROLE, "boss") == (False, False, True)


def test_role_that_may_replicate_as_a_member_needs_no_attribute(dsn: str) -> None:
    """As with Amazon's services, where nobody may give it."""
    sql(dsn, "CREATE ROLE rds_replication", "CREATE ROLE rowcast_member LOGIN")
    config = feed_config(dsn.replace("user=postgres", "user=rowcast_member"))
    try:
        assert "rowcast_member may not replicate" in texts(config)
        sql(dsn, *(step.statement for step in install_steps(config)))
        assert "rowcast_member may replicate and is no superuser" in texts(config, "fine")
        with connect(dsn) as admin:
            row = admin.execute(
                "SELECT rolreplication FROM pg_roles WHERE rolname = 'rowcast_member'"
            ).fetchone()
        assert row == (False,)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_member", "DROP ROLE rowcast_member, rds_replication")


MAY = "SELECT " + ", ".join(
    f"has_table_privilege('feeder', '{table}', '{right}')"
    for table, right in (
        ("rowcast.feed", "SELECT"), ("rowcast.feed", "INSERT"), ("rowcast.feed", "UPDATE"), ("rowcast.feed", "DELETE"),
        ("event", "SELECT"), ("event", "INSERT"), ('"Other"', "SELECT"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("snapshots", "reads"),
    [
        (("", ""), (False, False)),
        (("table", ""), (True, False)),
        (("", "SELECT * FROM \"Other\""), (False, True)),
        (("table", "table"), (True, True)),
    ],
    ids=["none", "one", "query", "both"],
)  # fmt: skip
def test_role_may_read_the_tables_of_routes_with_a_snapshot_and_no_others(
    undoing: Undoing, snapshots: tuple[str, str], reads: tuple[bool, bool]
) -> None:
    tables = ("public.event", "public.Other")
    config = feed_config(
        "user=feeder",
        sources=(Source("tables", (), tables=tables),),
        routes=tuple(
            Route("tables", ("e/{id}",), kind=table, snapshot=snapshot)
            for table, snapshot in zip(tables, snapshots, strict=True)
        ),
    )
    undoing.execute('CREATE ROLE feeder; CREATE TABLE "Other" (id int)')
    undoing.execute(grants(config))
    assert one(undoing, MAY) == (True, True, True, False, reads[0], False, reads[1])
    assert one(undoing, "SELECT has_schema_privilege('feeder', 'rowcast', 'USAGE')") == (True,)


def test_kind_adds_its_own_privileges(undoing: Undoing) -> None:
    undoing.execute("CREATE ROLE feeder")
    undoing.execute(grants(feed_config("user=feeder"), ("GRANT DELETE ON rowcast.feed TO {}",)))
    assert one(undoing, "SELECT has_table_privilege('feeder', 'rowcast.feed', 'DELETE')") == (True,)


MAY_PUBLISH = (
    "SELECT rolname FROM pg_roles WHERE rolname IN ('one', 'Two', 'three') AND NOT (SELECT bool_or("
    "NOT has_function_privilege(rolname, p.oid, 'EXECUTE')) FROM pg_proc p WHERE p.proname = 'publish'"
    " AND p.pronamespace = 'rowcast'::regnamespace) AND has_schema_privilege(rolname, 'rowcast', 'USAGE') ORDER BY 1"
)


@pytest.mark.parametrize(
    ("publishers", "may"),
    [
        (["PUBLIC"], ["Two", "one", "three"]),
        (["public"], ["Two", "one", "three"]),
        (["Two"], ["Two"]),
        (["one", "Two"], ["Two"]),
        (["PUBLIC", "one"], ["one"]),
        (["one", "PUBLIC"], ["Two", "one", "three"]),
        (["one", "one"], ["one"]),
    ],
    ids=",".join,
)
def test_publishing_is_for_one_role_or_for_all(
    undoing: Undoing, publishers: list[str], may: list[str]
) -> None:
    undoing.execute('CREATE ROLE one; CREATE ROLE "Two"; CREATE ROLE three')
    for who in publishers:
        run_steps(undoing, [publish_step("publish_wal.sql", who)])
    assert [name for (name,) in undoing.execute(MAY_PUBLISH).fetchall()] == may


TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'rowcast_capture' ORDER BY 1"


@pytest.mark.parametrize(
    ("but", "is_read_by_another", "left"),
    [
        ((), False, []),
        (("public.event", "public.gone"), False, ["event"]),
        (("public.Odd name",), False, ['"Odd name"']),
        ((), True, ['"Odd name"', "event"]),
    ],
    ids=["all", "but event", "but odd", "read"],
)
def test_triggers_that_nobody_wants_go(
    undoing: Undoing, but: tuple[str, ...], is_read_by_another: bool, left: list[str]
) -> None:
    undoing.execute('CREATE TABLE "Odd name" (id int)')
    for table in ("event", '"Odd name"'):
        undoing.execute(
            f"CREATE TRIGGER rowcast_capture AFTER INSERT ON {table} FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
    undoing.execute(know(feed_config("user=postgres", "outbox"), "0"))
    if is_read_by_another:
        undoing.execute(know(feed_config("user=postgres", "outbox", name="other"), "0"))
    undoing.execute(drop_triggers(feed_config("user=postgres", "outbox"), but))
    assert [name for (name,) in undoing.execute(TRIGGERS).fetchall()] == left


def test_slot_of_another_database_is_left_alone(kept_database: str, database: str) -> None:
    sql(database, "SELECT pg_create_logical_replication_slot('rowcast_shared', 'pgoutput')")
    config = feed_config(kept_database, replication=Replication(slot="rowcast_shared"))
    there = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'rowcast_shared'"
    with connect(kept_database) as connection:
        run_steps(connection, drop_wal(config))
        assert one(connection, there) == (1,)
    with connect(database) as connection:
        run_steps(connection, drop_wal(evolve(config, dsn=database)))
        assert one(connection, there) is None


def test_what_is_there_is_not_made_again(undoing: Undoing) -> None:
    create = composing.SQL("CREATE TABLE {} (id int)").format(composing.Identifier("it's"))
    for _ in range(2):
        undoing.execute(
            create_unless(composing.SQL("SELECT FROM pg_class WHERE relname = 'it''s'").format(), create)
        )
    assert one(undoing, "SELECT count(*) FROM pg_class WHERE relname = 'it''s'") == (1,)


def test_where_nothing_is_installed_nothing_is_done(undoing: Undoing) -> None:
    statement = where_installed("CREATE TABLE was_installed (id int)")
    undoing.execute("ALTER TABLE rowcast.feed RENAME TO elsewhere")
    undoing.execute(statement)
    assert one(undoing, "SELECT to_regclass('was_installed')::text") == (None,)
    undoing.execute("ALTER TABLE rowcast.elsewhere RENAME TO feed")
    undoing.execute(statement)
    assert one(undoing, "SELECT to_regclass('was_installed')::text") == ("was_installed",)
