"""The file that keeps sessions and messages: found, checked and locked before anything is written to it.

A file that is not ours, is newer than us, or is damaged is refused by name and left as it is: it is read by a
connection that can't write, and only then opened by one that can.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from broker.process.system import is_root
from broker.storage import schema_2, schema_3
from broker.storage.errors import StorageError
from broker.storage.reading import Damaged, read
from broker.storage.records import Snapshot
from broker.storage.schema import APPLICATION_ID, FORMAT_VERSION, TABLE_NAMES, TABLES, register
from broker.storage.unfit import TABLE as SET_ASIDE
from broker.storage.unfit import Unfit
from broker.storage.writing import Writer
from protocol.mosquitto_db import MAGIC

OLDER_TABLES: Final = {2: schema_2.TABLES, 3: schema_3.TABLES}
"""The formats before this one, whose files are taken over."""
_HEADER_BYTES: Final = 100
_SQLITE_MAGIC: Final = b"SQLite format 3\0"


def open_database(path: Path) -> tuple[sqlite3.Connection, Snapshot]:
    """Open the file, making it if there is none, and read what was saved to it.  Blocks.

    Returns:
        A connection in autocommit mode that no other process can share, and what the file holds.

    Raises:
        StorageError: it is not ours, is damaged, is in use, or can't be opened.
    """
    try:
        if not path.exists():
            _refuse_orphan(path)
            _create(path)
        version = _check_header(path)
        if version != FORMAT_VERSION:
            _migrate(path, version)
        unfit = Unfit()
        saved = _read_untouched(path, unfit)
        connection = _connect(path)
        if unfit:
            _set_aside(unfit, connection, path)
        return connection, saved
    except sqlite3.OperationalError as error:
        raise _refused(path, *_explain(error)) from None
    except (sqlite3.DatabaseError, Damaged, UnicodeDecodeError) as error:
        raise _refused(
            path,
            f"it is damaged: {error}",
            f"Move it and {path.name}-wal away to start with nothing, or put back a copy from before.",
        ) from None
    except OSError as error:
        raise _refused(
            path,
            f"it can't be opened: {error.strerror}",
            "persistence_location must be a folder that this user can write to.",
        ) from None


def read_database(path: Path) -> tuple[Snapshot, Unfit]:
    """What was saved to a file, and what of it can't be served; nothing is changed.  Blocks.

    Raises:
        StorageError: as `open_database`; also if there is none, or its format is an older one.
    """
    try:
        if not path.exists():
            raise _refused(path, "there is none", "Name the file that persistence_location and _file say.")
        version = _check_header(path)
        if version != FORMAT_VERSION:
            raise _refused(
                path,
                f"its format is number {version}, and this is for number {FORMAT_VERSION}",
                "Start the broker on it once, which brings it to that.",
            )
        unfit = Unfit()
        beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
        made_by_reading = [companion for companion in beside if not companion.exists()]
        saved = _read_untouched(path, unfit)
        for companion in made_by_reading:
            companion.unlink(missing_ok=True)
        return saved, unfit
    except sqlite3.OperationalError as error:
        raise _refused(path, *_explain(error)) from None
    except (sqlite3.DatabaseError, Damaged, UnicodeDecodeError) as error:
        raise _refused(path, f"it is damaged: {error}", "Put back a copy from before.") from None
    except OSError as error:
        raise _refused(path, f"it can't be read: {error.strerror}", "See who may read it.") from None


def write_database(path: Path, saved: Snapshot) -> None:
    """Make a file that holds this.  Blocks.

    Raises:
        StorageError: it can't be made, or there is one.
    """
    if path.exists():
        raise _refused(path, "there is one already", "Move it away, or name another.")
    connection, _ = open_database(path)
    try:
        with closing(connection):
            Writer(connection).write(saved, pause_s=0.0)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        path.unlink(missing_ok=True)
        path.with_name(path.name + "-wal").unlink(missing_ok=True)
        raise _refused(path, f"{error}", "See that there is room on its disk.") from None


def _refused(path: Path, what: str, cure: str) -> StorageError:
    return StorageError(f"Unable to use the persistence file {path}: {what}. {cure}")


def _explain(error: sqlite3.OperationalError) -> tuple[str, str]:
    if "locked" in str(error):
        return "another process is using it", "Stop that one, or give this one another persistence_location."
    return (
        f"{error}",
        "See that there is room on its disk, and that this user can write to it and its folder.",
    )


def _refuse_orphan(path: Path) -> None:
    """A log without its file would be played into the new one, and be taken for what that one holds."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size > 0:
        raise _refused(
            path,
            f"it is gone, and its write-ahead log {log.name} is still there",
            "Put the file back, or move the log away as well.",
        )
    log.unlink(missing_ok=True)


