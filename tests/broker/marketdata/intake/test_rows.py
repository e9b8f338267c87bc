"""Messages of an intake to calculators and routes, with what was done to a row where a query says so."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import Intake, MarketConfig, RowsConfig, SequencePaths
from broker.core.engine import Engine
from broker.feed.status import FeedStatus
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.market import Market


@attrs.define
class Outlet:
    """Takes what routes publish, and gaps."""

    published: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    place: bytes = b""

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        self.published.append((topic, payload))

    def flush(self) -> None: ...


def rows_of(*routes: Route, kind: str = "tcp", **more: Any) -> tuple[IntakeRows, Outlet, FeedStatus]:
    feed = FeedConfig("s", "", kind, (Source("s", ("s",)),), routes or (Route("s", ("t/{id}",)),))
    status, outlet = FeedStatus("s"), Outlet()
    market = Market(MarketConfig(), Engine(), {})
    made: Any = outlet
    return IntakeRows(Intake(kind, feed, **more), market, made, status), outlet, status


CHANGES = [("insert", '{"id":"1"}'), ("update", '{"id":"1","a":2}'), ("delete", '{"id":"1","a":2}')]


def test_what_was_done_to_a_query_s_row_is_in_topic_and_body() -> None:
    route = Route(
        "s",
        ("t/{id}/{$operation}",),
        body="envelope",
        operation=True,
        operations=("insert", "update", "delete"),
    )
    rows, outlet, _ = rows_of(route, kind="query")
    rows.text_rows(CHANGES)
    assert [topic for topic, _ in outlet.published] == [b"t/1/insert", b"t/1/update", b"t/1/delete"]
    for (_, body), operation in zip(outlet.published, (b"insert", b"update", b"delete"), strict=True):
        assert body.endswith(b',"operation":"%b"}' % operation)


def test_a_row_that_a_query_gives_no_more_clears_its_topic_where_it_is_asked_for() -> None:
    clearing = Route("s", ("t/{id}",), retain=True, operations=("insert", "delete"), delete_clears=True)
    rows, outlet, _ = rows_of(clearing, kind="query")
    rows.text_rows(CHANGES)
    assert outlet.published[-1] == (b"t/1", b"")
    plain, outlet, _ = rows_of(kind="query")
    plain.text_rows(CHANGES)
    assert len(outlet.published) == 2, "a route that doesn't want deleted rows gets none"


@pytest.mark.parametrize(
    ("text", "topics", "received", "dropped"),
    [
        (b'{"id":"1"}', [b"t/1"], 1, {}),
        (b'[{"id":"1"},{"id":"2"}]', [b"t/1", b"t/2"], 2, {}),
        (b'[{"id":"1"},5,{"id":"2"}]', [], 1, {"not_an_object": 1}),  # they belong together
        (b"[", [], 1, {"not_json": 1}),
        (b"5", [], 1, {"not_an_object": 1}),
        (b"\xff", [], 1, {"not_utf8": 1}),
    ],
)
def test_a_message_is_one_row_or_several_and_what_is_none_costs_itself(
    text: bytes, topics: list[bytes], received: int, dropped: dict[str, int]
) -> None:
    rows, outlet, status = rows_of()
    rows.message(text)
    assert [topic for topic, _ in outlet.published] == topics
    assert status.received == received
    assert dict(status.dropped) == dropped
    assert status.published == len(topics)


def test_a_query_s_row_that_is_none_costs_itself() -> None:
    rows, outlet, status = rows_of(kind="query")
    rows.text_rows([("insert", "5"), *CHANGES[:1]])
    assert [topic for topic, _ in outlet.published] == [b"t/1"]
    assert (status.received, dict(status.dropped)) == (1, {"not_an_object": 1})


def test_levels_of_a_topic_are_columns() -> None:
    rows, outlet, _ = rows_of(Route("s", ("t/{+1}/{id}",)))
    rows.message(b'{"id":"1"}', {"+1": "eu"})
    assert [topic for topic, _ in outlet.published] == [b"t/eu/1"]


def test_what_came_twice_is_left_out_and_a_hole_is_announced() -> None:
    rows, outlet, status = rows_of(sequence=SequencePaths(("n",), by=("s",)))
    for text in (b'{"id":"1","n":1,"s":"X"}', b'{"id":"2","n":1,"s":"X"}', b'{"id":"3","n":4,"s":"X"}'):
        rows.message(text)
    published = dict(outlet.published)
    assert list(published) == [b"t/1", b"$SYS/feed/s/gap", b"$ws/canton/system_health", b"t/3"]
    assert b"X: 2 messages before number 4 are missing" in published[b"$SYS/feed/s/gap"]
    assert status.repeated == 1
    rows.message(b'{"id":"4"}')
    assert len(outlet.published) == 4, "a message without a number"


def test_rows_of_one_message_have_one_number() -> None:
    config = RowsConfig((("d",), ("e",)))
    rows, outlet, status = rows_of(sequence=SequencePaths(("n",)), rows=config)
    rows.message(b'{"d":[{"id":"1","n":7},{"id":"2","n":7}]}')
    assert [topic for topic, _ in outlet.published] == [b"t/1", b"t/2"]
    assert status.repeated == 0
    rows.message(b'{"d":[{"id":"1","n":7}]}')
    assert status.repeated == 1


def test_other_routes_are_taken_and_numbers_go_on_where_they_were() -> None:
    rows, outlet, status = rows_of(sequence=SequencePaths(("n",)))
    rows.message(b'{"id":"1","n":1}')
    feed = attrs.evolve(rows.intake.feed, routes=(Route("s", ("u/{id}",)),))
    rows.adopt(attrs.evolve(rows.intake, feed=feed))
    rows.message(b'{"id":"1","n":1}')
    rows.message(b'{"id":"2","n":2}')
    assert [topic for topic, _ in outlet.published] == [b"t/1", b"u/2"]
    rows.adopt(attrs.evolve(rows.intake, sequence=SequencePaths(("m",))))
    rows.message(b'{"id":"3","m":1}')
    assert status.repeated == 1, "other numbers begin anew"
    assert len(outlet.published) == 3
