"""Which tables' rows are published in one walk, and how; the others are left to the careful path whole."""

from __future__ import annotations

import pytest

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.fast.columns import BOOLEAN, MOMENT, NUMBER, OTHER, STRING, FastChanges, FastTable
from broker.feed.fast.learning import FAST_PATH
from broker.feed.fast.shape import BOTH, LEVEL, UNUSED
from broker.feed.routing.tables import TableRoutes
from broker.feed.status import FeedStatus
from broker.feed.wal.progress import Progress
from broker.feed.wal.relations import Table
from broker.feed.wal.tables import fast_table, learn
from protocol.pgjson import TypeEntry
from protocol.pgoutput import Column, Relation

COLUMNS = (
    Column("id", 20, key=True),
    Column("name", 25),
    Column("done", 16),
    Column("at", 1184),
    Column("tags", 1009),
)
TABLE = Table(Relation(7, "public", "t", "d", COLUMNS), {1009: TypeEntry(element_oid=25)})
LISTED = Source("s", (), tables=("public.t",))
FRAMED = Source("f", ("f",), ("channel",), ("payload",))


def routes(*given: Route) -> TableRoutes:
    recovery = Recovery("public.t", ("id",), (("f", "kind"),))
    return TableRoutes(
        FeedConfig("main", "", "wal", (LISTED, FRAMED), given, (recovery,)), FeedStatus("main")
    )


def made(*given: Route) -> FastTable | None:
    return fast_table(TABLE.columns, routes(*given).of_table("public.t", "insert"))


def row(name: bytes = b"n") -> bytes:
    """TupleData, with an array that is NULL."""
    values = (b"12", name, b"t", b"2024-02-13 15:53:50+00")
    return b"\0\5" + b"".join(b"t" + len(v).to_bytes(4, "big") + v for v in values) + b"n"


JSON = b'{"id":12,"name":"n","done":true,"at":"2024-02-13T15:53:50+00:00","tags":null}'


def outgoing(table: FastTable, position: bytes = b"") -> list[tuple[bytes, bytes]]:
    found = table.publications(row(), 0, 0.0, position)
    assert found is not None
    return [(topic, body) for topic, body, *_ in found]


def test_columns_are_what_their_types_and_routes_make_of_them() -> None:
    table = made(
        Route("s", ("{name}/{id}/{done}",)), Route("s", ("{id}",), target="exchange", once_per=("id",))
    )
    assert table is not None
    assert [(column.kind, column.use) for column in table._columns] == [
        (NUMBER, BOTH),
        (STRING, LEVEL),
        (BOOLEAN, LEVEL),
        (MOMENT, UNUSED),
        (OTHER, UNUSED),
    ]
    assert [column.bare for column in table._columns] == [
        b'{"id":',
        b',"name":',
        b',"done":',
        b',"at":',
        b',"tags":',
    ]
    assert outgoing(table) == [(b"n/12/true", JSON), (b"$ws/exchange/12", JSON)]


@pytest.mark.parametrize(
    ("route", "is_fast"),
    [
        (Route("s", ("{id}/{name}",)), True),
        (Route("s", ("{done}",)), True),
        (Route("s", ("{done}",), target="exchange"), False),  # its text is t or f there
        (Route("s", ("x",), once_per=("done",)), False),
        (Route("s", ("x",), once_per=("id", "name")), True),
        (Route("s", ("{at}",)), False),
        (Route("s", ("x",), once_per=("at",)), False),
        (Route("s", ("{tags}",)), False),
        (Route("s", ("{other}",)), False),
        (Route("s", ("x",), columns=("id",)), False),
        (Route("s", ("x",), operation=True, body="envelope"), False),
        (Route("s", ("{$kind}",)), True),
        (Route("s", ("x",), operations=("update",)), False),
    ],
)
def test_what_a_route_needs_decides_for_the_table(route: Route, is_fast: bool) -> None:
    assert (made(route) is not None) == is_fast


def test_one_careful_route_makes_the_table_careful() -> None:
    """Its publications stand between those of the others."""
    assert made(Route("s", ("{id}",)), Route("f", ("x",), columns=("id",))) is None
    assert made() is None


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (Route("f", ("x",), position=True), JSON),
        (Route("f", ("x",), body="raw"), b'{"channel" : "kind", "payload" : ' + JSON + b"}"),
        (
            Route("f", ("x",), body="raw", position=True),
            b'{"channel" : "kind", "payload" : ' + JSON + b',"position":"0/1/1"}',
        ),
        (Route("s", ("x",), body="raw", position=True), JSON),  # a row without a frame
        (
            Route("f", ("x",), body="envelope", target="econia", position=True),
            b'{"channel" : "x", "payload" : ' + JSON + b',"position":"0/1/1"}',
        ),
    ],
)
def test_a_position_stands_where_there_is_a_frame(route: Route, body: bytes) -> None:
    table = made(route)
    assert table is not None
    assert outgoing(table, b"0/1/1")[0][1] == body


def test_each_source_has_its_own_frame() -> None:
    table = made(Route("s", ("s/{id}",), body="raw"), Route("f", ("f/{id}",), body="raw"))
    assert table is not None
    assert outgoing(table) == [
        (b"s/12", JSON),
        (b"f/12", b'{"channel" : "kind", "payload" : ' + JSON + b"}"),
    ]


@pytest.mark.parametrize("name", ['na"me', "name\udcff"])
def test_names_are_written_as_json_has_them(name: str) -> None:
    """The second is of a server that takes any bytes."""
    relation = Relation(7, "public", "t", "d", (Column(name, 25),))
    table = fast_table(Table(relation, {}).columns, routes(Route("s", ("x",))).of_table("public.t", "insert"))
    assert table is not None
    body = b'{"' + name.replace('"', '\\"').encode(errors="surrogateescape") + b'":"v"}'
    assert table.publications(b"\0\1t\0\0\0\1v", 0, 0.0, b"") == [(b"x", body, 1, False)]


@pytest.fixture(params=[True, False], ids=["on", "off"])
def is_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(FAST_PATH, "is_on", request.param)
    return bool(request.param)


def test_inserts_and_updates_are_taken_each_by_its_own_routes_where_the_fast_path_is_on(is_on: bool) -> None:
    published: list[bytes] = []
    progress = Progress()
    changes = FastChanges(progress, 0, lambda topic, *_: published.append(topic))
    wanted = routes(Route("s", ("i/{id}",)), Route("s", ("u/{id}",), operations=("update",)))
    learn(changes, 7, TABLE, wanted)
    progress.begin(100)
    for operation in (b"I", b"U"):
        change = operation + (7).to_bytes(4, "big") + b"N" + row()
        assert changes.take(change, 0, False, 0.0) == is_on
    assert published == ([b"i/12", b"u/12"] if is_on else [])
