"""A disk of which only what was synced is sure to survive: its record, and what a power cut leaves of it.

`disk.c` is preloaded and records what SQLite does to the files of one folder.  After a cut each file is what it was
at its last sync, plus any of the writes after that, whole, in part or not at all: a disk writes in whatever order it
likes, sector by sector.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from attrs import define, field

SOURCE: Final = Path(__file__).with_name("disk.c")
HEAD: Final = struct.Struct("=cqqq")
SECTOR: Final = 512


def environment(folder: Path, into: Path, record: Path | None = None) -> dict[str, str]:
    """What a process needs in its environment to be on such a disk, for files of `folder`; compiles it.

    Args:
        record: what is to be read with `recorded` when the process was killed.

    Raises:
        subprocess.CalledProcessError, FileNotFoundError: there is no C compiler.
    """
    library = into / "disk.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-pthread"], check=True
    )
    more = {} if record is None else {"DISK_RECORD": str(record)}
    return {**os.environ, "LD_PRELOAD": str(library), "DISK_FOLDER": str(folder), **more}


def recorded(record: Path) -> tuple[bytes, list[str]]:
    """The record and the names of a process that is gone."""
    names = record.with_name(record.name + ".names")
    return record.read_bytes(), names.read_text().splitlines()


@define
class _Deed:
    kind: bytes
    first: int
    at: int
    """Where the record has it."""
    data: bytes = b""


@define
class _File:
    deeds: list[_Deed] = field(factory=list)
    synced_to: int = 0
    """What the record has before this is on disk."""


class Disk:
    """The disk of this process, which was started with `environment`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.disk_length.restype = ctypes.c_size_t
        self._library.disk_name.restype = ctypes.c_char_p
        self._library.disk_record.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._library.disk_set_sync_us.argtypes = [ctypes.c_long]

    def position(self) -> int:
        """How much has been recorded."""
        return int(self._library.disk_length())

    def set_sync_s(self, seconds: float) -> None:
        """What each sync takes longer from now on."""
        self._library.disk_set_sync_us(round(seconds * 1_000_000))

    def record(self, until: int) -> bytes:
        into = ctypes.create_string_buffer(max(1, until))
        self._library.disk_record(into, until)
        return into.raw[:until]

    def names(self) -> list[str]:
        names: list[str] = []
        while (name := self._library.disk_name(len(names))) is not None:
            names.append(name.decode())
        return names


def leave(
    before: Path, record: bytes, names: list[str], chance: random.Random, into: Path, *, syncs: bool = True
) -> None:
    """Write to `into` what a power cut at the end of this record leaves.

    Args:
        before: the folder as it was, all of it on disk, when the record began.
        syncs: False is a disk that lies: it says that it has synced, and has not.
    """
    into.mkdir()
    folder_synced_to = 0
    files: dict[str, _File] = {name: _File() for name in names if name}
    position = 0
    while position + HEAD.size <= len(record):
        kind, number, first, second = HEAD.unpack_from(record, position)
        size = second if kind == b"W" else 0
        if position + HEAD.size + size > len(record):
            break
        data = record[position + HEAD.size : position + HEAD.size + size]
        if kind == b"S" and syncs:
            if names[number]:
                files[names[number]].synced_to = first
            else:
                folder_synced_to = first
        elif kind == b"R":
            files[names[first]] = files[names[number]]
            files[names[first]].deeds.append(_Deed(kind, first, position))
            files[names[number]] = _File()
        elif kind != b"S":
            files[names[number]].deeds.append(_Deed(kind, first, position, data))
        position += HEAD.size + size
    for name, file in files.items():
        content = _content(before / name, file, folder_synced_to, chance)
        if content is not None:
            (into / name).write_bytes(content)


def _content(before: Path, file: _File, folder_synced_to: int, chance: random.Random) -> bytearray | None:
    """A file's bytes, or None if it is not there."""
    content = bytearray(before.read_bytes()) if before.exists() else None
    survives = chance.choice((0.0, 0.5, 0.9, 1.0))
    for deed in file.deeds:
        if deed.kind == b"C":
            # SQLite syncs the folder at the first sync of a new file; a name may get there before that, too.
            if deed.at < max(folder_synced_to, file.synced_to) or chance.random() < survives:
                content = bytearray()
        elif deed.kind == b"R":
            # Under its old name nobody looks for it.
            if not (deed.at < folder_synced_to or chance.random() < survives):
                content = None
        elif deed.kind == b"U":
            if deed.at < folder_synced_to or chance.random() < survives:
                content = None
        elif content is None:
            continue
        elif deed.at < file.synced_to:
            _apply(content, deed)
        elif deed.kind == b"T":
            if chance.random() < survives:
                _apply(content, deed)
        else:
            for start in range(0, len(deed.data), SECTOR):
                if chance.random() < survives:
                    piece = deed.data[start : start + SECTOR]
                    _apply(content, _Deed(b"W", deed.first + start, deed.at, piece))
    return content


def _apply(content: bytearray, deed: _Deed) -> None:
    if deed.kind == b"T":
        del content[deed.first :]
        content.extend(bytes(deed.first - len(content)))
        return
    end = deed.first + len(deed.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[deed.first : end] = deed.data


def fast_folder() -> str:
    """Where a sync costs nothing, if there is such a place: what a cut leaves is worked out from the record."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and os.access(shared, os.W_OK) else tempfile.gettempdir()
