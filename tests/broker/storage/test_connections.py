"""The file of SQLite as such: whole from its first moment, for its owner alone, and for one process at a time."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from broker.storage.connections import connect, create, expected_tables, open_file, tables_of
from broker.storage.schema import APPLICATION_ID, FORMAT_VERSION, TABLES_4
from broker.storage.unfit import TABLE as SET_ASIDE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # What SQLite would take for a part of its address.
    made = tmp_path / "row cast?mode=memory#%41.db"
    create(made)
    return made


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_file_says_whose_it_is_and_is_its_owners_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [left.name for left in path.parent.iterdir()] == [path.name]
    with closing(open_file(path, "ro")) as connection:
        assert pragma(connection, "application_id") == APPLICATION_ID
        assert pragma(connection, "user_version") == FORMAT_VERSION
        assert pragma(connection, "journal_mode") == "wal"
        assert pragma(connection, "auto_vacuum") == 2
        assert tables_of(connection) == expected_tables()


def test_what_a_crash_left_half_made_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / "rowcast.db.new"
    left.write_bytes(b"half")
    left.chmod(0o644)
    create(tmp_path / "rowcast.db")
    assert stat.S_IMODE((tmp_path / "rowcast.db").stat().st_mode) == 0o600
    assert not left.exists()


def test_the_tables_are_those_of_the_format_whatever_was_set_aside(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute(f"CREATE TABLE {SET_ASIDE} (why TEXT)")
        assert tables_of(connection) == expected_tables()
        assert tables_of(connection) != expected_tables(TABLES_4)
        connection.execute("CREATE TABLE another (why TEXT)")
        assert tables_of(connection) != expected_tables()


def test_a_file_that_is_open_to_write_is_open_to_nobody_else(path: Path) -> None:
    with closing(connect(path)) as connection:
        assert pragma(connection, "synchronous") == 2
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            connect(path)
    connect(path).close()


def test_the_index_that_a_reader_left_goes(path: Path) -> None:
    shared = path.with_name(path.name + "-shm")
    with closing(open_file(path, "rw")) as reader:
        reader.execute("SELECT * FROM state").fetchall()
        assert shared.exists()
        kept = shared.read_bytes()
    shared.write_bytes(kept)
    with closing(connect(path)):
        assert not shared.exists()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for mode in ("ro", "rw"):
        with pytest.raises(sqlite3.OperationalError):
            open_file(tmp_path / "nowhere.db", mode).execute("SELECT 1 FROM sqlite_master")
    assert list(tmp_path.iterdir()) == []


def test_who_opens_it_to_read_can_not_write(path: Path) -> None:
    with (
        closing(open_file(path, "ro")) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM state")
