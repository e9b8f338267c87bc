"""What the routes want, compared with what the database captures; and how it is kept from process to process."""

from __future__ import annotations

import json
from typing import Any, cast

import psycopg
import pytest
from support.installed import feed_config

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.captured import (
    ENDED,
    PUBLISHED,
    TRIGGERED,
    UNTIL_STEP_BYTES,
    CaptureWatch,
    Marks,
    Uncaptured,
    differences,
    is_other,
    marks_of,
    parameters,
)
from broker.feed.cures import INSTALL
from broker.feed.driver.connection import TrioConnection
from broker.feed.status import FeedStatus

T = "public.event"


def config_of(kind: str = "wal", *operations: str) -> FeedConfig:
    route = Route("tables", ("e/{id}",), kind=T, operations=operations or ("insert", "delete"))
    return feed_config("dbname=shop", kind, routes=(route,))


def capture(
    *operations: str, oid: str = "7", xmin: str = "8", member: str | None = "9", leaf: str | None = None
) -> list[Any]:
    """As PUBLISHED and TRIGGERED give one: for inserts, updates, deletes."""
    return ["name", *(one in operations for one in ("insert", "update", "delete")), oid, xmin, member, leaf]


def row(
    *captures: list[Any], oid: int | None = 5, kind: str = "r", persistence: str = "p",
    partition: str | None = None, altered: str | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    return (T, oid, kind, persistence, list(captures), partition, altered)


BOTH = capture("insert", "delete")
OF_BOTH = {"insert": "5/7/8/9", "delete": "5/7/8/9"}
LEAF = capture("insert", "delete", oid="17", leaf="6")


@pytest.mark.parametrize(
    ("kind", "found", "marks", "missing"),
    [
        ("wal", row(BOTH), OF_BOTH, ""),
        ("outbox", row(BOTH), OF_BOTH, ""),
        (
            "wal", row(capture("insert"), capture("delete", "update", oid="17")),
            {"insert": "5/7/8/9", "delete": "5/17/8/9"}, "",
        ),
        ("wal", row(BOTH, capture("insert", oid="17")), {"insert": "5/7/8/9 5/17/8/9", "delete": "5/7/8/9"}, ""),
        (
            "wal",
            row(capture("insert")),
            {"insert": "5/7/8/9", "delete": ""},
            f"delete of {T} is not captured: {INSTALL}",
        ),
        ("wal", row(), {"insert": "", "delete": ""}, f"insert and delete of {T} is not captured: {INSTALL}"),
        (
            "outbox", row(capture("insert", "delete", member=None)), {"insert": "", "delete": ""},
            f"insert and delete of {T} is not captured: {INSTALL}",
        ),
        ("wal", row(capture("insert", "delete", member=None)), {"insert": "5/7/8/None", "delete": "5/7/8/None"}, ""),
        ("outbox", row(BOTH, LEAF), {"insert": "5/7/8/9 6:17/8", "delete": "5/7/8/9 6:17/8"}, ""),
        (
            "outbox", row(LEAF, partition="event_b"), {"insert": "", "delete": ""},
            f"rows of event_b, a partition of {T}, are not captured: {INSTALL}",
        ),
        (
            "wal", row(oid=None), {"insert": "", "delete": ""},
            f"there is no table {T}: create it or correct its name, then {INSTALL}",
        ),
        ("wal", row(BOTH, kind="p"), OF_BOTH, ""),
        ("wal", row(BOTH, kind="v"), OF_BOTH, f"{T} is a view or the like: name the table behind it"),
        (
            "wal", row(BOTH, persistence="u"), {"insert": "", "delete": ""},
            f'{T} is unlogged, so its rows are in no WAL: ALTER TABLE "public"."event" SET LOGGED',
        ),
        (
            "wal", row(BOTH, persistence="u", partition="event_b"), {"insert": "", "delete": ""},
            f"event_b, a partition of {T}, is unlogged or a foreign table, so its rows are in no WAL here:"
            " ALTER TABLE event_b SET LOGGED, or detach it",
        ),
        ("outbox", row(BOTH, persistence="u"), OF_BOTH, ""),
        (
            "outbox", row(BOTH, altered="rowcast.outbox_mark()"), OF_BOTH,
            f"rowcast.outbox_mark() is not as Rowcast has made it, so rows of {T} are not captured: {INSTALL}",
        ),
        (
            "outbox", row(BOTH, altered="the rule a of rowcast.outbox"), OF_BOTH,
            f"the rule a of rowcast.outbox is not as Rowcast has made it, so rows of {T} are not captured: drop it",
        ),
    ],
    ids=[
        "wal", "outbox", "one each", "two for one", "lacks one", "lacks both", "unnumbered", "all tables",
        "partition", "partition off", "no table", "partitioned", "view", "unlogged", "unlogged partition",
        "unlogged outbox", "altered", "rule",
    ],
)  # fmt: skip
def test_marks_say_what_captures_and_words_what_lacks(
    kind: str, found: tuple[Any, ...], marks: dict[str, str], missing: str
) -> None:
    assert marks_of(config_of(kind), [found]) == ({T: marks}, {T: missing} if missing else {})


ANEW = f"{{}} of {T} was not captured for a while: the table or its capture was made anew"


@pytest.mark.parametrize(
    ("known", "now", "gap"),
    [
        (None, OF_BOTH, ""),
        ({}, OF_BOTH, ""),
        ({T: OF_BOTH}, OF_BOTH, ""),
        ({T: {"insert": "5/7/8/9"}}, OF_BOTH, ""),
        (None, {"insert": "", "delete": "5/7/8/9"}, "lacking"),
        ({T: {"insert": ""}}, {"insert": ""}, ""),
        ({T: {"insert": "5/7/8/9"}}, {"insert": ""}, "lacking"),
        ({T: {"insert": ""}}, {"insert": "5/7/8/9"}, ANEW.format("insert")),
        ({T: OF_BOTH}, {"insert": "5/7/8/10", "delete": "5/7/8/10"}, ANEW.format("insert and delete")),
        ({T: OF_BOTH}, {"insert": "5/7/8/9", "delete": "5/7/8/10"}, ANEW.format("delete")),
        ({"public.other": {"insert": "1"}}, OF_BOTH, ""),
    ],
    ids=[
        "first", "empty", "same", "more wanted", "first lacks", "lacks still", "gone", "back", "anew", "one anew",
        "other",
    ],
)  # fmt: skip
def test_gap_is_what_was_not_captured_since_the_marks_before(
    known: dict[str, dict[str, str]] | None, now: dict[str, str], gap: str
) -> None:
    marks: Marks = {T: now}
    assert differences(known, marks, {T: "lacking"}) == ({T: gap} if gap else {})


def test_gap_has_words_where_nobody_said_what_is_missing() -> None:
    assert differences({T: OF_BOTH}, {T: {"insert": ""}}, {}) == {T: f"{T} is not captured: {INSTALL}"}


@pytest.mark.parametrize(
    ("before", "now", "other"),
    [
        ("5/7/8/9", "5/7/8/9", False),
        ("5/7/8/9", "5/7/8/8", True),
        ("5/7/8/9", "", True),
        ("5/7/8/9", "5/7/8/9 6:17/8", False),
        ("5/7/8/9 6:17/8", "5/7/8/9", False),
        ("5/7/8/9 6:17/8", "5/7/8/9 6:18/8", True),
        ("5/7/8/9 6:17/8", "5/7/8/9 16:18/8", False),
        ("5/7/8/9 6:17/8", "5/7/8/10 6:17/8", True),
        ("5/7/8/9 6:17/8 7:1/1", "5/7/8/9 7:1/1 6:17/8", False),
    ],
)
def test_partitions_come_and_go_and_what_stays_is_the_same(before: str, now: str, other: bool) -> None:
    assert is_other(before, now) is other


def test_parameters_are_the_tables_of_routes_as_written_and_quoted() -> None:
    config = feed_config(
        "",
        sources=(Source("tables", (), tables=("public.Odd.b", T, "public.unwanted")),),
        routes=(Route("tables", ("t",), kind="public.Odd.b"), Route("tables", ("t",), kind=T)),
    )
    assert parameters(config, iter(["p"])) == {
        "names": ["public.Odd.b", T],
        "quoted": ['"public"."Odd.b"', '"public"."event"'],
        "publications": ["p"],
    }


class Database:
    """Answers what a watch asks, and keeps what it is given."""

    def __init__(self, found: tuple[Any, ...]) -> None:
        self.found = found
        self.columns = ["id"]
        self.makings: str | None = "1/1"
        self.altered: str | None = None
        self.writers: dict[str, list[str]] = {}
        self.over: set[str] = set()
        self.kept: str | None = None
        self.is_of_an_earlier_version = False
        self.written = 0

    async def execute(self, query: bytes | str, given: Any = None) -> Database:
        text = query.decode() if isinstance(query, bytes) else query
        if text.startswith("UPDATE"):
            if self.is_of_an_earlier_version:
                raise psycopg.errors.UndefinedColumn
            self.kept = given[0]
            self.written += 1
            self._rows = []
        else:
            self._rows = self._answer(text, given)
        return self

    def _answer(self, text: str, given: Any) -> list[tuple[Any, ...]]:
        if text in (PUBLISHED, TRIGGERED):
            return [self.found]
        if "to_jsonb(feed) -> 'captured'" in text:
            return [(None if self.kept is None else json.loads(self.kept),)]
        if "array_agg(a.attname::text" in text:
            return [(T, self.columns)]
        if "WITH locks" in text:
            return list(self.writers.items())
        if "%(ids)s" in text:
            return [
                (table, one, one in self.over)
                for table, one in zip(given["names"], given["ids"], strict=True)
            ]
        if text.startswith("SELECT string_agg(concat_ws('/', oid, xmin)"):
            return [(self.makings,)]
        assert "min(name)" in text, text
        return [(self.altered,)]

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None


class Watched:
    """A feed's watch over such a database; `again` is the next process."""

    def __init__(self, database: Database, kind: str = "wal") -> None:
        self.database = database
        self.kind = kind
        self.again()

    def again(self) -> None:
        self.status = FeedStatus("test")
        query = PUBLISHED if self.kind == "wal" else TRIGGERED
        self.watch = CaptureWatch(config_of(self.kind), self.status, query)

    async def check(self, position: int, keep: bool = True) -> Uncaptured:
        connection = cast("TrioConnection", self.database)
        found = await self.watch.check(connection, position)
        if keep:
            await self.watch.keep(connection)
        return found


LACKS = f"delete of {T} is not captured: {INSTALL}"


async def test_what_lacks_is_said_once_and_once_more_when_it_is_back() -> None:
    watched = Watched(Database(row(BOTH)))
    assert await watched.check(10) == Uncaptured()
    watched.database.found = row(capture("insert"))
    assert await watched.check(20) == Uncaptured(LACKS, (T,), 10)
    assert (watched.status.troubles, watched.status.uncaptured) == ({f"table {T}": LACKS}, (T,))
    assert await watched.check(30) == Uncaptured("", (), 20)
    watched.database.found = row(BOTH)
    assert await watched.check(40) == Uncaptured(ANEW.format("delete"), (T,), 20)
    assert (watched.status.troubles, watched.status.uncaptured) == ({}, ())
    assert await watched.check(50) == Uncaptured("", (), 40)


async def test_gap_that_was_not_kept_is_found_by_the_next_process_and_what_lacks_anyway() -> None:
    watched = Watched(Database(row(BOTH)))
    await watched.check(10)
    watched.database.found = row(capture("insert", "delete", xmin="80"))
    assert (await watched.check(20, keep=False)).reason == ANEW.format("insert and delete")
    watched.again()
    assert await watched.check(30) == Uncaptured(ANEW.format("insert and delete"), (T,), 10)
    watched.again()
    assert (await watched.check(40)).reason == ""
    watched.database.found = row(capture("insert"))
    await watched.check(50)
    watched.again()
    assert (await watched.check(60)).reason == LACKS


async def test_writer_who_was_open_at_the_gap_is_awaited_by_whatever_process() -> None:
    watched = Watched(Database(row(capture("insert"))))
    await watched.check(10)
    watched.database.writers = {T: ["731"], "public.other": ["732"]}
    watched.database.found = row(BOTH)
    await watched.check(20)
    assert watched.watch.awaited == ["731"]
    watched.database.writers = {}
    watched.again()
    assert (await watched.check(30)).reason == ""
    assert watched.watch.awaited == ["731"]
    watched.database.over = {"731"}
    assert await watched.check(40) == Uncaptured(ENDED.format(T), (T,), 30)
    assert watched.watch.awaited == []
    assert (await watched.check(50)).reason == ""


@pytest.mark.parametrize(
    ("kind", "makings", "awaited"),
    [("outbox", "1/1", []), ("outbox", "1/2", ["731"]), ("wal", "1/1", ["731"])],
    ids=["triggers waited", "function was made anew", "publication"],
)
async def test_writers_are_awaited_where_nothing_has_waited_for_them(
    kind: str, makings: str, awaited: list[str]
) -> None:
    watched = Watched(Database(row(capture("insert"))), kind)
    await watched.check(10)
    watched.database.writers = {T: ["731"]}
    watched.database.found = row(BOTH)
    watched.database.makings = makings
    await watched.check(20)
    assert watched.watch.awaited == awaited


async def test_gap_that_is_owed_awaits_the_writers_of_all_tables() -> None:
    watched = Watched(Database(row(BOTH)))
    await watched.check(10)
    watched.database.writers = {T: ["4/25"]}
    await watched.watch.owed(cast("TrioConnection", watched.database))
    assert (watched.watch.awaited, list(watched.watch.tables)) == (["4/25"], [T])


async def test_function_that_was_altered_and_column_that_lacks_are_troubles_while_they_last() -> None:
    watched = Watched(Database(row(BOTH)))
    watched.database.altered, watched.database.columns = "rowcast.publish()", ["key"]
    await watched.check(10)
    assert watched.status.troubles == {
        "functions": f"rowcast.publish() is not as Rowcast has made it: {INSTALL}",
        f"column id of {T}": f"a route: {T} has no column id; it has key",
    }
    watched.database.altered, watched.database.columns = None, ["id"]
    await watched.check(20)
    assert watched.status.troubles == {}


async def test_table_is_known_by_the_oid_under_which_it_is_captured() -> None:
    watched = Watched(Database(row(BOTH)))
    assert watched.watch.table_of(5) == ""
    await watched.check(10)
    assert (watched.watch.table_of(5), watched.watch.table_of(7), watched.watch.table_of(55)) == (T, "", "")


@pytest.mark.parametrize(
    ("kind", "moved", "is_written"),
    [("wal", UNTIL_STEP_BYTES - 1, False), ("wal", UNTIL_STEP_BYTES, True), ("outbox", 0, False), ("outbox", 1, True)],
    ids=["a little WAL", "more WAL", "nothing", "one transaction"],
)  # fmt: skip
async def test_place_is_kept_where_it_is_worth_the_writing(kind: str, moved: int, is_written: bool) -> None:
    watched = Watched(Database(row(BOTH)), kind)
    await watched.check(100)
    before = watched.database.written
    await watched.check(100 + moved)
    assert (before, watched.database.written) == (1, 1 + is_written)


async def test_table_of_an_earlier_version_keeps_nothing_and_harms_nothing() -> None:
    watched = Watched(Database(row(BOTH)))
    watched.database.is_of_an_earlier_version = True
    await watched.check(10)
    assert (await watched.check(20), watched.database.kept) == (Uncaptured("", (), 10), None)
