"""Room in the write-ahead log, made before it is needed: a commit that need not grow a file takes half as long.

SQLite begins its log anew at the front of the same file whenever it has moved the log's 1000 pages into the database.
Until the file has been that long once, each fsync has its new size to write as well.  So here it is made that long by a
transaction that is rolled back when its pages have gone to the log: nothing of it counts, and every state that the file
passes through is one that SQLite itself makes.
"""

from __future__ import annotations

import sqlite3
from typing import Final

ROOM_PAGES: Final = 1050
"""More than the 1000 after which SQLite begins anew, since the save that reaches them may have several pages."""

ROOM_BYTES_MAX: Final = 5_000_000
"""A log that a large save made longer is cut to this when it begins anew."""

_PAGE_BYTES: Final = 4096
_CACHED_PAGES: Final = 10
"""So few that the transaction's pages go to the log before its end."""


def make_room(connection: sqlite3.Connection) -> None:
    """Make the log, of which nothing may be needed any more, as long as it gets between two of its beginnings.  Blocks.

    Raises:
        sqlite3.Error: the disk is full, or the like; what the file holds is as it was.
    """
    cached: int = connection.execute("PRAGMA cache_size").fetchone()[0]
    connection.execute(f"PRAGMA cache_size = {_CACHED_PAGES}")
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE room (zeros BLOB)")
            connection.execute("INSERT INTO room VALUES (zeroblob(?))", (ROOM_PAGES * _PAGE_BYTES,))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    finally:
        connection.execute(f"PRAGMA cache_size = {cached}")
    # A commit puts the new size on disk.  That done, the log begins anew, and no page of what was rolled back can be
    # taken for one of what follows.
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("PRAGMA wal_checkpoint").fetchone()
