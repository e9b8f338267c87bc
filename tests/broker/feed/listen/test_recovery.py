"""Rows behind a mark are read again in the order of their keys, whatever the columns' types."""

from __future__ import annotations

import psycopg
import pytest
from support.postgres import Cluster

from broker.config.feeds import Recovery
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen import recovery
from broker.feed.listen.mark import Mark
from broker.feed.listen.marks import Marks
from broker.feed.listen.recovery import begin_snapshot, missed_rows
from broker.feed.routing.rowtext import columns_of


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


async def test_rows_come_in_pages_of_one_moment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed meanwhile is notified, and so it is not read; one page after the other, and then again."""
    monkeypatch.setattr(recovery, "PAGE_ROWS", 2)
    mark = Mark(Recovery("t", ("id",), ()), (20,))
    async with (
        await TrioConnection.connect(database, autocommit=True) as reader,
        await TrioConnection.connect(database, autocommit=True) as writer,
    ):
        await writer.execute("CREATE TABLE t (id bigint); INSERT INTO t SELECT generate_series(1, 5)")
        await begin_snapshot(reader)
        await writer.execute("INSERT INTO t VALUES (6)")
        for first in (1, 3, 6):
            pages = []
            async for page in missed_rows(reader, mark):
                pages.append(page)
                await writer.execute("DELETE FROM t WHERE id = 5")
            rows = [b'{"id":%d}' % id for id in range(first, 6)]
            assert pages == [rows[i : i + 2] for i in range(0, len(rows), 2)]
            mark.advance({"id": "2" if first == 1 else "5"})
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await reader.execute("DELETE FROM t")
