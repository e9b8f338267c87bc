"""The file of SQLite as such: made, opened to read or to write, and which tables it should have."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from broker.process.system import is_root
from broker.storage.log_room import ROOM_BYTES_MAX
from broker.storage.schema import APPLICATION_ID, FORMAT_VERSION, TABLES
from broker.storage.unfit import TABLE as SET_ASIDE


def create(path: Path) -> None:
    """Make an empty file that is marked as ours from its first moment on: under another name, then renamed."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    # Only for whoever runs the broker: payloads may be anybody's secrets.
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if is_root():
        # Started by root to become `user` later: the file is for whom its folder belongs to.
        owner = path.parent.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.executescript(f"BEGIN; {TABLES} COMMIT")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
    fresh.rename(path)
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows: a folder can't be opened, and a new name is on disk with the file
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """What `sqlite_master` says of all but the one for what was set aside."""
    query = "SELECT name, sql FROM sqlite_master WHERE name != ? ORDER BY name"
    return connection.execute(query, (SET_ASIDE,)).fetchall()


def expected_tables(tables: str = TABLES) -> list[tuple[str, str]]:
    """The same of tables that these statements make."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables)
        return tables_of(connection)


def connect(path: Path) -> sqlite3.Connection:
    """Open it to write, for this process alone.  Raises: sqlite3.Error."""
    connection = open_file(path, "rw")
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
        connection.execute(f"PRAGMA journal_size_limit = {ROOM_BYTES_MAX}")
        connection.execute("BEGIN IMMEDIATE")  # takes the lock, which stays
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    # Exclusive use keeps the index of the write-ahead log in memory; the reader's file is of no more use.
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return connection


def open_file(path: Path, mode: str) -> sqlite3.Connection:
    """Open it as it is; `mode` is "ro" or "rw".  Raises: sqlite3.Error."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        # One thread at a time uses it, but not always the same.
        check_same_thread=False,
    )
