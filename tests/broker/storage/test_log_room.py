"""The write-ahead log has its size before anybody waits for it, and keeps it; nothing of the room counts as saved."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.storage import engine_with, saved_messages

from broker.config.model import Persistence
from broker.storage.connections import connect, create, open_file
from broker.storage.database import read_database
from broker.storage.journal import Journal
from broker.storage.keeper import Keeper
from broker.storage.log_room import ROOM_BYTES_MAX, make_room
from broker.storage.records import snapshot
from broker.storage.salvage.log_file import log_of, read_log

PAGES_BETWEEN = 1000
"""After so many SQLite moves the log's pages into the file, and begins it anew."""

FRAME_BYTES = 24 + 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rowcast.db"
    create(made)
    return made


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as opened:
        opened.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY, what BLOB)")
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield opened


def log_bytes(path: Path) -> int:
    return log_of(path).stat().st_size


def keep(connection: sqlite3.Connection, *numbers: int) -> None:
    for number in numbers:
        connection.execute("INSERT INTO kept VALUES (?, zeroblob(64))", (number,))


def kept_after_a_crash(path: Path, elsewhere: Path) -> int:
    """How many rows are there in a copy of the files as they are now."""
    for file in (path, log_of(path)):
        shutil.copy(file, elsewhere / file.name)
    with closing(open_file(elsewhere / path.name, "rw")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*) FROM sqlite_master WHERE name = 'room'").fetchone() == (0,)
        count: int = copy.execute("SELECT count(*) FROM kept").fetchone()[0]
    return count


def test_the_log_is_as_long_as_it_will_get_and_the_file_as_it_was(
    path: Path, connection: sqlite3.Connection
) -> None:
    before = path.stat().st_size
    make_room(connection)
    room = log_bytes(path)
    assert PAGES_BETWEEN * FRAME_BYTES < room < ROOM_BYTES_MAX
    assert path.stat().st_size == before
    assert connection.execute("PRAGMA cache_size").fetchone() == (-2000,)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    for number in range(3 * PAGES_BETWEEN):
        keep(connection, number)
        assert log_bytes(path) == room
    assert path.stat().st_size > before


@pytest.mark.parametrize("commits", [0, 1, 2, 500, 1100])
def test_after_a_crash_all_is_there_that_was_committed_and_nothing_else(
    path: Path, connection: sqlite3.Connection, tmp_path_factory: pytest.TempPathFactory, commits: int
) -> None:
    make_room(connection)
    keep(connection, *range(commits))
    assert kept_after_a_crash(path, tmp_path_factory.mktemp("copy")) == commits


@pytest.mark.parametrize("commits", [1, 2, 500])
def test_the_log_is_right_for_who_looks_for_flipped_bits(
    path: Path, connection: sqlite3.Connection, commits: int
) -> None:
    make_room(connection)
    keep(connection, *range(commits))
    found = read_log(path)
    assert found is not None
    _, wal = found
    assert (wal.put_right, wal.is_broken, wal.trouble) == ([], False, "")
    assert wal.page_count == connection.execute("PRAGMA page_count").fetchone()[0]


def test_room_is_made_of_a_log_in_use_and_takes_nothing_from_it(
    path: Path, connection: sqlite3.Connection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keep(connection, *range(30))
    make_room(connection)
    assert kept_after_a_crash(path, tmp_path_factory.mktemp("copy")) == 30


def test_a_full_disk_is_told_and_leaves_all_as_it_was(path: Path, connection: sqlite3.Connection) -> None:
    keep(connection, 1)
    connection.execute("PRAGMA max_page_count = 100")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        make_room(connection)
    assert not connection.in_transaction
    assert connection.execute("PRAGMA cache_size").fetchone() == (-2000,)
    keep(connection, 2)
    assert connection.execute("SELECT count(*) FROM kept").fetchone() == (2,)


def test_a_log_that_a_large_save_made_long_is_cut_when_it_begins_anew(
    path: Path, connection: sqlite3.Connection
) -> None:
    make_room(connection)
    connection.execute("INSERT INTO kept VALUES (0, zeroblob(20000000))")
    assert log_bytes(path) > 20_000_000
    keep(connection, 1)
    assert log_bytes(path) == ROOM_BYTES_MAX


async def save(journal: Journal, messages: int) -> None:
    async def take() -> object:
        return snapshot(engine_with(messages), 0.0)

    assert await journal.save(take)  # type: ignore[arg-type]


async def test_a_journal_keeps_room_only_if_somebody_waits(path: Path) -> None:
    journal, _ = await Journal.open(path)
    await save(journal, 3)
    assert log_bytes(path) == 0
    journal.keeps_room = True
    await save(journal, 4)
    assert log_bytes(path) > PAGES_BETWEEN * FRAME_BYTES
    await journal.close()
    assert not log_of(path).exists()
    assert saved_messages(path) == 4


async def test_no_room_is_no_trouble(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal, _ = await Journal.open(path)
    journal.keeps_room = True
    journal._connection.execute("PRAGMA max_page_count = 100")
    await save(journal, 3)
    assert journal.problem == ""
    assert "no room was made in" in caplog.text
    await journal.close()
    assert saved_messages(path) == 3


@pytest.mark.parametrize("acknowledge", ["saved", "received"])
async def test_there_is_room_from_the_start_where_clients_wait_for_saves(
    tmp_path: Path, acknowledge: str
) -> None:
    settings = Persistence(persistence=True, persistence_location=tmp_path, acknowledge=acknowledge)
    keeper = await Keeper.open(engine_with(0), settings)
    path = tmp_path / settings.persistence_file
    log = log_of(path)
    size = log.stat().st_size if log.exists() else 0
    assert (size > PAGES_BETWEEN * FRAME_BYTES) is (acknowledge == "saved")
    await keeper.close()
    assert not log.exists()
    saved, _ = read_database(path)
    assert len(saved.retained) == 0
