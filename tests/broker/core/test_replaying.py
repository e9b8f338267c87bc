"""Retained messages for many subscribers at once: how much of it one turn does, in which order, and what it holds."""

from __future__ import annotations

import pytest

from broker.core.engine import Engine
from broker.core.limits import REPLAY_STEPS_MAX
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.replaying import MESSAGE_STEPS, SLICE_STEPS
from broker.core.session import Link, Session


class NoLink(Link):
    def close(self, why: str) -> None:
        raise AssertionError(why)


class Reader:
    """A session whose peer takes everything."""

    def __init__(self, engine: Engine, client_id: bytes) -> None:
        self.session: Session = engine.open_session(client_id, True)[0]
        self.taken = b""
        outbox = Outbox(engine.round, 16 << 20, self.send)
        outbox.on_drained = lambda: engine.replaying.go_on(self.session)
        engine.attach(self.session, NoLink(), outbox)
        outbox.on_drained = lambda: engine.replaying.go_on(self.session)
        self.outbox = outbox

    def send(self, data: bytes) -> int:
        self.taken += data
        return len(data)

    def count(self) -> int:
        return self.taken.count(b"payload")


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    for number in range(2000):
        engine.publish(Publication(b"t/%d" % number, b"payload", retain=True))
    engine.replaying.on_waiting = lambda: None
    return engine


def subscribe(engine: Engine, reader: Reader, topic_filter: bytes) -> None:
    engine.subscribe_session(reader.session, topic_filter, 0)
    engine.replay(reader.session, topic_filter, 0)


def turns(engine: Engine) -> int:
    count = 0
    while engine.replaying.waits():
        engine.replaying.turn()
        engine.flush()
        count += 1
        assert count < 10_000
    return count


def test_one_turn_sends_so_much_and_the_rest_follows_in_order(engine: Engine) -> None:
    reader = Reader(engine, b"one")
    subscribe(engine, reader, b"#")
    engine.flush()
    assert 0 < reader.count() <= REPLAY_STEPS_MAX // MESSAGE_STEPS
    turns(engine)
    assert reader.count() == 2000
    assert reader.taken.index(b"t/7payload") < reader.taken.index(b"t/1999payload")
    assert reader.session.replays is None


def test_a_thousand_filters_in_one_turn_are_paced_together(engine: Engine) -> None:
    reader = Reader(engine, b"one")
    before = reader.session.counters.publishes_sent
    for number in range(1000):
        subscribe(engine, reader, b"t/+" if number % 2 else b"#")
        subscribe(engine, reader, b"+/%d" % number)
    assert reader.session.counters.publishes_sent - before <= REPLAY_STEPS_MAX
    replays = reader.session.replays
    assert replays is not None
    assert len(replays) <= 1002, "one for each filter, however often it is asked"
    engine.flush()
    turns(engine)
    # What had gone out before a filter was asked with again goes out again.
    assert 5000 <= reader.count() <= 5000 + REPLAY_STEPS_MAX // MESSAGE_STEPS


def test_sessions_take_turns(engine: Engine) -> None:
    readers = [Reader(engine, b"%d" % number) for number in range(8)]
    for reader in readers:
        subscribe(engine, reader, b"#")
    engine.flush()
    for _ in range(4):
        engine.replaying.turn()
        engine.flush()
    counts = [reader.count() for reader in readers]
    assert max(counts) - min(counts) <= (REPLAY_STEPS_MAX + SLICE_STEPS) // MESSAGE_STEPS
    turns(engine)
    assert [reader.count() for reader in readers] == [2000] * 8


def test_what_is_replaced_meanwhile_goes_before_what_replaces_it_and_once(engine: Engine) -> None:
    """As to Mosquitto's client, which has the retained messages in its queue when it is told that it subscribed."""
    reader = Reader(engine, b"one")
    subscribe(engine, reader, b"#")
    for payload in (b"news", b"more"):
        engine.publish(Publication(b"t/1999", payload, retain=True))
    engine.publish(Publication(b"t/1998", b"", retain=True))
    engine.flush()
    turns(engine)
    assert reader.taken.count(b"t/1999") == 3
    assert reader.taken.index(b"t/1999payload") < reader.taken.index(b"t/1999news")
    assert reader.taken.count(b"t/1998") == 2
    assert reader.count() == 2000


def test_who_unsubscribes_gets_no_more(engine: Engine) -> None:
    reader = Reader(engine, b"one")
    subscribe(engine, reader, b"#")
    engine.flush()
    before = reader.count()
    engine.unsubscribe(reader.session, b"#")
    turns(engine)
    assert reader.count() == before


def test_who_leaves_is_forgotten(engine: Engine) -> None:
    reader = Reader(engine, b"one")
    subscribe(engine, reader, b"#")
    engine.detach(reader.session, False)
    assert turns(engine) == 1
