"""A mark for each source of each table: where it stands at a start, and whether rows may be missing before it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
from attrs import evolve

from broker.config.feeds import Recovery
from broker.feed.driver.connection import TrioConnection
from broker.feed.listen.mark import Mark
from broker.feed.listen.marks import Marks, Saved

FILLS = Recovery("public.fill", ("id",), (("events", "fill"), ("ws", "fill_event")))
ORDERS = Recovery("Order", ("at", "id"), (("events", "order"),))
TABLES = """
CREATE TABLE fill (id bigint, note text);
CREATE TABLE "Order" (at date, id numeric, note text);
INSERT INTO fill VALUES (9, ''), (10, ''), (NULL, '');
"""


@pytest.fixture
async def reader(database: str) -> AsyncIterator[TrioConnection]:
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await connection.execute(TABLES)
        yield connection


def texts(marks: Marks) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(source, kind): mark.texts for source, kind, mark in marks}


async def settled(reader: TrioConnection, *recoveries: Recovery, kept: Saved | None = None) -> Marks:
    marks = Marks(recoveries)
    await marks.settle(reader, kept)
    return marks


def advance(marks: Marks, id: int) -> None:
    mark = marks.get("events", "fill")
    assert mark is not None
    assert mark.advance({"id": str(id)})


async def test_at_the_first_start_each_stands_at_its_table_s_newest_row(reader: TrioConnection) -> None:
    marks = Marks([FILLS, ORDERS])
    assert (list(marks), marks.get("events", "fill")) == ([], None)
    assert await marks.settle(reader, None) == []
    assert texts(marks) == {
        ("events", "fill"): ("10",),
        ("ws", "fill_event"): ("10",),
        ("events", "order"): (),
    }
    assert marks
    assert not Marks([])


async def test_what_was_kept_is_gone_on_from_and_what_is_unknown_may_miss_rows(
    reader: TrioConnection,
) -> None:
    before = await settled(reader, FILLS)
    advance(before, 11)
    await reader.execute("INSERT INTO fill VALUES (15, '')")
    after = Marks([FILLS, ORDERS])
    assert await after.settle(reader, before.saved()) == ["Order"]
    assert texts(after) == {
        ("events", "fill"): ("11",),
        ("ws", "fill_event"): ("10",),
        ("events", "order"): (),
    }


async def test_a_table_of_several_sources_is_named_once(reader: TrioConnection) -> None:
    assert await Marks([FILLS, ORDERS]).settle(reader, []) == ["public.fill", "Order"]


@pytest.mark.parametrize(
    "kept",
    [
        ["nothing"],
        [["events"]],
        [["events", "fill"]],
        [["events", "fill", ["x"]]],
        [["events", "fill", 5, 5]],
        [["events", "fill", ["1"], "no shape"]],
        [{"events": "fill"}],
    ],
)
async def test_what_is_no_place_is_as_if_nothing_were_known(reader: TrioConnection, kept: Saved) -> None:
    marks = Marks([evolve(FILLS, kinds=FILLS.kinds[:1])])
    assert await marks.settle(reader, kept) == ["public.fill"]
    assert texts(marks) == {("events", "fill"): ("10",)}


async def test_an_earlier_version_kept_the_key_alone(reader: TrioConnection) -> None:
    marks = Marks([evolve(FILLS, kinds=FILLS.kinds[:1])])
    assert await marks.settle(reader, [["events", "fill", ["9"]]]) == []
    assert texts(marks) == {("events", "fill"): ("9",)}


@pytest.mark.parametrize(
    ("statement", "stands_at", "unknown"),
    [
        ("SELECT 1", "12", []),
        ("INSERT INTO fill VALUES (20, '')", "12", []),
        ("DELETE FROM fill", "12", []),
        ("ALTER TABLE fill ADD more int", "12", []),
        ("TRUNCATE fill; INSERT INTO fill VALUES (3, '')", "3", ["public.fill"]),
        ("TRUNCATE fill; INSERT INTO fill VALUES (30, '')", "12", ["public.fill"]),
        (
            "DROP TABLE fill; CREATE TABLE fill (id bigint); INSERT INTO fill VALUES (30)",
            "12",
            ["public.fill"],
        ),
        ("ALTER TABLE fill ALTER id TYPE text; INSERT INTO fill VALUES ('9')", "9", ["public.fill"]),
    ],
)
async def test_while_it_lives_each_stays_where_it_is_in_the_table_that_it_is_of(
    reader: TrioConnection, statement: str, stands_at: str, unknown: list[str]
) -> None:
    marks = await settled(reader, FILLS)
    mark = marks.get("events", "fill")
    for source, kind in FILLS.kinds:
        one = marks.get(source, kind)
        assert one is not None
        one.advance({"id": "12"})
    await reader.execute(statement.encode())
    assert await marks.settle(reader, None) == unknown
    assert texts(marks) == dict.fromkeys(FILLS.kinds, (stands_at,))
    assert (marks.get("events", "fill") is mark) == (not unknown)


async def test_all_stay_as_they_were_if_looking_at_one_fails(reader: TrioConnection) -> None:
    """Which is another thing than a table that is not there: here an index has its name."""
    marks = await settled(reader, ORDERS, FILLS)
    before = [mark for *_, mark in marks]
    await reader.execute('TRUNCATE "Order"; DROP TABLE fill; CREATE INDEX fill ON "Order" (id)')
    with pytest.raises(psycopg.errors.Error):
        await marks.settle(reader, None)
    assert [mark for *_, mark in marks] == before


async def test_a_mark_has_the_types_of_its_columns(reader: TrioConnection) -> None:
    """So that dates compare as dates, and numbers as numbers."""
    await reader.execute("INSERT INTO \"Order\" VALUES ('2024-02-13', 9), ('2024-02-13', 10)")
    marks = await settled(reader, ORDERS)
    mark = marks.get("events", "order")
    assert isinstance(mark, Mark)
    assert mark.texts == ("2024-02-13", "10")
    assert mark.key_space.columns == ("at", "id", 1082, 1700)
    assert len(mark.key_space.files) == 2
    assert marks.saved() == [
        ["events", "order", ["2024-02-13", "10"], [["at", "id", 1082, 1700], list(mark.key_space.files)]]
    ]


@pytest.mark.parametrize(
    ("goes", "returns"),
    [
        ("ALTER TABLE fill RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO fill"),
        ("ALTER TABLE fill RENAME id TO key", "ALTER TABLE fill RENAME key TO id"),
        ("ALTER SCHEMA public RENAME TO former", "ALTER SCHEMA former RENAME TO public"),
    ],
)
async def test_a_table_that_is_away_leaves_the_others_and_goes_on_where_it_was(
    reader: TrioConnection, goes: str, returns: str
) -> None:
    await reader.execute(
        'CREATE SCHEMA other; SET search_path = other, public; ALTER TABLE "Order" SET SCHEMA other'
    )
    marks = await settled(reader, FILLS, ORDERS)
    advance(marks, 11)
    await reader.execute(goes.encode())
    assert await marks.changed(reader) == ["public.fill"]
    assert await marks.settle(reader, None) == []
    assert list(marks.away) == [FILLS]
    assert [source_and_kind[:2] for source_and_kind in marks.readable()] == [("events", "order")]
    assert texts(marks)["events", "fill"] == ("11",)
    assert await marks.changed(reader) == []
    await reader.execute(returns.encode())
    assert await marks.changed(reader) == ["public.fill"]
    assert await marks.settle(reader, None) == []
    assert (marks.away, texts(marks)["events", "fill"]) == ({}, ("11",))


async def test_one_that_comes_only_later_may_miss_rows(reader: TrioConnection) -> None:
    await reader.execute("ALTER TABLE fill RENAME TO elsewhere")
    marks = await settled(reader, FILLS, ORDERS)
    assert texts(marks) == {("events", "order"): ()}
    await reader.execute("ALTER TABLE elsewhere RENAME TO fill")
    assert await marks.settle(reader, None) == ["public.fill"]


@pytest.mark.parametrize("recoveries", [(FILLS,), (FILLS, ORDERS)], ids=["the only one", "beside another"])
async def test_what_was_kept_of_a_table_that_is_away_at_the_start_waits_for_it(
    reader: TrioConnection, recoveries: tuple[Recovery, ...]
) -> None:
    kept = (await settled(reader, *recoveries)).saved()
    await reader.execute("INSERT INTO fill VALUES (11, ''); ALTER TABLE fill RENAME TO elsewhere")
    marks = await settled(reader, *recoveries, kept=kept)
    assert sorted(map(str, marks.saved())) == sorted(map(str, kept))
    assert await marks.settle(reader, None) == []
    assert sorted(map(str, marks.saved())) == sorted(map(str, kept)), "however often it is looked for"
    await reader.execute("ALTER TABLE elsewhere RENAME TO fill")
    assert await marks.settle(reader, None) == []
    assert texts(marks)["events", "fill"] == ("10",)
    assert sorted(map(str, marks.saved())) == sorted(map(str, kept))


async def test_the_only_one_that_comes_later_may_miss_rows_too(reader: TrioConnection) -> None:
    await reader.execute("ALTER TABLE fill RENAME TO elsewhere")
    marks = await settled(reader, FILLS)
    assert marks.is_settled
    await reader.execute("ALTER TABLE elsewhere RENAME TO fill")
    assert await marks.settle(reader, None) == ["public.fill"]


async def test_of_two_keys_of_one_table_the_one_that_is_there_goes_on(reader: TrioConnection) -> None:
    by_note = evolve(FILLS, key=("note",), kinds=(("more", "fill"),))
    marks = await settled(reader, FILLS, by_note)
    await reader.execute("ALTER TABLE fill RENAME note TO words")
    assert await marks.settle(reader, None) == []
    assert list(marks.away) == [by_note]
    assert [one[:2] for one in marks.readable()] == list(FILLS.kinds)
    assert await marks.changed(reader) == []
