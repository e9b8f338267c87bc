"""Rows as the outbox's queries select them; the queries themselves are tried with a server in test_feed.py."""

from __future__ import annotations

from typing import Any

import pytest
from support.feeds import Collector

from broker.config.feeds import FeedConfig, Route, Source
from broker.core import barrier
from broker.core.added import Added
from broker.feed.notices import OPERATION
from broker.feed.outbox.delivery import OutboxDelivery
from broker.feed.status import FeedStatus

ROUTE = Route("s", ("t/{id}",))


def delivery(*routes: Route) -> tuple[OutboxDelivery, Collector, FeedStatus]:
    source = Source("s", ("n",), tables=("public.event",))
    status, outlet = FeedStatus("main"), Collector()
    config = FeedConfig("main", "", "outbox", (source,), routes or (ROUTE,))
    return OutboxDelivery(config, outlet, status), outlet, status


def changed(seq: int, id: int, note: bytes = b"x", operation: str = "insert") -> tuple[Any, ...]:
    body = b'{"id":%d,"note":"%b"}' % (id, note)
    return seq, id, "77", 0.0, b"public.event", operation, body, None, None, None, None, 1


def notified(seq: int, id: int, text: bytes) -> tuple[Any, ...]:
    return seq, id, "77", 0.0, b"n", OPERATION, text, None, None, None, None, 1


def called(topic: bytes, properties: bytes | None = None) -> tuple[Any, ...]:
    return 1, 1, "77", 0.0, None, "publish", properties, topic, b"payload", 1, True, 1


def test_a_row_of_a_snapshot_is_not_published_again_by_routes_that_had_it() -> None:
    made, outlet, status = delivery(Route("s", ("t/{id}",), snapshot="table"), Route("s", ("live/{id}",)))
    made.snapshot_seq = 7
    for seq in (6, 7, 8):
        made.take(changed(seq, seq), True, 0.0)
    assert sorted(outlet.topics()) == [b"live/6", b"live/7", b"live/8", b"t/8"]
    assert (status.received, status.published) == (3, 4)


def test_each_row_says_its_transaction_and_its_number() -> None:
    made, outlet, _ = delivery(Route("s", ("t/{id}",), body="envelope", position=True))
    made.take(changed(7, 12), True, 0.0)
    assert outlet.published[0][1].endswith(b'"position":"7/12"}')


def test_a_notification_comes_once_in_a_transaction() -> None:
    made, outlet, status = delivery()
    for seq, id, begins in ((1, 1, True), (1, 2, False), (2, 3, True)):
        made.take(notified(seq, id, b'{"id":5}'), begins, 0.0)
    assert outlet.topics() == [b"t/5", b"t/5"]
    assert status.received == 3


def test_text_that_is_no_utf8_costs_itself() -> None:
    made, outlet, status = delivery()
    made.take(changed(1, 1, b"\xff"), True, 0.0)
    made.take(notified(1, 2, b'{"id":2,"note":"\xff"}'), False, 0.0)
    made.take(changed(1, 3, "ü".encode()), False, 0.0)
    assert (outlet.topics(), status.dropped) == ([b"t/3"], {"not_utf8": 2})


@pytest.mark.parametrize(
    ("row", "added"),
    [
        (called(b"a"), [None]),
        (called(b"a", b'{"expiry": 5}'), [Added(b"", 5.0)]),
        (called(b"a/#"), []),
        (called(b"$SYS/a"), []),
        (called(b"a", b'{"expiry": -1}'), []),
    ],
    ids=["plain", "with properties", "a filter", "the broker's own", "no such expiry"],
)
def test_what_publish_wrote_is_published_if_anything_can_be(
    row: tuple[Any, ...], added: list[Added | None]
) -> None:
    made, outlet, status = delivery()
    made.take(row, True, 0.0)
    assert outlet.published == [(b"a", b"payload", 1, True)] * len(added)
    assert outlet.added == added
    assert status.dropped == ({} if added else {"unpublishable": 1})


def test_what_nobody_expected_of_a_row_costs_that_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "RERAISE", False)
    made, outlet, status = delivery()
    made.take((*changed(1, 1)[:5], "no such operation", None, None, None, None, None, 1), True, 0.0)
    made.take(changed(1, 2), False, 0.0)
    assert (outlet.topics(), status.dropped) == ([b"t/2"], {"unexpected": 1})
