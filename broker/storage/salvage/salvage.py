"""A damaged file's snapshot, and what is missing from it."""

from __future__ import annotations

import mmap
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from attrs import define

from broker.storage.reading import read
from broker.storage.records import Snapshot
from broker.storage.salvage.log_file import read_log
from broker.storage.salvage.pages import Pages
from broker.storage.salvage.rows import load, prune
from broker.storage.salvage.trees import UNREADABLE, Trees
from broker.storage.schema import TABLE_NAMES, TABLES
from broker.storage.unfit import Unfit


@define
class Salvaged:
    """What a damaged file still says.

    `damage` says what is not as it was written, and which rows are lost; it is empty if only what finds rows was
    damaged, or what says whose file it is.
    """

    saved: Snapshot
    unfit: Unfit
    damage: list[str]


def salvage(path: Path) -> Salvaged | None:
    """Read what is right of a file; nothing is changed.  None if too little is left to say that it is ours.  Blocks.

    Raises:
        Damaged: what is right contradicts itself.
        OSError: it can't be read.
    """
    if path.stat().st_size == 0:
        return None
    trees = _trees(path)
    rows = trees.rows()
    if not trees.is_ours and not any(rows.values()):
        return None
    damage = [_wrong(page, *what) for page, what in sorted(trees.wrong.items())]
    unfit = Unfit()
    with closing(load(rows, path.stat().st_mtime)) as connection:
        damage += [f"lost: {what}" for what in prune(connection)]
        saved = read(connection, unfit)
    return Salvaged(saved, unfit, damage)


def is_ours(path: Path) -> bool:
    """Whether its tables are those of this format, whatever its header says."""
    return path.stat().st_size > 0 and _trees(path).is_ours


def _trees(path: Path) -> Trees:
    found = read_log(path)
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        return Trees(Pages(data, *(found or (None, None))), tables())


def _wrong(page: int, table: str, rows: int) -> str:
    where = f"page {page}, of the table {table}"
    if rows == UNREADABLE:
        return f"{where}, is not there"
    if rows == 0:
        return f"{where}, is not what was written, but its rows are"
    return f"{where}: {rows} {'row is' if rows == 1 else 'rows are'} not what was written"


def tables() -> Mapping[str, tuple[str, int]]:
    """Of each table, the statement that makes it, and how many columns it has."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        statements = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        return {
            name: (statements[name], len(connection.execute(f"PRAGMA table_info({name})").fetchall()))
            for name in TABLE_NAMES
        }
