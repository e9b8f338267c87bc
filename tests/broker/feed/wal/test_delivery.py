"""Changes to publications: once over any number of connections, and what can't be published costs itself."""

from __future__ import annotations

import pytest
from support.feeds import Collector

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed import notices
from broker.feed.sql_publish import PREFIX
from broker.feed.status import FeedStatus
from broker.feed.wal.delivery import Delivery
from broker.feed.wal.relations import Table
from protocol.pgoutput import DELETE, EPOCH_UNIX_S, INSERT, Column, LogicalMessage, Relation, RowChange

EVENT = Table(Relation(1, "public", "event", "d", (Column("id", 20, key=True), Column("note", 25))), {})
ROUTE = Route("s", ("t/{id}",))


def delivery(*routes: Route, listen: tuple[str, ...] = ()) -> tuple[Delivery, Collector, FeedStatus]:
    source = Source("s", listen, tables=("public.event",))
    status, outlet = FeedStatus("main"), Collector()
    return (
        Delivery(FeedConfig("main", "", "wal", (source,), routes or (ROUTE,)), outlet, status),
        outlet,
        status,
    )


def insert(id: bytes, note: bytes = b"x") -> RowChange:
    return RowChange(INSERT, 1, [id, note])


def message(prefix: str, content: bytes, transactional: bool = True) -> LogicalMessage:
    return LogicalMessage(transactional, 0, prefix, content)


def test_a_transaction_that_comes_again_goes_on_where_it_was_cut() -> None:
    made, outlet, status = delivery()
    made.begin(100)
    made.change(EVENT, insert(b"1"), 0.0)
    made.progress.connected()
    for lsn, ids in ((100, (b"1", b"2")), (200, (b"3",))):
        made.begin(lsn)
        for id in ids:
            made.change(EVENT, insert(id), 0.0)
        made.commit(lsn + 1, 0)
    made.begin(100)
    made.change(EVENT, insert(b"1"), 0.0)
    made.commit(101, 0)
    assert outlet.topics() == [b"t/1", b"t/2", b"t/3"]
    assert (status.received, status.published, status.delivered) == (3, 3, 201)


def test_what_was_in_the_snapshot_is_not_published_again_by_routes_that_had_it() -> None:
    made, outlet, _ = delivery(Route("s", ("t/{id}",), snapshot="table"), Route("s", ("live/{id}",)))
    made.snapshot_lsn = 150
    for lsn in (100, 150, 200):
        made.begin(lsn)
        made.change(EVENT, insert(b"%d" % lsn), 0.0)
        made.commit(lsn + 1, 0)
    assert sorted(outlet.topics()) == [b"live/100", b"live/150", b"live/200", b"t/150", b"t/200"]


def test_a_route_gets_the_operations_that_it_wants() -> None:
    made, outlet, _ = delivery(Route("s", ("t/{$operation}/{id}",), operations=("delete",)))
    made.begin(100)
    made.change(EVENT, insert(b"1"), 0.0)
    made.change(EVENT, RowChange(DELETE, 1, None, ord("K"), [b"1", None]), 0.0)
    assert outlet.topics() == [b"t/delete/1"]


def test_text_that_is_no_utf8_costs_itself_where_the_server_does_not_look() -> None:
    made, outlet, status = delivery()
    made.checks_text = True
    made.begin(100)
    made.change(EVENT, insert(b"1", b"\xff"), 0.0)
    made.change(EVENT, insert(b"2", "ü".encode()), 0.0)
    assert (outlet.topics(), status.dropped) == ([b"t/2"], {"not_utf8": 1})


def test_each_row_says_where_it_is_if_a_route_wants_it() -> None:
    made, outlet, _ = delivery(Route("s", ("t/{id}",), body="envelope", position=True))
    made.begin(0x100)
    made.change(EVENT, insert(b"1"), 0.0)
    made.change(EVENT, insert(b"2"), 0.0)
    bodies = [body for _, body, *_ in outlet.published]
    assert [body.rpartition(b'"position":')[2] for body in bodies] == [b'"0/100/1"}', b'"0/100/2"}']


@pytest.mark.parametrize(
    ("sent", "topics"),
    [
        (message(PREFIX, b"\x01\x00\x00\x01apayload"), [b"a"]),
        (message(PREFIX, b"\x01\x00\x00\x01apayload", transactional=False), []),
        (message("somebody else's", b"\x01\x00\x00\x01apayload"), []),
        (message(notices.PREFIX, b'n\0{"id":"7"}'), [b"t/7"]),
        (message(notices.PREFIX, b'n\0{"id":"7"}', transactional=False), []),
    ],
)
def test_our_functions_messages_come_with_the_transaction(sent: LogicalMessage, topics: list[bytes]) -> None:
    made, outlet, status = delivery(listen=("n",))
    made.begin(100)
    made.message(sent, 0.0)
    assert outlet.topics() == topics
    assert status.published == len(topics)


def test_one_that_nothing_can_be_made_of_is_counted() -> None:
    made, outlet, status = delivery()
    made.begin(100)
    made.message(message(PREFIX, b"\x01\x00\x00\x01#payload"), 0.0)
    assert (outlet.published, status.received, status.dropped) == ([], 1, {"unpublishable": 1})


def test_a_notice_that_postgres_would_send_once_is_published_once_in_a_transaction() -> None:
    made, outlet, _ = delivery(listen=("n",))
    for lsn in (100, 200):
        made.begin(lsn)
        for _ in range(2):
            made.message(message(notices.PREFIX, b'n\0{"id":"7"}'), 0.0)
        made.commit(lsn + 1, 0)
    assert outlet.topics() == [b"t/7", b"t/7"]


def test_latency_is_from_commit_until_all_was_handed_to_the_kernel() -> None:
    made, _, status = delivery()
    for lsn, seconds in ((100, 1), (200, 2)):
        made.begin(lsn)
        made.commit(lsn + 1, seconds * 1_000_000)
    assert made.committed_unix_s == EPOCH_UNIX_S + 2
    made.sent(EPOCH_UNIX_S + 1.5)
    made.sent(EPOCH_UNIX_S + 9)
    assert status.latency.count() == 2
    assert status.latency.sum == pytest.approx(0.5), "a clock that is before the server's counts as 0"
