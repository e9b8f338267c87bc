"""A message stands once in the file while something names it, however often and however late it is named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from broker.core.publication import Publication
from broker.storage.batches import BATCH_ROWS, Batches
from broker.storage.numbers import Numbers
from broker.storage.records import Snapshot
from broker.storage.schema import TABLES, row_checksum


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(TABLES)
        yield connection


def message(topic: bytes = b"t", number: int = 0) -> Publication:
    made = Publication(topic, b"x", 1)
    made.number = number
    return made


def save(
    numbers: Numbers,
    connection: sqlite3.Connection,
    named: list[Publication],
    released: list[int],
    clock_offset_s: float = 0.0,
) -> list[int]:
    """One save; the numbers that the file has then."""
    batches = Batches(connection)
    numbers.begin(clock_offset_s)
    for one in named:
        numbers.name(one, batches)
    numbers.release(released)
    for _ in numbers.end(batches):
        pass
    batches.flush()
    return [row[0] for row in connection.execute("SELECT number FROM message ORDER BY number")]


def test_a_message_goes_with_the_last_that_names_it(connection: sqlite3.Connection) -> None:
    numbers, one = Numbers(Snapshot(0.0, 0.0)), message()
    assert save(numbers, connection, [one, one, one], []) == [1]
    assert save(numbers, connection, [], [1]) == [1]
    assert save(numbers, connection, [one], [1, 1]) == [1]
    assert save(numbers, connection, [], [1]) == []


def test_a_message_that_left_the_file_and_is_named_anew_comes_under_another_number(
    connection: sqlite3.Connection,
) -> None:
    numbers, one = Numbers(Snapshot(0.0, 0.0)), message()
    save(numbers, connection, [one], [])
    assert save(numbers, connection, [], [1]) == []
    assert save(numbers, connection, [one], []) == [2]
    assert one.number == 2


def test_a_number_of_another_file_is_not_believed(connection: sqlite3.Connection) -> None:
    numbers = Numbers(Snapshot(0.0, 0.0))
    save(numbers, connection, [message(b"here")], [])
    stranger = message(b"there", number=1)
    assert save(numbers, connection, [stranger], []) == [1, 2]
    assert stranger.number == 2


@pytest.mark.parametrize("number", [1, 7])
def test_what_a_file_held_goes_on_under_its_number_and_new_ones_come_behind(
    connection: sqlite3.Connection, number: int
) -> None:
    kept = message(number=number)
    connection.execute("INSERT INTO message VALUES (?, x'74', x'', 1, 0, x'', NULL, 0, x'', 0, 0)", (number,))
    saved = Snapshot(0.0, 0.0, retained=[kept, kept, message(b"in the backlog")])
    numbers, fresh = Numbers(saved), message()
    assert save(numbers, connection, [fresh], [number]) == [number, number + 1]
    assert save(numbers, connection, [], [number]) == [number + 1]


def test_a_file_that_was_emptied_is_named_by_nothing(connection: sqlite3.Connection) -> None:
    numbers, one = Numbers(Snapshot(0.0, 0.0)), message()
    save(numbers, connection, [one, one], [])
    connection.execute("DELETE FROM message")
    numbers.forget()
    assert save(numbers, connection, [one], []) == [2]
    assert save(numbers, connection, [], [2]) == []


@pytest.mark.parametrize(("expires_at", "kept"), [(0.0, 0.0), (5.0, 1005.0)])
def test_a_message_expires_by_the_clock_of_the_wall_or_never(
    connection: sqlite3.Connection, expires_at: float, kept: float
) -> None:
    one = message()
    one.expires_at = expires_at
    save(Numbers(Snapshot(0.0, 0.0)), connection, [one], [], 1000.0)
    *columns, checksum = connection.execute("SELECT * FROM message").fetchone()
    assert columns[9] == kept
    assert checksum == row_checksum(*columns)


def test_what_is_taken_out_leaves_in_steps(connection: sqlite3.Connection) -> None:
    numbers, batches = Numbers(Snapshot(0.0, 0.0)), Batches(connection)
    save(numbers, connection, [message() for _ in range(2 * BATCH_ROWS)], [])
    numbers.begin()
    numbers.release(range(1, 2 * BATCH_ROWS + 1))
    assert sum(1 for _ in numbers.end(batches)) == 2
