"""Rows published in one walk over the server's bytes become what the careful way makes of them, or it is asked."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.core import barrier as barriers
from broker.feed.fast.columns import FastChanges
from broker.feed.fast.learning import FAST_PATH
from broker.feed.routing.routes import Outgoing
from broker.feed.status import FeedStatus
from broker.feed.wal import tables as fast_tables
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.relations import Relations
from protocol import pgoutput
from protocol.pgjson import TypeEntry
from protocol.pgoutput import Column, Relation, RowChange

RELATION = Relation(
    7,
    "public",
    "fill",
    "d",
    (
        Column("id", 20, key=True),
        Column('na"me', 25),
        Column("user", 1043),
        Column("done", 16),
        Column("at", 1184),
        Column("size", 1700),
        Column("tags", 1009),
        Column("note", 114),
    ),
)
SOURCES = (
    Source("tables", (), tables=("public.fill",)),
    Source("ws", ("ws",), ("channel",), ("payload",)),
    Source("typed", ("typed",), ("type",)),
)
RECOVERIES = (Recovery("public.fill", ("id",), (("ws", "fill_event"), ("typed", "fill"))),)
ROUTES = (
    Route("tables", ("fill/{user}/{size}", "by/{done}/{id}"), once_per=("id", "user"), once_for_s=10.0),
    Route("tables", ("{$kind}/{size}",), on_null="none", on_unsafe="percent", operations=("insert", "update"), qos=2),
    Route("tables", ("{user}@{id}",), target="exchange", body="envelope", operations=("update",)),
    Route("ws", ("{$kind}",), target="econia", body="raw", retain=True),
    Route("ws", ("{user}",), body="envelope", on_unsafe="_"),
    Route("typed", ("t/{id}",), body="raw", operations=("insert", "update")),
    Route("tables", ("p/{id}",), body="raw", position=True),
    Route("ws", ("{id}",), target="econia", body="envelope", position=True, operations=("insert", "update")),
    Route("ws", ("p/{id}",), body="raw", position=True, once_per=("user",)),
)  # fmt: skip
CONFIG = FeedConfig("x", "", "wal", SOURCES, ROUTES, RECOVERIES)


class Stream:
    """A feed's stream, careful or in one walk, with all that can be told apart from outside."""

    def __init__(self, config: FeedConfig, in_one_walk: bool) -> None:
        self.published: list[Outgoing] = []
        self.status = FeedStatus("x")
        self.delivery = Delivery(config, self, self.status)  # type: ignore[arg-type]
        self.fast = FastChanges(self.delivery.progress, 0, self.publish)
        self.careful = 0
        self._relations = Relations()
        table = self._relations.learn(RELATION, {1009: _TEXT_ARRAY})
        if in_one_walk:
            fast_tables.learn(self.fast, RELATION.oid, table, self.delivery.routes)

    def publish(self, *outgoing: Any) -> None:
        self.published.append(outgoing)

    def transaction(self, lsn: int, messages: list[bytes], in_stream: bool = False, now: float = 0.0) -> None:
        self.delivery.begin(lsn)
        for message in messages:
            if self.fast.take(message, 0, in_stream, now):
                continue
            self.careful += 1
            change = pgoutput.decode(message, in_stream)
            assert isinstance(change, RowChange)
            self.delivery.change(self._relations.table(change.relation_oid), change, now)
        self.delivery.commit(lsn + 8, 0)
        received, published, repeated = self.fast.settle()
        self.status.received += received
        self.status.published += published
        self.status.repeated += repeated

    def outcome(self) -> tuple[object, ...]:
        status = self.status
        counts = (status.received, status.published, status.repeated, status.dropped)
        return self.published, counts, self.delivery.progress.place


@pytest.fixture(autouse=True, scope="module")
def _also_interpreted() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FAST_PATH, "is_on", True)
        yield


