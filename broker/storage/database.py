"""The file that keeps sessions and messages: found, checked and locked before anything is written to it.

A file that is not ours or is newer than us is refused by name and left as it is: it is read by a connection that can't
write, and only then opened by one that can.  Of one that the disk changed, a fresh one gets what is right: `salvage`.
"""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.storage import schema_2, schema_3
from broker.storage.connections import connect, create, expected_tables, open_file, tables_of
from broker.storage.errors import StorageError
from broker.storage.reading import Damaged, read
from broker.storage.records import Snapshot
from broker.storage.salvage.header import is_header_right
from broker.storage.salvage.log_file import log_of, put_right, read_log, said
from broker.storage.salvage.replace import finish, is_in_use, replace
from broker.storage.schema import APPLICATION_ID, BACKLOG, FORMAT_VERSION, TABLE_NAMES_4, TABLES_4, register
from broker.storage.unfit import Unfit, name_each
from broker.storage.writing import Writer
from protocol.mosquitto_db import MAGIC

if TYPE_CHECKING:
    from broker.storage.salvage.salvage import Salvaged

logger = logging.getLogger("broker.storage")

OLDER_TABLES: Final = {2: schema_2.TABLES, 3: schema_3.TABLES, 4: TABLES_4}
"""The formats before this one, whose files are taken over."""
_ALL_CHECKED: Final = 4
"""From this format on each row has a checksum of all of it."""
_HEADER_BYTES: Final = 100
_SQLITE_MAGIC: Final = b"SQLite format 3\0"


def open_database(path: Path) -> tuple[sqlite3.Connection, Snapshot]:
    """Open the file, making it if there is none, and read what was saved to it.  Blocks.

    Returns:
        A connection in autocommit mode that no other process can share, and what the file holds.

    Raises:
        StorageError: it is not ours, nothing of it is left, it is in use, or can't be opened.
    """
    try:
        finish(path)
        if not path.exists():
            _refuse_orphan(path)
            create(path)
        _mend_log(path)
        try:
            saved, unfit = _read_checked(path)
        except _DAMAGES as error:
            _mend(path, error)
            saved, unfit = _read_checked(path)
        connection = connect(path)
        if unfit:
            _set_aside(unfit, connection, path)
        return connection, saved
    except sqlite3.OperationalError as error:
        raise _refused(path, *_explain(error)) from None
    except _DAMAGES as error:
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
    beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
    made_by_reading = [companion for companion in beside if not companion.exists()]
    try:
        if not path.exists():
            raise _refused(path, "there is none", "Name the file that persistence_location and _file say.")
        found = read_log(path)
        wrong = [] if found is None else said(path, found[1])
        if wrong:
            return _read_damaged(path, Damaged(wrong.pop(0)), wrong)
        try:
            version = _check_header(path)
            if version != FORMAT_VERSION:
                raise _refused(
                    path,
                    f"its format is number {version}, and this is for number {FORMAT_VERSION}",
                    "Start the broker on it once, which brings it to that.",
                )
            unfit = Unfit()
            return _read_untouched(path, unfit), unfit
        except _DAMAGES as error:
            return _read_damaged(path, error, [])
    except sqlite3.OperationalError as error:
        raise _refused(path, *_explain(error)) from None
    except _DAMAGES as error:
        raise _refused(path, f"it is damaged: {error}", "Put back a copy from before.") from None
    except OSError as error:
        raise _refused(path, f"it can't be read: {error.strerror}", "See who may read it.") from None
    finally:
        for companion in made_by_reading:
            companion.unlink(missing_ok=True)


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
        log_of(path).unlink(missing_ok=True)
        raise _refused(path, f"{error}", "See that there is room on its disk.") from None


_DAMAGES: Final = (sqlite3.DatabaseError, Damaged, UnicodeDecodeError)
"""What reading a damaged file ends with; see `_is_damage`."""

_OUTSIDE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""What SQLite says of the machine, rather than of the file."""


def _is_damage(error: Exception) -> bool:
    """Whether it is the file's fault; Python calls a text of its schema that is no UTF-8 an OperationalError."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF not in _OUTSIDE


def _read_checked(path: Path) -> tuple[Snapshot, Unfit]:
    version = _check_header(path)
    if version != FORMAT_VERSION:
        _migrate(path, version)
    unfit = Unfit()
    return _read_untouched(path, unfit), unfit


