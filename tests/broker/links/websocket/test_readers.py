"""All readers that follow: they are told of a gap with the positions on both sides, and only while there are any."""

from __future__ import annotations

from typing import cast

import pytest

from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import RowcastLink

GAP = b"$SYS/feed/f/gap"


class Link:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.told: list[tuple[str, str, str]] = []

    def tell_gap(self, before: str, after: str, reason: str) -> None:
        self.told.append((before, after, reason))


def link_of(engine: Engine) -> tuple[Link, RowcastLink]:
    made = Link(engine)
    return made, cast("RowcastLink", made)


def readers_of(history: History) -> Readers:
    def unused(*_: object) -> None:
        raise AssertionError("nobody asked")

    return Readers(history, unused, unused, unused)


def gap(engine: Engine, payload: bytes = b'{"reason": "dropped"}', sequence: int = 0) -> None:
    publication = Publication(GAP, payload)
    publication.sequence = sequence
    engine.publish(publication)


def test_whoever_reads_is_told_and_whoever_left_is_not() -> None:
    engine = Engine()
    history = History(Positions("e", 7))
    readers = readers_of(history)
    (stays, staying), (leaves, leaving) = link_of(engine), link_of(engine)
    for link in (staying, leaving):
        readers.add(link)
    gap(engine)
    readers.remove(leaving)
    readers.remove(leaving)
    gap(engine)
    assert leaves.told == [("e/7", "e/8", "dropped")]
    assert stays.told == [("e/7", "e/8", "dropped"), ("e/8", "e/9", "dropped")]


def test_without_a_reader_and_a_history_nothing_is_subscribed_to() -> None:
    engine = Engine()
    readers = readers_of(History(Positions("e")))
    first, second = link_of(engine)[1], link_of(engine)[1]
    assert not engine.publish(Publication(GAP, b"{}"))
    for link in (first, second):
        readers.add(link)
        assert engine.publish(Publication(GAP, b"{}"))
    readers.remove(first)
    assert engine.publish(Publication(GAP, b"{}"))
    readers.remove(second)
    assert not engine.publish(Publication(GAP, b"{}"))


def test_where_there_is_a_history_it_has_subscribed_for_all() -> None:
    engine = Engine()
    positions = Positions("e")
    readers = readers_of(History(positions, [Ring(positions, b"#", 1000, 10, 60.0)]))
    one, link = link_of(engine)
    readers.add(link)
    assert not engine.publish(Publication(GAP, b"{}"))
    readers.deliver(Publication(GAP, b'{"reason": "dropped"}'), 0, False)
    assert one.told == [("e/0", "e/1", "dropped")]
    readers.remove(link)


def test_rings_forget_what_was_before_a_gap() -> None:
    positions = Positions("e")
    ring = Ring(positions, b"#", 1000, 10, 60.0)
    readers = readers_of(History(positions, [ring]))
    ring.deliver(Publication(b"row", b"1"), 0, False)
    readers.deliver(Publication(GAP, b'{"reason": "dropped"}'), 0, False)
    assert "rows may be missing: dropped" in ring.lost_why


def test_in_a_cluster_a_gap_has_the_place_that_the_log_gave_it() -> None:
    engine = Engine()
    history = History(Positions("e", 9))
    readers = readers_of(history)
    one, link = link_of(engine)
    readers.add(link)
    gap(engine, sequence=9)
    assert one.told == [("e/8", "e/9", "dropped")]
    assert history.positions.number == 9


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"{}", b"null", b'"reason"', pytest.param(b"[" * 100_000, id="deep")],
)
def test_what_says_no_reason_is_none(payload: bytes) -> None:
    engine = Engine()
    readers = readers_of(History(Positions("e", 7)))
    one, link = link_of(engine)
    readers.add(link)
    gap(engine, payload)
    assert one.told == []
    assert readers.history.positions.number == 7
