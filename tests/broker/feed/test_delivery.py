"""What the kinds share that keep their place; that they number and repeat differently is tested with each of them."""

from __future__ import annotations

from support.feeds import Collector

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.delivery import RowDelivery
from broker.feed.routing.routes import Outgoing
from broker.feed.sql_publish import Unpublishable
from broker.feed.status import FeedStatus


def delivery(*routes: Route) -> tuple[RowDelivery, Collector, FeedStatus]:
    source = Source("s", ("n",), tables=("public.event",))
    status, outlet = FeedStatus("main"), Collector()
    config = FeedConfig("main", "", "outbox", (source,), routes or (Route("s", ("t/{id}",)),))
    return RowDelivery(config, outlet, status), outlet, status


def test_each_message_that_a_row_becomes_is_counted() -> None:
    made, outlet, status = delivery(
        Route("s", ("t/{id}", "u/{id}")), Route("s", ("v/{id}",), snapshot="table")
    )
    made.row("public.event", "insert", b'{"id":1}', 0.0, False)
    made.row("public.event", "insert", b'{"id":2}', 0.0, in_snapshot=True)
    made.row("public.other", "insert", b'{"id":3}', 0.0, False)
    assert sorted(outlet.topics()) == [b"t/1", b"t/2", b"u/1", b"u/2", b"v/1"]
    assert status.published == 5


def test_text_that_is_no_utf8_costs_itself_only_where_the_server_does_not_look() -> None:
    made, outlet, status = delivery()
    made.checks_text = True
    made.row("public.event", "insert", b'{"id":1,"note":"\xff"}', 0.0, False)
    made.notice(b"n", b'{"id":2,"note":"\xff"}', 0.0, b"")
    made.row("public.event", "insert", '{"id":3,"note":"ü"}'.encode(), 0.0, False)
    made.notice(b"n", b'{"id":4}', 0.0, b"")
    assert (outlet.topics(), status.dropped) == ([b"t/3", b"t/4"], {"not_utf8": 2})


def test_a_notification_is_repeated_within_its_transaction_only() -> None:
    made, _, _ = delivery()
    said = [(b"n", b"a"), (b"n", b"a"), (b"n", b"b"), (b"m", b"a")]
    assert [made.is_repeated(*one) for one in said] == [False, True, False, False]
    made.begin_transaction()
    assert not made.is_repeated(b"n", b"a")


def test_a_call_is_published_as_it_is_read_and_one_that_cannot_be_is_dropped_by_name() -> None:
    made, outlet, status = delivery()

    def unpublishable() -> Outgoing:
        raise Unpublishable("not so")

    made.call(lambda: (b"a", b"1", 1, True), 0.0)
    made.call(unpublishable, 0.0)
    assert outlet.published == [(b"a", b"1", 1, True)]
    assert (status.published, status.dropped) == (1, {"unpublishable": 1})
