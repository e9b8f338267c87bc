"""The checksum of a row: another for another value of any type, the same for what SQLite keeps alike."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.storage.schema import TABLE_NAMES, TABLES, checked, has_types, register, row_checksum

integers = st.integers(-(2**53), 2**53)
values = st.lists(
    st.one_of(st.none(), st.binary(max_size=20), integers, st.floats(allow_nan=False)), max_size=15
)


@given(values, st.data())
def test_a_bit_that_changed_anywhere_gives_another_checksum(
    row: list[bytes | int | float | None], data: st.DataObject
) -> None:
    places = [at for at, value in enumerate(row) if value]
    if not places:
        return
    at = data.draw(st.sampled_from(places))
    value = row[at]
    other: bytes | int | float | None
    if isinstance(value, bytes):
        byte, bit = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(0, 7))
        other = value[:byte] + bytes((value[byte] ^ 1 << bit,)) + value[byte + 1 :]
    else:
        other = data.draw(st.sampled_from([None, 0, -value if value else 1]))
    assert row_checksum(*row[:at], other, *row[at + 1 :]) != row_checksum(*row)


def test_bytes_that_moved_into_the_next_column_are_noticed() -> None:
    assert len({row_checksum(b"ab", b""), row_checksum(b"a", b"b"), row_checksum(b"", b"ab")}) == 3
    assert row_checksum(None, b"") != row_checksum(b"", None)


def test_one_and_one_point_nought_are_the_same_to_sqlite_and_so_to_us() -> None:
    assert row_checksum(1, 2.0) == row_checksum(1.0, 2)


@given(values)
def test_a_row_comes_back_from_sqlite_as_its_checksum_says(row: list[bytes | int | float | None]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        register(connection)
        marks = ", ".join("?" * (len(row) + 1))
        *found, checksum = connection.execute(f"SELECT {marks}", checked(*row)).fetchone()
        assert found == row
        assert row_checksum(*found) == checksum
        (computed,) = connection.execute(
            f"SELECT row_checksum({', '.join('?' * len(row))})", tuple(row)
        ).fetchone()
        assert computed == checksum


@pytest.mark.parametrize(
    ("columns", "fits"),
    [
        ((1, b"filter", 2, 0), True),
        ((1.0, b"filter", 2, 0), True),
        ((1, None, 2, 0), True),  # what is NULL is the checksum's and the table's own
        ((1, 0, 2, 0), False),
        ((b"", b"filter", 2, 0), False),
        ((1, "filter", 2, 0), False),
        ((1, b"filter", 2, b""), False),
    ],
    ids=repr,
)
def test_bytes_stand_only_where_the_table_has_them(columns: tuple[object, ...], fits: bool) -> None:
    assert [has_types("subscription", columns) for _ in range(2)] == [fits, fits]


def test_truths_are_kept_as_numbers() -> None:
    assert checked(True, False) == (1, 0, row_checksum(1, 0))


def test_every_table_ends_with_its_checksum() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(TABLES)
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert sorted(names) == sorted(TABLE_NAMES)
        for name in names:
            assert connection.execute(f"PRAGMA table_info({name})").fetchall()[-1][1] == "checksum"
