"""A turn sets the clock, tells who listens that a batch has ended, and sends, in that order, once."""

from __future__ import annotations

import pytest
from support.peer import subscribed

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.turn import NEVER


def test_nested_turns_are_one() -> None:
    engine = Engine()
    heard: list[str] = []
    times = iter((1.0, 2.0))
    engine.turn.clock = lambda: next(times)
    engine.turn.on_batch_end(lambda: heard.append("batch"))
    engine.turn.on_settled(lambda: heard.append("settled"))
    with engine.turn:
        with engine.turn:
            assert engine.now == 1.0
        assert heard == []
    assert heard == ["batch", "settled"]
    with engine.turn:
        assert engine.now == 2.0


def test_a_turn_that_is_wanted_is_wanted_once() -> None:
    engine = Engine()
    times = iter((1.0, 3.0))
    engine.turn.clock = lambda: next(times)
    engine.turn.due = 2.0
    with engine.turn:
        assert engine.turn.due == 2.0
    with engine.turn:
        assert engine.turn.due == NEVER


def test_what_is_published_at_the_end_of_a_batch_leaves_with_it() -> None:
    engine = Engine()
    peer = subscribed(engine, (b"sum", 0))
    total = [0]

    def publish_total() -> None:
        if total[0]:
            engine.publish(Publication(b"sum", b"%d" % total[0]))
            total[0] = 0

    engine.turn.on_batch_end(publish_total)
    with engine.turn:
        total[0] += 2
        total[0] += 3
        assert peer.read_bytes() == b""
    assert [packet.payload for packet in peer.read()] == [b"5"]  # type: ignore[union-attr]


def test_an_exception_ends_the_turn_and_what_was_owed_leaves() -> None:
    engine = Engine()
    sent: list[bytes] = []

    def send(data: bytes) -> int:
        sent.append(data)
        return len(data)

    outbox = Outbox(engine.round, 1000, send)

    def fail() -> None:
        with engine.turn:
            outbox.push(b"owed")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sent == [b"owed"]
    with engine.turn:
        outbox.push(b"next")
    assert sent == [b"owed", b"next"]


def test_a_listener_that_is_forgotten_hears_no_more() -> None:
    engine = Engine()
    heard: list[str] = []

    def listener() -> None:
        heard.append("heard")

    engine.turn.on_batch_end(listener)
    engine.turn.forget(listener)
    with engine.turn:
        pass
    assert heard == []
