"""Of a log, frames count up to the last commit; one wrong bit is found wherever it is, and no more than one."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from broker.storage.salvage.log_file import log_of
from broker.storage.salvage.wal import FRAME_BYTES, HEADER_BYTES, Wal
from broker.storage.schema import checked

PAGE = 512
STEP = FRAME_BYTES + PAGE


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some commits on small pages, whose rows have checksums; the first round of the log was longer."""
    path = tmp_path_factory.mktemp("log") / "file"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB, checksum INTEGER)")
        for first in range(0, 40, 8):
            connection.execute("BEGIN")
            rows = [checked(number, b"row %d" % number) for number in range(first, first + 8)]
            connection.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        return log_of(path).read_bytes()


def frames(log: bytes) -> int:
    return (len(log) - HEADER_BYTES) // STEP


def test_a_log_that_is_right_says_where_the_newest_of_each_page_is(log: bytes) -> None:
    wal = Wal(bytearray(log))
    assert (wal.put_right, wal.damaged, wal.unreadable, wal.is_broken, wal.trouble) == (
        [],
        set(),
        set(),
        False,
        "",
    )
    assert wal.page_bytes == PAGE
    newest = {}
    for number in range(frames(log)):
        at = HEADER_BYTES + number * STEP
        newest[int.from_bytes(log[at : at + 4], "big")] = at + FRAME_BYTES
    assert wal.offsets == newest
    assert wal.page_count == int.from_bytes(log[-STEP + 4 : -STEP + 8], "big") > 0


def test_what_was_not_committed_does_not_count(log: bytes) -> None:
    whole = Wal(bytearray(log))
    counts = set()
    for number in range(frames(log) + 1):
        cut = Wal(bytearray(log[: HEADER_BYTES + number * STEP]))
        assert not cut.trouble
        counts.add(cut.page_count)
        for page, at in cut.offsets.items():
            assert at <= HEADER_BYTES + number * STEP
            assert page <= cut.page_count
    assert counts >= {0, whole.page_count}


@pytest.mark.parametrize("seed", range(4))
def test_one_wrong_bit_is_put_right_or_its_page_is_named(log: bytes, seed: int) -> None:
    chance = random.Random(seed)
    whole = Wal(bytearray(log))
    put_right = 0
    for _ in range(6):
        byte, bit = chance.randrange(len(log)), chance.randrange(8)
        changed = bytearray(log)
        changed[byte] ^= 1 << bit
        wal = Wal(changed)
        where = f"seed {seed}, bit {bit} of byte {byte}"
        if wal.put_right == [(byte, bit)]:
            assert changed == log, where
            assert wal.offsets == whole.offsets, where
            put_right += 1
        else:
            assert wal.is_broken, where
            assert wal.put_right == [], where
            assert wal.page_count == whole.page_count, where
    assert put_right >= 3


@pytest.mark.parametrize("at", [0, 5, 8, 12, 16, 20, 24, 31])
def test_a_bit_of_the_header_is_put_right(log: bytes, at: int) -> None:
    changed = bytearray(log)
    changed[at] ^= 2
    wal = Wal(changed)
    assert changed == log
    assert wal.put_right == [(at, 1)]


@pytest.mark.parametrize("at", [0, 4, 8, 15, 16, 23])
def test_a_bit_of_a_frames_header_is_put_right(log: bytes, at: int) -> None:
    changed = bytearray(log)
    byte = HEADER_BYTES + STEP + at
    changed[byte] ^= 1
    wal = Wal(changed)
    assert wal.trouble == ""
    assert wal.put_right == [(byte, 0)]
    assert changed == log


def test_two_wrong_bits_are_no_flipped_one_and_what_follows_is_told(log: bytes) -> None:
    changed = bytearray(log)
    for byte in (HEADER_BYTES + STEP + FRAME_BYTES + 100, HEADER_BYTES + STEP + FRAME_BYTES + 205):
        changed[byte] ^= 5
    wal = Wal(changed)
    assert wal.put_right == []
    assert wal.trouble.startswith("frame 2 of the log is not what was written")


def test_frames_of_an_earlier_round_are_the_end_and_no_damage(log: bytes) -> None:
    changed = bytearray(log)
    last = len(log) - STEP
    changed[last + 8 : last + 16] = bytes(byte ^ 0x5A for byte in log[last + 8 : last + 16])
    wal = Wal(changed)
    assert (wal.put_right, wal.trouble, wal.is_broken) == ([], "", False)
    assert wal.page_count == Wal(bytearray(log[:last])).page_count


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32), bytes(5000)])
def test_a_log_of_nothing_is_no_trouble(data: bytes) -> None:
    wal = Wal(bytearray(data))
    assert (wal.page_count, wal.trouble) == (0, "")