def _mend_log(path: Path) -> None:
    """Let SQLite see all of the log that was committed."""
    found = read_log(path)
    if found is None:
        return
    log, wal = found
    if wal.put_right and not is_in_use(path):
        put_right(path, log, wal)
    for what in said(path, wal):
        logger.error("%s: %s", path, what)
    if wal.is_broken:
        _mend(path, Damaged("its log is not what was written"))


def _mend(path: Path, why: Exception) -> None:
    """Put a file in place that holds what is right of the damaged one.

    Raises:
        Exception: `why`, if nothing is.
    """
    if not _is_damage(why):
        raise why
    salvaged = _salvage(path)
    if salvaged is None:
        raise why
    if is_in_use(path):
        raise sqlite3.OperationalError("database is locked")
    kept = replace(path, lambda fresh: write_database(fresh, salvaged.saved))
    logger.error(
        "%s is damaged: %s. What is right of it is served, and the damaged file is kept as %s.",
        path,
        why,
        kept.name,
    )
    name_each(
        path, [*salvaged.damage, *salvaged.unfit.whys()], f"; `rowcast persistence check {kept}` names all"
    )
    if not salvaged.damage:
        logger.error("%s: no row was lost.", path)


def _read_damaged(path: Path, why: Exception, more: list[str]) -> tuple[Snapshot, Unfit]:
    """What is right of a damaged file, and what is not.  Raises: `why`, if nothing is."""
    if not _is_damage(why):
        raise why
    salvaged = _salvage(path)
    if salvaged is None:
        raise why
    salvaged.unfit.damage = [str(why), *more, *salvaged.damage]
    return salvaged.saved, salvaged.unfit


def _salvage(path: Path) -> Salvaged | None:
    from broker.storage.salvage.salvage import salvage  # only for a damaged file

    return salvage(path)


def _is_ours(path: Path) -> bool:
    from broker.storage.salvage.salvage import is_ours

    return is_ours(path)


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
    log = log_of(path)
    if log.exists() and log.stat().st_size > 0:
        raise _refused(
            path,
            f"it is gone, and its write-ahead log {log.name} is still there",
            "Put the file back, or move the log away as well.",
        )
    log.unlink(missing_ok=True)


def _check_header(path: Path) -> int:
    """The number of its format, which is one that we know."""
    if not path.is_file():  # opening a pipe would wait for somebody who writes
        raise _refused(path, "it is no file", "Choose another name with `persistence_file`.")
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
    is_known = version == FORMAT_VERSION or version in OLDER_TABLES
    if not (is_known and is_header_right(header)) and _is_ours(path):
        raise Damaged("its header is not what was written")
    if application != APPLICATION_ID:
        raise _refused(
            path,
            "it is an SQLite database of some other program",
            "Choose another name with `persistence_file`.",
        )
    if not is_known:
        raise _refused(
            path,
            f"its format is number {version}, and this version of Rowcast knows number {FORMAT_VERSION}",
            "Use the version that wrote it, or move it away.",
        )
    return version


def _migrate(path: Path, version: int) -> None:
    """Bring a file of a format before to this one: in one transaction, or not at all."""
    with closing(open_file(path, "ro")) as connection:
        wrong = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if wrong != "ok":
            raise Damaged(wrong.replace("\n", " "))
        if tables_of(connection) != expected_tables(OLDER_TABLES[version]):
            raise Damaged(f"its tables are not those of format {version}")
        changed = schema_3.changed_message(connection) if version < _ALL_CHECKED else None
        if changed is not None:
            raise Damaged(f"message {changed} is not what was saved: its checksum differs")
    steps = _step(schema_3.TABLES, schema_2.MIGRATION) if version == 2 else ""
    if version < _ALL_CHECKED:
        steps += _step(TABLES_4, schema_3.MIGRATION)
    with closing(connect(path)) as connection:
        register(connection)
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {steps} {BACKLOG} PRAGMA user_version = {FORMAT_VERSION}; COMMIT"
            )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _step(tables: str, migration: str) -> str:
    """Statements that bring the tables of one format to those of the next."""
    renamed = "".join(f"ALTER TABLE {name} RENAME TO old_{name};" for name in TABLE_NAMES_4)
    dropped = "".join(f"DROP TABLE old_{name};" for name in TABLE_NAMES_4)
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
        with closing(open_file(path, "ro")) as connection:
            wrong = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if wrong != "ok":
                raise Damaged(wrong.replace("\n", " "))
            if tables_of(connection) != expected_tables():
                raise Damaged(f"its tables are not those of format {FORMAT_VERSION}")
            return read(connection, unfit)
    except BaseException:
        for companion in made_by_reading:
            companion.unlink(missing_ok=True)
        raise
