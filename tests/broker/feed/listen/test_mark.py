"""The order of keys is Postgres's, whatever the columns' types."""

from __future__ import annotations

import pytest
from support.postgres import Cluster

from broker.config.feeds import Recovery
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen.mark import Mark
from broker.feed.listen.marks import Marks
from broker.feed.listen.recovery import begin_snapshot, missed_rows
from broker.feed.routing.rowtext import columns_of

NUMERIC, TEXT, TIMESTAMPTZ = 1700, 25, 1184


def mark(*types: int) -> Mark:
    return Mark(Recovery("t", tuple("abc"[: len(types)]), ()), types)


def test_a_key_compares_as_a_whole_and_numbers_as_numbers() -> None:
    both = mark(NUMERIC, NUMERIC)
    for a, b in (("9", "5"), ("10", "1"), ("10", "0"), ("9", "7")):
        assert both.advance({"a": a, "b": b})
    assert both.key == (10, 1)
    assert both.rows_after()[1] == ("10", "1")


def test_39_digits_and_fractions_compare_exactly() -> None:
    wide = mark(NUMERIC)
    wide.advance({"a": "340282366920938463463374607431768211455"})
    wide.advance({"a": "340282366920938463463374607431768211454.9"})
    assert wide.rows_after()[1] == ("340282366920938463463374607431768211455",)


def test_times_compare_as_instants_whatever_their_offset() -> None:
    times = mark(TIMESTAMPTZ)
    times.advance({"a": "2024-02-13T15:53:50.5+00:00"})
    times.advance({"a": "2024-02-13T10:53:50.49-05:00"})
    assert times.rows_after()[1] == ("2024-02-13T15:53:50.5+00:00",)
    assert times.key_of({"a": "2024-02-13T10:53:50.5-05:00"}) == times.key


@pytest.mark.parametrize("columns", [{}, {"a": None}, {"a": "x"}, {"a": ["1"]}])
def test_a_row_without_a_usable_key_does_not_move_the_mark(columns: dict[str, object]) -> None:
    numbers = mark(NUMERIC)
    numbers.advance({"a": "5"})
    assert not numbers.advance(columns)
    assert numbers.key_of(columns) is None
    assert numbers.key == (5,)


@pytest.mark.parametrize(
    ("column_type", "values"),
    [
        ("numeric(39)", ["9", "10", "340282366920938463463374607431768211455"]),
        ("bigint", ["-5", "0", "9", "10"]),
        ("double precision", ["-1e300", "1e-300", "0.5", "2"]),
        ("timestamptz", ["2024-02-13T15:53:50-05:00", "2024-02-13T20:53:50.45Z", "2024-02-13T20:53:50.5Z"]),
        ("timestamp", ["2024-02-13 15:53:50", "2024-02-13 15:53:50.5"]),
        ("date", ["2024-02-13", "2024-10-01"]),
        ("text", ["", "A", "B", "Z", "a", "b", "é", "☃", "🎉"]),
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "A0000000-0000-0000-0000-000000000000"]),
    ],
)
async def test_the_rows_after_a_mark_are_those_that_compare_higher(
    cluster: Cluster, database: str, column_type: str, values: list[str]
) -> None:
    """With a linguistic collation as the column's own, which would sort text otherwise."""
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        has_icu = "SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'"  # a server may be built without
        is_text = column_type == "text" and await (await connection.execute(has_icu)).fetchone()
        collation = 'COLLATE "en-x-icu"' if is_text else ""
        await connection.execute(f'CREATE TABLE "Odd name" (n int, key {column_type} {collation})')
        for number, value in enumerate(values):
            await connection.execute('INSERT INTO "Odd name" VALUES (%s, %s)', [number, value])
        marks = Marks([Recovery("public.Odd name", ("key", "n"), (("events", "kind"),))])
        await marks.settle(connection, None)
        newest = marks.get("events", "kind")
        assert newest is not None
        cursor = await connection.execute('SELECT row_to_json(r)::text FROM "Odd name" r ORDER BY n')
        rows = [text for (text,) in await cursor.fetchall()]
        assert newest.key == newest.key_of(columns_of(rows[-1]))

        await begin_snapshot(connection)
        for position, row in enumerate(rows):
            rising = Mark(newest.recovery, newest._types)
            rising.advance(columns_of(row))
            read = [text.decode() async for page in missed_rows(connection, rising) for text in page]
            assert read == rows[position + 1 :]
