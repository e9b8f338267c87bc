"""A subscriber in the process: told when there is something, and never more than its queue."""

from __future__ import annotations

from broker.core.counters import Counters
from broker.core.limits import LOCAL_QUEUE_MESSAGES_MAX
from broker.core.local import LocalSubscriber
from broker.core.publication import Publication


def test_it_is_told_once_until_it_has_taken_everything() -> None:
    told: list[None] = []
    subscriber = LocalSubscriber(Counters(), lambda: told.append(None))
    for payload in (b"0", b"1"):
        subscriber.deliver(Publication(b"t", payload), 0, False)
    assert len(told) == 1
    taken = [subscriber.take(), subscriber.take(), subscriber.take()]
    assert [None if one is None else one.payload for one in taken] == [b"0", b"1", None]
    subscriber.deliver(Publication(b"t", b"2"), 0, False)
    assert len(told) == 2


def test_a_slow_reader_loses_the_oldest_and_can_tell_how_many() -> None:
    counters = Counters()
    subscriber = LocalSubscriber(counters, lambda: None)
    for number in range(LOCAL_QUEUE_MESSAGES_MAX + 3):
        subscriber.deliver(Publication(b"t", b"%d" % number), 0, False)
    first = subscriber.take()
    assert first is not None
    assert (first.payload, subscriber.dropped, counters.dropped_queue_full) == (b"3", 3, 3)