def _create(path: Path) -> None:
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


def _check_header(path: Path) -> int:
    """The number of its format, which is one that we know."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header.startswith(MAGIC):
        raise _refused(
            path,
            "Mosquitto wrote it, and its format is another",
            "Give Rowcast a file of its own with `persistence_file rowcast.db`, and bring over what this one holds with"
            " `rowcast persistence import`.",
        )
    if not header.startswith(_SQLITE_MAGIC):
        raise Damaged("it is no SQLite database" if header else "it is empty")
    application = int.from_bytes(header[68:72], "big")
    version = int.from_bytes(header[60:64], "big")
    if application != APPLICATION_ID:
        raise _refused(
            path,
            "it is an SQLite database of some other program",
            "Choose another name with `persistence_file`.",
        )
    if version != FORMAT_VERSION and version not in OLDER_TABLES:
        raise _refused(
            path,
            f"its format is number {version}, and this version of Rowcast knows number {FORMAT_VERSION}",
            "Use the version that wrote it, or move it away.",
        )
    return version


def _migrate(path: Path, version: int) -> None:
    """Bring a file of a format before to this one: in one transaction, or not at all."""
    with closing(_sqlite(path, "ro")) as connection:
        wrong = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if wrong != "ok":
            raise Damaged(wrong.replace("\n", " "))
        if _tables(connection) != _expected_tables(OLDER_TABLES[version]):
            raise Damaged(f"its tables are not those of format {version}")
        changed = schema_3.changed_message(connection)
        if changed is not None:
            raise Damaged(f"message {changed} is not what was saved: its checksum differs")
    steps = _step(schema_3.TABLES, schema_2.MIGRATION) if version == 2 else ""
    steps += _step(TABLES, schema_3.MIGRATION)
    with closing(_connect(path)) as connection:
        register(connection)
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {FORMAT_VERSION}; COMMIT"
            )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _step(tables: str, migration: str) -> str:
    """Statements that bring the tables of one format to those of the next."""
    renamed = "".join(f"ALTER TABLE {name} RENAME TO old_{name};" for name in TABLE_NAMES)
    dropped = "".join(f"DROP TABLE old_{name};" for name in TABLE_NAMES)
    return f"{renamed} {tables} {migration} {dropped}"


def _set_aside(unfit: Unfit, connection: sqlite3.Connection, path: Path) -> None:
    try:
        unfit.set_aside(connection, path)
    except BaseException:
        connection.close()
        raise


def _read_untouched(path: Path, unfit: Unfit) -> Snapshot:
    """What the file holds, read by a connection that can't change it."""
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    made_by_reading = [companion for companion in beside if not companion.exists()]
    try:
        with closing(_sqlite(path, "ro")) as connection:
            wrong = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if wrong != "ok":
                raise Damaged(wrong.replace("\n", " "))
            if _tables(connection) != _expected_tables():
                raise Damaged(f"its tables are not those of format {FORMAT_VERSION}")
            return read(connection, unfit)
    except BaseException:
        for companion in made_by_reading:
            companion.unlink(missing_ok=True)
        raise


def _tables(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """All but the one for what was set aside."""
    query = "SELECT name, sql FROM sqlite_master WHERE name != ? ORDER BY name"
    return connection.execute(query, (SET_ASIDE,)).fetchall()


def _expected_tables(tables: str = TABLES) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables)
        return _tables(connection)


def _connect(path: Path) -> sqlite3.Connection:
    connection = _sqlite(path, "rw")
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
        connection.execute("BEGIN IMMEDIATE")  # takes the lock, which stays
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    # Exclusive use keeps the index of the write-ahead log in memory; the reader's file is of no more use.
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return connection


def _sqlite(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        # One thread at a time uses it, but not always the same.
        check_same_thread=False,
    )
