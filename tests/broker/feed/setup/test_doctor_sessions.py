"""What the doctor sees of policies, heirs, and writers that an installation waits for."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.doctored import as_kind, sql, texts
from support.installed import connect, feed_config, install

from broker.config.feeds import Fetch, Route, Source
from broker.feed.setup import doctor_sessions
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
