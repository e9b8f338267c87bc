"""What the doctor sees of former configurations, of policies, of writers that an installation waits for, of columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from support.installed import connect, feed_config, install
from support.postgres import Cluster

from broker.cli.main import main
from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source
from broker.feed.setup import doctor, doctor_sessions
from broker.feed.setup.dangers import dangers
from broker.feed.setup.install import install_steps


@pytest.fixture
def dsn(database: str) -> str:
    sql(database, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    return database


def sql(dsn: str, *statements: str) -> None:
    with connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def texts(config: FeedConfig, level: str = "wrong") -> str:
    with connect(config.dsn) as connection:
        found = doctor.examine(connection, config).findings
    return "\n".join(f"{one.text} -> {one.cure}" for one in found if one.level == level)


def as_kind(dsn: str, kind: str) -> FeedConfig:
    if kind != "listen":
        return feed_config(dsn, kind)
    source = Source("tables", ("event",))
    recovery = Recovery("public.event", ("id",), (("tables", "event"),))
    return FeedConfig(
        "test", dsn, sources=(source,), routes=(Route("tables", ("event/{id}",)),), recoveries=(recovery,)
    )


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
    assert "1 transactions for the feed shop" in texts(feed_config(dsn, "outbox", name="main"), "unwise")


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
            from broker.feed.setup.install import install_steps

            for step in install_steps(config):
                connection.execute(step.statement)
        assert "row security" not in texts(config)
        sql(dsn, "ALTER TABLE event ENABLE ROW LEVEL SECURITY")
        assert "ALTER ROLE rowcast_reader BYPASSRLS" in texts(config)
        sql(dsn, "ALTER ROLE rowcast_reader BYPASSRLS")
        assert "row security" not in texts(config)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_reader", "DROP ROLE rowcast_reader")


def test_generated_column_in_a_replica_identity_is_refused_where_writers_would_be(dsn: str) -> None:
    config = feed_config(dsn, routes=(Route("tables", ("e",), kind="public.event", operations=("update",)),))
    sql(dsn, "ALTER TABLE event ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED")
    assert "generated columns" not in texts(config)
    sql(dsn, "ALTER TABLE event REPLICA IDENTITY FULL")
    with connect(dsn) as connection:
        refuses = connection.info.server_version >= 180000
        assert refuses == any("(twice)" in one.text for one in dangers(connection, config))


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


ROUTE = Route("tables", ("event/{id}",), where="rowcast.toml:12")


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
@pytest.mark.parametrize(
    ("route", "says"),
    [
        (
            evolve(ROUTE, topics=("event/{nte}",)),
            "rowcast.toml:12: public.event has no column nte; did you mean note?",
        ),
        (evolve(ROUTE, once_per=("ID",)), "rowcast.toml:12: public.event has no column ID; did you mean"),
        (
            evolve(ROUTE, topics=("a/{payload.temp}",)),
            "public.event has no column payload; it has id, note, tags",
        ),
        (evolve(ROUTE, topics=("a/{note.temp}",)), "note of public.event is text, which has no members"),
        (evolve(ROUTE, topics=("a/{tags.temp}/{$kind}",)), ""),
    ],
)
def test_column_that_the_table_lacks_is_named_with_the_right_one(
    dsn: str, kind: str, route: Route, says: str
) -> None:
    sql(dsn, "ALTER TABLE event ADD tags jsonb")
    config = evolve(as_kind(dsn, kind), routes=(route,))
    install(config)
    said = texts(config)
    assert says in said
    assert bool(says) == bool(said), said


def test_generated_column_is_in_no_wal(dsn: str) -> None:
    sql(dsn, "ALTER TABLE event ADD size int GENERATED ALWAYS AS (length(note)) STORED")
    route = evolve(ROUTE, topics=("event/{size}",))
    for kind, says in (("wal", "size of public.event is a generated column"), ("outbox", "")):
        config = feed_config(dsn, kind, routes=(route,))
        install(config)
        assert says in texts(config)
        assert bool(says) == bool(texts(config))


def test_topics_of_deletes_need_what_deletes_bring(dsn: str) -> None:
    route = evolve(ROUTE, topics=("event/{id}/{note}",), operations=("insert", "delete"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert "deletes of public.event come without note" in texts(config, "unwise")
    assert "without id" not in texts(config, "unwise")
    sql(dsn, "ALTER TABLE event REPLICA IDENTITY FULL")
    assert "come without" not in texts(config, "unwise")


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


def test_the_trigger_of_a_partition_that_is_off_is_seen_and_an_installation_turns_it_on(
    database: str,
) -> None:
    sql(
        database,
        "CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE event_a PARTITION OF event FOR VALUES FROM (0) TO (100)",
    )
    config = feed_config(database, "outbox")
    install(config)
    assert texts(config) == ""
    sql(database, "ALTER TABLE event_a DISABLE TRIGGER rowcast_capture")
    assert "the trigger of event_a, a partition of public.event, is disabled" in texts(config)
    install(config)
    assert texts(config) == ""


def test_partition_whose_rows_are_in_no_wal_is_seen(database: str) -> None:
    sql(
        database,
        "CREATE TABLE event (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)",
        "CREATE UNLOGGED TABLE event_a PARTITION OF event FOR VALUES FROM (0) TO (100)",
    )
    config = feed_config(database, "wal")
    install(config)
    assert "event_a, a partition of public.event, is unlogged" in texts(config)
    sql(database, "ALTER TABLE event_a SET LOGGED")
    assert texts(config) == ""
    outbox = feed_config(database, "outbox")
    install(outbox)
    sql(database, "ALTER TABLE event_a SET UNLOGGED")
    assert texts(outbox) == ""


def test_place_that_is_not_kept_is_seen_for_listen(dsn: str) -> None:
    config = as_kind(dsn, "listen")
    assert "how far the feed got is not kept" in texts(config, "unwise")
    install(config)
    assert "how far the feed got" not in texts(config, "unwise")


@pytest.mark.parametrize("kind", ["wal", "listen"])
@pytest.mark.parametrize(
    "right", ["INSERT ON rowcast.feed", "UPDATE ON rowcast.feed", "USAGE ON SCHEMA rowcast"]
)
def test_right_that_the_feed_lacks_is_seen(dsn: str, kind: str, right: str) -> None:
    role = "rowcast_doctored"
    config = as_kind(dsn.replace("user=postgres", f"user={role}"), kind)
    with connect(dsn) as connection:
        for step in install_steps(config):
            connection.execute(step.statement)
        try:
            assert "may not use" not in texts(config)
            connection.execute(f"REVOKE {right} FROM {role}, PUBLIC")
            assert "may not use the table rowcast.feed" in texts(config)
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_encoding_that_takes_whatever_it_is_given_is_seen_and_hides_nothing_else(
    cluster: Cluster, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"ascii_doctor_{kind}"
    dsn = cluster.dsn(name)
    sql(cluster.dsn(), f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    path = tmp_path / "rowcast.toml"
    path.write_text(f"""
[[listener]]
port = 0
[database]
dsn = "{dsn}"
kind = "{kind}"
[database.replication]
allow_unbounded_wal = true
[source.tables]
tables = ["public.event"]
[[mqtt.route]]
from = "tables"
topics = ["event/{{id}}"]
""")
    try:
        sql(dsn, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        assert main(["feed", "install", "-c", str(path), "--apply"]) == 0
        assert main(["feed", "check", "-c", str(path)]) == 0
        said = capsys.readouterr().out
        assert "encoding is SQL_ASCII" in said
        assert "b'" not in said
    finally:
        cluster.drop_database(name)
