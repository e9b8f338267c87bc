"""What the doctor asks of every server."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.doctored import as_kind, listen_config, sql, texts
from support.installed import connect, feed_config, install
from support.postgres import Cluster

from broker.cli.main import main
from broker.feed.setup import doctor_server
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
