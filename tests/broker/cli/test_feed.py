"""`rowcast feed install | show | check | remove` against a real server, and installations that fail in the middle."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from support.feed_files import feed_file
from support.postgres import cluster, database  # noqa: F401 - fixtures

from broker.cli import feed
from broker.cli.main import main
from broker.feed.cures import MADE_LOGICAL
from broker.feed.setup.steps import Step

ROLE = "rowcast_test_half"
"""May make what the feed needs, and owns only the first table."""


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_an_installation_that_fails_says_what_it_has_done_and_is_gone_on_with(
    tmp_path: Path,
    database: str,  # noqa: F811 - a fixture
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = feed_file(tmp_path, database, kind, "mine", "theirs")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {ROLE} LOGIN REPLICATION")
        try:
            admin.execute("CREATE TABLE mine (id int PRIMARY KEY); CREATE TABLE theirs (id int PRIMARY KEY)")
            admin.execute(f"ALTER TABLE mine OWNER TO {ROLE}")
            admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO {ROLE}")
            install = ["feed", "install", "-c", path, "--apply"]
            as_role = ["--as", database.replace("user=postgres", f"user={ROLE}")]

            assert main([*install, *as_role]) == 1
            said = capsys.readouterr().err.splitlines()
            assert any("table theirs" in line and ("owner" in line or "denied" in line) for line in said), (
                said
            )
            assert any('--as "dbname=... user=..."' in line for line in said)
            (done,) = [line.partition("done before: ")[2] for line in said if "done before: " in line]
            assert done != "nothing"
            assert any("run it again; what is done is left as it is" in line for line in said)
            if kind == "outbox":
                triggers = "SELECT tgrelid::regclass::text, oid FROM pg_trigger WHERE tgname LIKE 'rowcast%'"
                kept = admin.execute(triggers).fetchall()
                assert {table for table, _ in kept} == {"mine"}

            assert main(install) == 0
            if kind == "outbox":
                assert set(kept) < set(admin.execute(triggers).fetchall())
            capsys.readouterr()
            assert main(["feed", "check", "-c", path]) == 0, capsys.readouterr().out
        finally:
            admin.execute(f"REASSIGN OWNED BY {ROLE} TO postgres")
            admin.execute(f"DROP OWNED BY {ROLE}")
            admin.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def config_file(database: str, tmp_path: Path) -> Path:  # noqa: F811 - a fixture
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    path = tmp_path / "rowcast.toml"
    path.write_text(f"""
[[listener]]
port = 0
[database]
dsn = "{database}"
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
    assert "unread: 0 transactions" in rowcast("show")[1]
    assert rowcast("remove", "--apply", "--schema")[0] == 0
    assert rowcast("check")[0] == 1


def test_what_an_installation_leaves_wrong_is_said_at_its_end(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config_file.read_text()
    config_file.write_text(text.replace('["event/{id}"]', '["event/{number}"]'))
    assert main(["feed", "install", "-c", str(config_file)]) == 0
    assert capsys.readouterr().err == "", "what is only shown is not judged"
    assert main(["feed", "install", "-c", str(config_file), "--apply"]) == 0
    shown = capsys.readouterr()
    assert "feed shop: installed" in shown.out
    assert "still wrong" in shown.err
    assert "public.event has no column number" in shown.err
    assert "cure: " in shown.err
    config_file.write_text(text)
    assert main(["feed", "install", "-c", str(config_file), "--apply"]) == 0
    assert capsys.readouterr().err == ""


def test_an_installation_by_another_role_says_that_the_feeds_own_can_not_connect(
    config_file: Path,
    database: str,  # noqa: F811 - a fixture
    capsys: pytest.CaptureFixture[str],
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE rowcast_test_shut NOLOGIN")
        try:
            dsn = psycopg.conninfo.make_conninfo(database, user="rowcast_test_shut")
            config_file.write_text(config_file.read_text().replace(database, dsn))
            assert main(["feed", "install", "-c", str(config_file), "--apply", "--as", database]) == 0
            assert "its own role can't connect" in capsys.readouterr().err
        finally:
            admin.execute("DROP OWNED BY rowcast_test_shut")
            admin.execute("DROP ROLE rowcast_test_shut")


def test_a_server_that_writes_too_little_is_named_with_its_cure(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The servers of tests are all `logical`, so the step says what Postgres says on another."""
    refusal = (
        "DO $$ BEGIN RAISE 'logical decoding requires wal_level >= logical' USING ERRCODE = '55000'; END $$"
    )
    monkeypatch.setattr(feed, "install_steps", lambda *_: [Step("the slot", refusal)])
    assert main(["feed", "install", "-c", str(config_file), "--apply"]) == 1
    said = capsys.readouterr().err
    assert "the slot: logical decoding requires wal_level" in said
    assert f"\n{MADE_LOGICAL}\n" in said


def test_commands_say_when_there_is_no_such_feed(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["feed", "check", "-c", str(config_file), "--feed", "other"]) == 3
    assert "its feeds: shop" in capsys.readouterr().err
