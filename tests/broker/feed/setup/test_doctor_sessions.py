"""What the doctor sees of policies, heirs, and writers that an installation waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import Told, as_kind, listen_config, said, texts, undone
from support.installed import connect, feed_config, install, sql

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.feed.setup import doctor_sessions
from broker.feed.setup.doctor_sessions import check_heirs, check_open_writers, check_row_security
from broker.feed.setup.findings import Examination
from broker.feed.setup.install import install_steps


@pytest.mark.parametrize("what", ["snapshot", "recover", "fetch"])
def test_policies_that_hide_rows_are_seen(dsn: str, what: str) -> None:
    as_reader = dsn.replace("user=postgres", "user=rowcast_reader")
    if what == "snapshot":
        config = feed_config(as_reader, routes=(Route("tables", ("event/{id}",), snapshot="table"),))
    else:
        config = as_kind(as_reader, "listen")
        if what == "fetch":
            config = evolve(
                config, recoveries=(), fetches=(Fetch("public.event", ("id",), (("tables", "event"),)),)
            )
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert "row security" not in texts(config)
        sql(dsn, "ALTER TABLE event ENABLE ROW LEVEL SECURITY")
        assert 'ALTER ROLE "rowcast_reader" BYPASSRLS' in texts(config)
        sql(dsn, "ALTER ROLE rowcast_reader BYPASSRLS")
        assert "row security" not in texts(config)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_reader", "DROP ROLE rowcast_reader")


@pytest.mark.parametrize("may_see", [True, False])
def test_writers_for_whom_an_installation_waits_are_seen(
    dsn: str, may_see: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_sessions, "OPEN_S_MAX", 0.0)
    monkeypatch.setattr(doctor_sessions, "UNKNOWN_S", 0.05)
    config = feed_config(dsn)
    install(config)
    sql(dsn, "CREATE ROLE rowcast_blind LOGIN REPLICATION")
    asked = config if may_see else evolve(config, dsn=dsn.replace("user=postgres", "user=rowcast_blind"))
    try:
        with connect(dsn) as writer:
            writer.execute("BEGIN; SELECT 1")
            assert "snapshots wait" not in texts(asked, "unwise")
            writer.execute("INSERT INTO event VALUES (1, 'open')")
            assert f"session {writer.info.backend_pid} of " in texts(asked, "unwise")
            writer.execute("PREPARE TRANSACTION 'half'")
            assert "the prepared transaction 'half' is open" in texts(asked, "unwise")
            writer.execute("ROLLBACK PREPARED 'half'")
            assert "snapshots wait" not in texts(asked, "unwise")
    finally:
        sql(dsn, "DROP ROLE rowcast_blind")


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_tables_that_inherit_are_named_unless_a_route_has_them(dsn: str, kind: str) -> None:
    sql(dsn, "CREATE TABLE child () INHERITS (event)", "CREATE TABLE grandchild () INHERITS (child)")
    config = feed_config(dsn, kind)
    install(config)
    assert "public.child, public.grandchild, which inherit from public.event" in texts(config, "unwise")
    tables = ("public.event", "public.child", "public.grandchild")
    route = Route("tables", ("event/{id}",))
    named = evolve(config, sources=(Source("tables", (), tables=tables),), routes=(route,))
    assert "inherit" not in texts(named, "unwise")


@pytest.fixture
def undoing(kept_database: str) -> Iterator[psycopg.Connection[Any]]:
    with undone(kept_database, 'CREATE TABLE "Odd" (id int); CREATE TABLE other (id int)') as connection:
        yield connection


def of_odd(kind: str, **changes: Any) -> FeedConfig:
    tables = ("public.Odd", "public.other")
    routes = (
        evolve(Route("tables", ("t/{id}",), kind="public.Odd"), **changes),
        Route("tables", ("o/{id}",), kind="public.other"),
    )
    source = Source("tables", (), tables=tables)
    return feed_config("user='odd role'", kind, sources=(source,), routes=routes)


KEYED: dict[str, Any] = {
    "recoveries": (Recovery("public.Odd", ("id",), ()),),
    "fetches": (Fetch("public.Odd", ("id",), ()),),
}
SECURED = 'ALTER TABLE "Odd" ENABLE ROW LEVEL SECURITY; ALTER TABLE other ENABLE ROW LEVEL SECURITY'
HIDES = [
    (
        "wrong",
        "public.Odd has row security, so Postgres refuses to let odd role read it",
        'ALTER ROLE "odd role" BYPASSRLS',
    )
]


@pytest.mark.parametrize(
    ("config", "is_read"),
    [
        (of_odd("wal"), False),
        (of_odd("wal", snapshot="table"), True),
        (of_odd("outbox", snapshot="SELECT 1"), True),
        (evolve(of_odd("wal"), **KEYED), False),
        (listen_config("user='odd role'", recoveries=KEYED["recoveries"]), True),
        (listen_config("user='odd role'", recoveries=(), fetches=KEYED["fetches"]), True),
    ],
    ids=["wal", "snapshot", "query", "keyed wal", "recover", "fetch"],
)
def test_policies_hide_rows_of_tables_that_are_read(
    undoing: psycopg.Connection[Any], config: FeedConfig, is_read: bool
) -> None:
    undoing.execute('CREATE ROLE "odd role"')
    examination = Examination(undoing, config)
    assert said(check_row_security, examination) == []
    undoing.execute(SECURED)
    found = said(check_row_security, examination)
    assert found == HIDES * is_read
    for _, _, cure in found:
        undoing.execute(cure)
        assert said(check_row_security, examination) == []


@pytest.mark.parametrize(
    ("role", "force", "hides"),
    [
        ('CREATE ROLE "odd role" SUPERUSER', "", False),
        ('CREATE ROLE "odd role"; ALTER TABLE "Odd" OWNER TO "odd role"', "", False),
        ('CREATE ROLE "odd role"; ALTER TABLE "Odd" OWNER TO "odd role"', "FORCE", True),
        ('CREATE ROLE "odd role" SUPERUSER', "FORCE", False),
        ('CREATE ROLE o; CREATE ROLE "odd role" IN ROLE o; ALTER TABLE "Odd" OWNER TO o', "", False),
        ("SELECT 1", "", False),
    ],
    ids=["superuser", "owner", "owner by force", "superuser by force", "owner's member", "no role"],
)
def test_policies_are_for_whoever_neither_owns_the_table_nor_is_above_them(
    undoing: psycopg.Connection[Any], role: str, force: str, hides: bool
) -> None:
    undoing.execute(role)
    undoing.execute(SECURED)
    if force:
        undoing.execute('ALTER TABLE "Odd" FORCE ROW LEVEL SECURITY')
    assert said(check_row_security, Examination(undoing, of_odd("wal", snapshot="table"))) == HIDES * hides


def test_heirs_are_named_but_for_partitions_and_those_with_routes(undoing: psycopg.Connection[Any]) -> None:
    undoing.execute('CREATE TABLE heir () INHERITS ("Odd"); CREATE TABLE "Third" () INHERITS (heir)')
    undoing.execute("CREATE TABLE parted (id int) PARTITION BY RANGE (id)")
    undoing.execute("CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (9)")

    def found(*tables: str) -> list[tuple[str, str, str]]:
        config = feed_config("", sources=(Source("t", (), tables=tables),), routes=(Route("t", ("x",)),))
        return said(check_heirs, Examination(undoing, config))

    ((level, text, cure),) = found("public.Odd", "public.parted", "public.absent")
    assert (level, text, bool(cure)) == (
        "unwise",
        "what is written to public.Third, public.heir, which inherit from public.Odd, does not come as rows of it",
        True,
    )
    ((_, text, _), (_, other, _)) = found("public.Odd", "heir")
    assert ("to public.Third, which" in text, "inherit from public.heir" in other) == (True, True)
    assert found("public.Odd", "public.heir", "public.Third") == []


def writer(age_s: float | None, **differs: Any) -> tuple[Any, ...]:
    row = {
        "vxid": "3/1",
        "xid": "70",
        "pid": 7,
        "user": "app",
        "db": "shop",
        "age": age_s,
        "gid": None,
    } | differs
    return tuple(row.values())


WAITS = ": installing, a new slot and snapshots wait for it"
END = "let it end before you install, or SELECT pg_terminate_backend(7)"


@pytest.mark.parametrize(
    ("row", "text", "cure"),
    [
        (writer(5.0), "", ""),
        (writer(5.1), "session 7 of app in shop has been writing in one transaction for 5 s", END),
        (
            writer(99.6, user=None, db=None),
            "session 7 of another role has been writing in one transaction for 100 s",
            END,
        ),
        (writer(None), "session 7 of app in shop has been writing in one transaction for over 1 s", END),
        (
            writer(None, pid=None, gid="it's"),
            "the prepared transaction \"it's\" is open",
            "COMMIT PREPARED 'it''s', or ROLLBACK PREPARED",
        ),
    ],
    ids=["short", "long", "hidden", "unknown", "prepared"],
)  # fmt: skip
def test_writers_are_named_that_last(
    monkeypatch: pytest.MonkeyPatch, row: tuple[Any, ...], text: str, cure: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    found = said(check_open_writers, Told(feed_config(""), {"pg_locks": [row]}))
    assert found == ([("unwise", text + WAITS, cure)] if text else [])
    assert slept == [doctor_sessions.UNKNOWN_S] * (row[5] is None)


def test_writer_of_unknown_age_that_has_ended_at_the_second_look_has_not_lasted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"pg_locks": [writer(None)]}
    for later in ([], [writer(None, xid="71")], [writer(2.0)]):
        answers["pg_locks"] = [writer(None)]
        monkeypatch.setattr(time, "sleep", lambda _, later=later: answers.update(pg_locks=later))
        assert said(check_open_writers, Told(feed_config(""), answers)) == []
