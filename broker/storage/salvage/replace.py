"""A fresh file in the place of a damaged one, which is kept under another name; a crash leaves one or the other.

A log belongs to its file by its name alone, so file and log can't change places in one step: the fresh file is whole
under a name of its own before the log goes, and who finds it so, and no log, goes on from there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from broker.storage.salvage.log_file import log_of

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOCK_AT: Final = 0x40000000
_LOCK_BYTES: Final = 512
"""Where SQLite locks a file."""


def replace(path: Path, write: Callable[[Path], None]) -> Path:
    """Put a fresh file in place.  Blocks.

    Args:
        write: makes the fresh file at the path it is given, whole and without a log.

    Returns:
        Where the damaged one is now.

    Raises:
        OSError: it can't be done; what was there is there.
    """
    fresh = path.with_name(path.name + ".salvaging")
    for left in (fresh, log_of(fresh)):
        left.unlink(missing_ok=True)
    write(fresh)
    shutil.copymode(path, fresh)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    kept = _kept_name(path)
    _keep(path, kept)
    os.replace(fresh, _salvaged(path))
    if log_of(path).exists():
        os.rename(log_of(path), log_of(kept))
    _sync_folder(path.parent)
    os.replace(_salvaged(path), path)
    _sync_folder(path.parent)
    return kept


def finish(path: Path) -> None:
    """Go on where a crash left off.  Raises: OSError."""
    salvaged = _salvaged(path)
    if not salvaged.exists():
        return
    if log_of(path).exists():
        salvaged.unlink()  # the damaged file and its log are both there: it is done anew
        return
    os.replace(salvaged, path)
    _sync_folder(path.parent)


def is_in_use(path: Path) -> bool:
    """Whether another process has it open to write.  Raises: OSError."""
    if fcntl is None:
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_AT)
        except (BlockingIOError, PermissionError):
            return True
    return False


def _salvaged(path: Path) -> Path:
    return path.with_name(path.name + ".salvaged")


def _kept_name(path: Path) -> Path:
    base = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    kept = path.with_name(base)
    number = 1
    while kept.exists() or log_of(kept).exists():
        number += 1
        kept = path.with_name(f"{base}-{number}")
    return kept


def _keep(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except OSError:
        shutil.copy2(path, kept)  # a file system without hard links


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows: a folder can't be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
