"""`rowcast feed install | show | check | remove` against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.installed import connect, feed_config, install

from broker.cli.main import main
from broker.config.feeds import FeedConfig, Fetch, Recovery, Replication, Route, Source
from broker.feed.setup import doctor, doctor_server
from broker.feed.setup.findings import Finding
from broker.feed.setup.install import install_steps, remove_steps


@pytest.fixture
def dsn(database: str) -> str:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    return database


def sql(dsn: str, *statements: str) -> None:
    with connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def findings(config: FeedConfig, level: str = "wrong") -> list[Finding]:
    with connect(config.dsn) as connection:
        return [found for found in doctor.examine(connection, config).findings if found.level == level]


def texts(config: FeedConfig, level: str = "wrong") -> str:
    return "\n".join(f"{found.text} -> {found.cure}" for found in findings(config, level))


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_installed_feed_is_healthy_and_install_may_be_repeated(dsn: str, kind: str) -> None:
    config = feed_config(dsn, kind)
    assert findings(config)
    install(config)
    assert not findings(config)
    install(config)
    assert not findings(config)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_remove_takes_everything_away_and_may_be_repeated(dsn: str, kind: str) -> None:
    config = feed_config(dsn, kind)
    install(config)
    for _ in range(2):
        with connect(dsn) as connection:
            for step in remove_steps(config, drop_schema=True):
                connection.execute(step.statement)
    with connect(dsn) as connection:
        left = (
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),"
            " (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),"
            " to_regnamespace('rowcast') IS NULL"
        )
        assert connection.execute(left).fetchone() == (0, 0, 0, True)
        connection.execute("INSERT INTO event VALUES (1, 'still writable')")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
            "there is no slot rowcast_test",
        ),
        ("DROP PUBLICATION rowcast_test", "there is no publication rowcast_test"),
        ("ALTER PUBLICATION rowcast_test DROP TABLE event", "lacks the table public.event"),
        ("ALTER PUBLICATION rowcast_test SET (publish = 'delete')", "leaves out inserts"),
        ("DROP TABLE event", "there is no table public.event"),
        ("DROP SCHEMA rowcast CASCADE", "the schema rowcast is missing"),
        ("ALTER TABLE event REPLICA IDENTITY NOTHING", "updating or deleting its rows fails"),
    ],
)
def test_doctor_names_what_is_wrong_with_a_wal_feed(dsn: str, statement: str, says: str) -> None:
    route = Route("tables", ("e/{id}",), operations=("insert", "update"))
    config = feed_config(dsn, routes=(route,))
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def test_doctor_names_unbounded_wal(dsn: str) -> None:
    config = feed_config(dsn, replication=Replication())
    install(config)
    assert "max_slot_wal_keep_size is unlimited" in texts(config)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DROP TRIGGER rowcast_capture ON event", "its rows are not seen"),
        ("ALTER TABLE event DISABLE TRIGGER rowcast_capture", "is disabled"),
        ("ALTER TABLE rowcast.outbox_commit DISABLE TRIGGER outbox_number", "not numbered at their commit"),
        ("DELETE FROM rowcast.feed", "does not know the feed test"),
        ("DROP TABLE rowcast.outbox_pruned", "rowcast.outbox_pruned is missing"),
        ("DELETE FROM rowcast.outbox_pruned", "rowcast.outbox_pruned is empty"),
    ],
)
def test_doctor_names_what_is_wrong_with_an_outbox_feed(dsn: str, statement: str, says: str) -> None:
    config = feed_config(dsn, "outbox")
    install(config)
    assert not findings(config)
    sql(dsn, statement)
    assert says in texts(config)


def listen_config(dsn: str, **changes: Any) -> FeedConfig:
    config = FeedConfig(
        name="test",
        dsn=dsn,
        sources=(Source("events", ("fill",)),),
        routes=(Route("events", ("fill/{id}",)),),
        recoveries=(Recovery("public.event", ("id",), (("events", "fill"),)),),
    )
    return evolve(config, **changes)


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


def test_the_role_of_a_feed_that_fetches_may_read_the_table_and_no_more(dsn: str) -> None:
    fetch = Fetch("public.event", ("id",), (("events", "fill"),))
    config = listen_config(dsn.replace("user=postgres", "user=rowcast_feed"), recoveries=(), fetches=(fetch,))
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert not findings(config)
        with connect(config.dsn) as feed:
            feed.execute("SELECT * FROM event")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                feed.execute("DELETE FROM event")
    finally:
        sql(dsn, "DROP OWNED BY rowcast_feed", "DROP ROLE rowcast_feed")


def test_doctor_names_a_session_idle_in_a_transaction(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "IDLE_S_MAX", 0)
    with connect(dsn) as idle:
        idle.execute("BEGIN; SELECT 1")
        assert f"session {idle.info.backend_pid} of postgres" in texts(listen_config(dsn), "unwise")


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_role_made_by_install_can_run_the_feed_and_no_more(dsn: str, kind: str) -> None:
    """Least privilege: the doctor, as that role, finds nothing wrong; the tables stay closed to it."""
    config = feed_config(dsn.replace("user=postgres", "user=rowcast_feed"), kind)
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert not findings(config)
        with connect(config.dsn) as connection:
            may = (
                "SELECT rolsuper, has_table_privilege('event', 'SELECT'),"
                " has_schema_privilege('rowcast', 'CREATE') FROM pg_roles WHERE rolname = current_user"
            )
            assert connection.execute(may).fetchone() == (False, False, False)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_feed", "DROP ROLE rowcast_feed")


@pytest.fixture
def config_file(dsn: str, tmp_path: Path) -> Path:
    path = tmp_path / "rowcast.toml"
    path.write_text(f"""
[[listener]]
port = 0
[database]
dsn = "{dsn}"
name = "shop"
kind = "outbox"
[source.tables]
tables = ["public.event"]
[[mqtt.route]]
from = "tables"
topics = ["event/{{id}}"]
""")
    return path


def test_commands_install_show_check_and_remove(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rowcast(*words: str) -> tuple[int, str]:
        status = main(["feed", words[0], "-c", str(config_file), *words[1:]])
        return status, capsys.readouterr().out

    assert rowcast("check")[0] == 1
    status, shown = rowcast("install")
    assert status == 0
    assert "CREATE TRIGGER" in shown
    assert rowcast("check")[0] == 1, "showing changes nothing"
    assert rowcast("install", "--apply")[0] == 0
    status, checked = rowcast("check")
    assert (status, "wrong" in checked) == (0, False)
    assert "0 transactions are unread" in rowcast("show")[1]
    assert rowcast("remove", "--apply", "--schema")[0] == 0
    assert rowcast("check")[0] == 1


def test_commands_say_when_there_is_no_such_feed(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feed", "check", "-c", str(config_file), "--feed", "other"]) == 3
    assert "its feeds: shop" in capsys.readouterr().err