def row(values: list[bytes | None]) -> bytes:
    """TupleData."""
    parts = [len(values).to_bytes(2, "big")]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value == pgoutput.UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + len(value).to_bytes(4, "big") + value)
    return b"".join(parts)


def change(values: list[bytes | None], operation: bytes = b"I", oid: int = 7, xid: bytes = b"") -> bytes:
    return operation + xid + oid.to_bytes(4, "big") + b"N" + row(values)


USUAL = [b"12", b"n", b"0xc0", b"t", b"2024-02-13 15:53:50.5+00", b"1.50", None, b'{"a" : 1}']
"""A row that is taken."""

_TEXT_ARRAY = TypeEntry(element_oid=25)

numbers = st.sampled_from(
    [b"0", b"-1", b"340282366920938463463374607431768211455", b"1e+20", b"NaN", b"-Infinity"]
)
texts = st.one_of(
    st.sampled_from([b"", b"0xc0", b"a/b", b"#", b"+", b"$SYS", b"50%", b"t", b"NULL", b"a b", b"\x7f", b"\x01"]),
    st.text(max_size=6).map(lambda text: text.replace("\0", "").encode(errors="replace")),
)  # fmt: skip
moments = st.sampled_from([
    b"2024-02-13 15:53:50.5+00", b"2024-02-13 15:53:50+00", b"0044-03-15 00:00:00+00 BC", b"infinity",
    b"12024-02-13 15:53:50+00", b"2024-02-13 15:53:50+05:30", b"2024-02-13 15:53:50-03",
])  # fmt: skip
arrays = st.sampled_from([b"{}", b'{a,"b c",NULL}'])
json_texts = st.sampled_from([b"null", b'{"a" : "\\u00e9"}', b"[1, 2]"])
rows = st.tuples(
    numbers, texts, texts, st.sampled_from([b"t", b"f"]), moments, numbers, arrays, json_texts
).flatmap(
    lambda values: st.tuples(
        *(
            st.sampled_from([value] * 12 + [None] + [pgoutput.UNCHANGED] * (place > 0))
            for place, value in enumerate(values)
        )
    ).map(list)
)
changes = st.tuples(rows, st.sampled_from([b"I", b"U"])).map(lambda pair: change(*pair))


@settings(max_examples=cases(400))
@given(st.lists(st.lists(changes, max_size=4), min_size=1, max_size=4))
def test_one_walk_gives_what_the_careful_way_gives(transactions: list[list[bytes]]) -> None:
    both = [Stream(CONFIG, False), Stream(CONFIG, True)]
    for stream in both:
        for number, messages in enumerate(transactions, 1):
            stream.transaction(number * 100, messages, now=number * 4.0)
    assert both[0].outcome() == both[1].outcome()


def test_usual_rows_need_no_careful_way() -> None:
    stream = Stream(CONFIG, True)
    stream.transaction(100, [change(USUAL), change(USUAL, b"U")])
    assert stream.careful == 0
    assert stream.published[0] == (
        b"fill/0xc0/1.50",
        b'{"id":12,"na\\"me":"n","user":"0xc0","done":true,"at":"2024-02-13T15:53:50.5+00:00","size":1.50,'
        b'"tags":null,"note":{"a" : 1}}',
        1,
        False,
    )
    assert [topic for topic, *_ in stream.published] == [
        b"fill/0xc0/1.50", b"by/true/12", b"public.fill/1.50", b"p/12", b"$ws/econia/fill_event", b"0xc0",
        b"$ws/econia/12", b"p/12", b"t/12", b"public.fill/1.50", b"$ws/exchange/0xc0@12", b"$ws/econia/12", b"t/12",
    ]  # fmt: skip


def test_change_in_a_streamed_transaction_is_recognised_behind_its_subtransaction() -> None:
    stream = Stream(CONFIG, True)
    stream.transaction(100, [change(USUAL, xid=b"\0\0\2\1")], in_stream=True)
    assert stream.careful == 0
    assert len(stream.published) == 9


