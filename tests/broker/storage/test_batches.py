"""Statements wait for others like them, and a save pauses once it has done enough."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from broker.storage.batches import BATCH_ROWS, Batches

INSERT = "INSERT INTO t VALUES (?)"


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (n INTEGER)")
        yield connection


def pauses(batches: Batches) -> int:
    return sum(1 for _ in batches.pause())


def test_what_waits_is_not_there_before_the_pause_or_the_flush(connection: sqlite3.Connection) -> None:
    batches = Batches(connection)
    batches.later(INSERT, (1,))
    assert batches.integer("SELECT count(*) FROM t") == 0
    batches.flush()
    batches.flush()
    assert list(batches.rows("SELECT n FROM t")) == [(1,)]


@pytest.mark.parametrize("work", ["later", "execute", "rows", "worked"])
def test_everything_that_takes_time_brings_the_pause_nearer(
    connection: sqlite3.Connection, work: str
) -> None:
    batches = Batches(connection)
    connection.executemany(INSERT, [(n,) for n in range(BATCH_ROWS)])
    found = batches.rows("SELECT n FROM t")
    for done in range(BATCH_ROWS):
        assert pauses(batches) == 0, done
        if work == "later":
            batches.later(INSERT, (1,))
        elif work == "execute":
            batches.execute(INSERT, (1,))
        elif work == "rows":
            next(found)
        else:
            batches.worked(1)
    assert pauses(batches) == 1
    assert pauses(batches) == 0
    assert batches.integer("SELECT count(*) FROM t") == BATCH_ROWS * (
        2 if work in ("later", "execute") else 1
    )


def test_rows_that_were_written_are_counted_and_those_that_were_looked_at_are_not(
    connection: sqlite3.Connection,
) -> None:
    batches = Batches(connection)
    for number in (1, 2, 3):
        batches.later(INSERT, (number,))
    batches.flush()
    batches.execute("DELETE FROM t WHERE n > ?", (1,))
    batches.execute("DELETE FROM t WHERE n > ?", (1,))
    batches.execute("SELECT n FROM t")
    assert list(batches.rows("SELECT n FROM t")) == [(1,)]
    assert batches.written == 5


def test_one_is_the_first_row_or_none(connection: sqlite3.Connection) -> None:
    batches = Batches(connection)
    assert batches.one("SELECT n FROM t") is None
    connection.executemany(INSERT, [(2,), (1,)])
    assert batches.one("SELECT n FROM t ORDER BY n") == (1,)
