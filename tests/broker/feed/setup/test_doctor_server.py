"""What the doctor asks of every server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.doctored import Told, as_kind, listen_config, said, texts, undone
from support.installed import connect, feed_config, install, sql
from support.postgres import Cluster

from broker.cli.main import main
from broker.config.feeds import Route, Source
from broker.feed.cures import INSTALL
from broker.feed.setup import doctor_server
from broker.feed.setup.doctor_server import (
    check_idle_transactions,
    check_notification_queue,
    check_place,
    check_server,
    check_tables,
)
from broker.feed.setup.findings import Examination
from broker.feed.setup.install import install_steps


def test_doctor_names_a_session_idle_in_a_transaction(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "IDLE_S_MAX", 0)
    with connect(dsn) as idle:
        idle.execute("BEGIN; SELECT 1")
        assert f"session {idle.info.backend_pid} of postgres" in texts(listen_config(dsn), "unwise")


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


Answers = dict[str, list[tuple[Any, ...]]]
CONNECTED = ("fine", "connected to Postgres 15, database shop, as feeder", "")
HEALTHY: Answers = {
    "current_user": [("feeder", "shop")],
    "pg_is_in_recovery": [(False,)],
    "SQL_ASCII": [(False,)],
}


@pytest.mark.parametrize(
    ("version", "differs", "expected"),
    [
        (150004, {}, [CONNECTED]),
        (130000, {}, [("fine", "connected to Postgres 13, database shop, as feeder", "")]),
        (129999, {}, [("wrong", "the server's version is 12, at least 13 is needed", "upgrade it")]),
        (
            150004,
            {"pg_is_in_recovery": [(True,)]},
            [CONNECTED, ("wrong", "the server is a standby", "let the feed's dsn name the primary")],
        ),
    ],
    ids=["healthy", "oldest", "too old", "standby"],
)
def test_server_is_a_primary_of_a_version_that_can(
    monkeypatch: pytest.MonkeyPatch, version: int, differs: Answers, expected: list[tuple[str, str, str]]
) -> None:
    monkeypatch.setattr(doctor_server, "shares_sessions", lambda connection, dsn: False)
    examination = Told(feed_config("user=feeder"), HEALTHY | differs, version)
    assert said(check_server, examination) == expected


def test_pooler_that_shares_sessions_is_refused_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "shares_sessions", lambda connection, dsn: dsn == "user=feeder")
    (connected, (level, text, cure)) = said(check_server, Told(feed_config("user=feeder"), HEALTHY))
    assert connected == CONNECTED
    assert (level, text.partition(" (")[0]) == ("wrong", "a pooler in transaction mode stands between")
    assert cure == "let the dsn name the server itself, or a pool with pool_mode = session"


@pytest.mark.parametrize(
    ("usage", "level", "text"),
    [
        (0.0, "fine", "the NOTIFY queue is 0.0% full"),
        (0.05, "fine", "the NOTIFY queue is 5.0% full"),
        (0.051, "wrong", "the NOTIFY queue is 5% full; writers fail when it is full"),
        (1.0, "wrong", "the NOTIFY queue is 100% full; writers fail when it is full"),
    ],
)
def test_queue_of_notifications_may_be_a_twentieth_full(usage: float, level: str, text: str) -> None:
    ((found, words, cure),) = said(
        check_notification_queue, Told(feed_config(""), {"queue_usage": [(usage,)]})
    )
    assert (found, words, bool(cure)) == (level, text, level == "wrong")


@pytest.mark.parametrize(("user", "who"), [("app", "app"), (None, "another role")])
def test_session_idle_in_a_transaction_is_named_with_what_ends_it(user: str | None, who: str) -> None:
    examination = Told(feed_config(""), {"idle in transaction": [(7, user, 61)]})
    ((level, text, cure),) = said(check_idle_transactions, examination)
    assert (level, text) == ("unwise", f"session 7 of {who} has been idle in a transaction for 61 s")
    assert cure.startswith("end it: SELECT pg_terminate_backend(7); and")


@pytest.mark.parametrize(("rows", "is_wrong"), [([(False,)], True), ([(True,)], False), ([], False)])
def test_place_that_is_not_there_yet_is_nobodys_fault(rows: list[tuple[Any, ...]], is_wrong: bool) -> None:
    found = said(check_place, Told(feed_config("user=feeder"), {"has_schema_privilege": rows}))
    assert found == [("wrong", "feeder may not use the table rowcast.feed", INSTALL)] * is_wrong


ODD = "public.Odd event"


@pytest.mark.parametrize(
    ("kind", "made", "snapshot", "expected"),
    [
        ("wal", "TABLE {} (id int)", "", ""),
        ("wal", "TABLE {} (id int)", "table", f"{ODD} may not be read for a snapshot"),
        ("outbox", "TABLE {} (id int)", "table", f"{ODD} may not be read for a snapshot"),
        ("wal", "TABLE {} (id int) PARTITION BY RANGE (id)", "", ""),
        ("wal", "UNLOGGED TABLE {} (id int)", "", f"{ODD} is unlogged: its changes are in no WAL"),
        ("outbox", "UNLOGGED TABLE {} (id int)", "", ""),
        ("wal", "VIEW {} AS SELECT 1 AS id", "", f"{ODD} is no table but a view or the like"),
        ("wal", "VIEW odd AS SELECT 1 AS id", "", f"there is no table {ODD}"),
    ],
    ids=["table", "unread", "unread outbox", "partitioned", "unlogged", "unlogged outbox", "view", "none"],
)
def test_tables_are_of_a_kind_that_can_be_captured_and_the_cure_cures(
    kept_database: str, kind: str, made: str, snapshot: str, expected: str
) -> None:
    config = feed_config(
        "user='odd role'",
        kind,
        sources=(Source("tables", (), tables=(ODD, "public.other")),),
        routes=(
            Route("tables", ("e/{id}",), kind=ODD, snapshot=snapshot),
            Route("tables", ("o/{id}",), kind="public.other"),
        ),
    )
    created = f"CREATE {made.format(chr(34) + 'Odd event' + chr(34))}"
    with undone(kept_database, 'CREATE ROLE "odd role"; CREATE TABLE other (id int)', created) as connection:
        examination = Examination(connection, config)

        def found() -> list[tuple[str, str, str]]:
            connection.execute('SET LOCAL ROLE "odd role"')
            try:
                return said(check_tables, examination)
            finally:
                connection.execute("RESET ROLE")

        before = found()
        assert [text for _, text, _ in before] == [expected] * bool(expected)
        for _, _, cure in before:
            if cure.startswith(("ALTER", "GRANT")):
                connection.execute(cure)
                assert found() == []