@pytest.mark.parametrize(
    "message",
    [
        change(USUAL, oid=8),
        b"U" + (7).to_bytes(4, "big") + b"O" + row(USUAL) + b"N" + row(USUAL),
        b"D" + (7).to_bytes(4, "big") + b"K" + row(USUAL),
        change(USUAL)[:-1],
        change(USUAL) + b"x",
        change(USUAL[:-1]),
        change([*USUAL, b"1"]),
        b"",
        b"I",
    ],
)
def test_what_is_not_usual_is_left_alone(message: bytes) -> None:
    stream = Stream(CONFIG, True)
    stream.delivery.begin(100)
    assert not stream.fast.take(message, 0, False, 0.0)
    assert (stream.published, stream.fast.settle(), stream.delivery.progress.place) == (
        [],
        (0, 0, 0),
        (0, 0),
    )


@pytest.mark.parametrize("tags", [b""])
def test_a_value_that_cannot_be_rendered_costs_its_row(tags: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the walk fails at, the careful path drops and counts it, and the next row comes."""
    monkeypatch.setattr(barriers, "RERAISE", False)
    stream = Stream(CONFIG, True)
    broken = [*USUAL[:6], tags, USUAL[7]]
    stream.transaction(100, [change(broken), change(USUAL)])
    assert stream.status.dropped == {"unexpected": 1}
    assert len(stream.published) == 9


def test_changes_that_come_again_or_are_in_a_snapshot_are_left_alone() -> None:
    stream = Stream(CONFIG, True)
    stream.delivery.begin(100)
    assert stream.fast.take(change(USUAL), 0, False, 0.0)
    stream.delivery.progress.connected()
    stream.delivery.begin(100)
    assert not stream.fast.take(change(USUAL), 0, False, 0.0)
    assert not stream.delivery.progress.is_new()
    assert stream.fast.take(change(USUAL), 0, False, 0.0)
    later = FastChanges(stream.delivery.progress, 101, stream.publish)
    fast_tables.learn(later, 7, Relations().learn(RELATION, {}), stream.delivery.routes)
    assert not later.take(change(USUAL), 0, False, 0.0)


def test_table_whose_description_changed_is_known_by_the_new_one_only() -> None:
    stream = Stream(CONFIG, True)
    stream.fast.learn(7, None, None)
    stream.transaction(100, [change(USUAL)])
    assert stream.careful == 1


@pytest.mark.parametrize(
    "route",
    [
        Route("tables", ("{at}",)),
        Route("tables", ("{tags}",)),
        Route("tables", ("x",), once_per=("done",)),
        Route("tables", ("{other}",)),
    ],
)
def test_table_whose_routes_need_more_is_left_to_the_careful_way(route: Route) -> None:
    stream = Stream(evolve(CONFIG, routes=(route,)), True)
    stream.transaction(100, [change(USUAL)])
    assert stream.careful == 1


def test_frames_are_taken_until_one_is_not_usual() -> None:
    stream = Stream(CONFIG, True)
    stream.delivery.begin(100)
    head = b"w" + bytes(8) + (777).to_bytes(8, "big") + bytes(8)
    frames = [head + change(USUAL), head + change(USUAL), b"k" + bytes(17)]
    waiting = [(len(frame), memoryview(frame)) for frame in frames] + [(0, b"")]
    assert stream.fast.take_frames(lambda _: waiting.pop(0), 100, 0.0) == (2, 18, frames[2])
    assert stream.fast.wal_end == 777
    assert stream.fast.take_frames(lambda _: waiting.pop(0), 100, 0.0) == (0, 0, b"")
    waiting = [(len(frames[0]), memoryview(frames[0]))] * 3
    assert stream.fast.take_frames(lambda _: waiting.pop(0), 2, 0.0) == (2, len(frames[0]), b"")
