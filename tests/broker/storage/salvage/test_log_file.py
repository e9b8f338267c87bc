"""The log beside the file: found, put right on the disk, and told in words."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.storage.salvage.log_file import log_of, put_right, read_log, said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file, and a log of three commits that was not moved into it."""
    working = tmp_path / "working"
    with closing(sqlite3.connect(working, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
        for number in range(2):
            connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(100)))
        path = tmp_path / "rowcast.db"
        path.write_bytes(working.read_bytes())
        log_of(path).write_bytes(log_of(working).read_bytes())
    return path


def turn(path: Path, byte: int, bit: int = 0) -> None:
    log = bytearray(log_of(path).read_bytes())
    log[byte] ^= 1 << bit
    log_of(path).write_bytes(log)


def test_the_log_of_a_file_has_its_name(tmp_path: Path) -> None:
    assert log_of(tmp_path / "a.db") == tmp_path / "a.db-wal"


@pytest.mark.parametrize("log", [None, b""])
def test_no_log_and_an_empty_one_are_the_same(path: Path, log: bytes | None) -> None:
    log_of(path).unlink()
    if log is not None:
        log_of(path).write_bytes(log)
    assert read_log(path) is None


def test_of_a_log_that_is_right_nothing_is_said(path: Path) -> None:
    found = read_log(path)
    assert found is not None
    assert said(path, found[1]) == []


def test_a_bit_is_put_right_where_it_stands_and_nothing_else_is_touched(path: Path) -> None:
    before = log_of(path).read_bytes()
    at = len(before) - 4096 - 8  # of the last frame's checksum
    turn(path, at, 3)
    damaged = log_of(path).read_bytes()
    found = read_log(path)
    assert found is not None
    assert log_of(path).read_bytes() == damaged
    log, wal = found
    assert said(path, wal) == [
        f"rowcast.db-wal: bit 3 of byte {at} was not what was written; it is put right"
    ]
    put_right(path, log, wal)
    assert log_of(path).read_bytes() == before


@pytest.mark.parametrize(
    ("byte", "more", "words"),
    [
        (0, b"\xff" * 31, "the header of the log is not what was written"),
        (
            32 + 24,
            b"\xff" * 100,
            "frame 1 of the log is not what was written, and what follows it does not count",
        ),
    ],
)
def test_what_can_not_be_put_right_is_told(path: Path, byte: int, more: bytes, words: str) -> None:
    log = bytearray(log_of(path).read_bytes())
    log[byte : byte + len(more)] = more
    log_of(path).write_bytes(log)
    found = read_log(path)
    assert found is not None
    (told,) = said(path, found[1])
    assert told.startswith(f"rowcast.db-wal: {words}")


def test_pages_of_which_some_bit_is_wrong_are_named(path: Path) -> None:
    found = read_log(path)
    assert found is not None
    wal = found[1]
    wal.is_broken = True
    assert said(path, wal) == [
        "rowcast.db-wal: a bit of page that is overwritten later is not what was written"
    ]
    wal.damaged, wal.unreadable = {7, 3}, {5}
    assert said(path, wal) == ["rowcast.db-wal: a bit of page 3, 5, 7 is not what was written"]
