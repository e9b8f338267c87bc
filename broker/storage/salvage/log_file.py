"""The log beside the file: looked through before SQLite reads it, and put right where one bit of it is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.storage.salvage.wal import Wal


def log_of(path: Path) -> Path:
    """Where the write-ahead log of a file is."""
    return path.with_name(path.name + "-wal")


def read_log(path: Path) -> tuple[bytearray, Wal] | None:
    """The log of a file with its flipped bits put right, and what is in it; None where there is none.

    Raises:
        OSError: it can't be read.
    """
    try:
        log = bytearray(log_of(path).read_bytes())
    except FileNotFoundError:
        return None
    if not log:
        return None
    from broker.storage.salvage.wal import Wal  # rarely needed: an orderly end leaves no log

    return log, Wal(log)


def put_right(path: Path, log: bytearray, wal: Wal) -> None:
    """Write the bits of the log that were put right.  Raises: OSError."""
    with log_of(path).open("r+b") as file:
        for position, _ in wal.put_right:
            file.seek(position)
            file.write(log[position : position + 1])
        file.flush()
        os.fsync(file.fileno())


def said(path: Path, wal: Wal) -> list[str]:
    """What was wrong with the log, each in words."""
    name = log_of(path).name
    found = [
        f"{name}: bit {bit} of byte {position} was not what was written; it is put right"
        for position, bit in wal.put_right
    ]
    if wal.is_broken:
        pages = ", ".join(map(str, sorted(wal.damaged | wal.unreadable))) or "that is overwritten later"
        found.append(f"{name}: a bit of page {pages} is not what was written")
    return [*found, f"{name}: {wal.trouble}"] if wal.trouble else found
