"""Sessions and delayed wills end when their time is over, neither sooner nor twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peer import Peer, Publish, subscribed

from broker.core.ending import EXPIRE_STEPS
from broker.core.engine import Engine, Policy
from broker.core.limits import STEPS_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session


def gone(engine: Engine, expiry_s: float, delay_s: int) -> Session:
    """A client with a will that left without goodbye at the engine's time."""
    session, _ = engine.open_session(b"x", False)
    engine.identify(session, None, None)
    peer = Peer(engine)
    engine.attach(session, peer.link, peer.outbox)
    engine.endings.keep_for(session, expiry_s)
    session.will = Publication(b"will", b"gone")
    session.will_delay_s = delay_s
    engine.detach(session, send_will=True)
    return session


@given(st.integers(0, 20), st.integers(0, 20), st.lists(st.integers(1, 9), max_size=8))
def test_a_will_comes_after_its_delay_or_with_the_end_of_its_session(
    expiry_s: int, delay_s: int, steps: list[int]
) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"will", 0))
    gone(engine, float(expiry_s), delay_s)
    wills = 0
    for step in [0, *steps]:
        engine.now += step
        engine.expire()
        engine.flush()
        wills += sum(isinstance(packet, Publish) for packet in reader.read())
        assert wills == int(engine.now >= min(expiry_s, delay_s))
        assert (b"x" in engine.sessions) is (engine.now < expiry_s)


def test_whoever_is_back_in_time_has_no_will_any_more() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"will", 0))
    session = gone(engine, math.inf, 10)
    engine.now = 9.0
    engine.endings.cancel_will(session)
    engine.now = 100.0
    engine.expire()
    engine.flush()
    assert reader.read() == []
    assert session.will is None


def test_a_will_that_waited_over_a_restart_comes_at_its_time() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"will", 0))
    session, _ = engine.open_session(b"x", False)
    engine.identify(session, None, None)
    engine.endings.restore_will(session, Publication(b"will", b"gone"), 3.0)
    engine.endings.left(session)
    for engine.now, count in ((2.9, 0), (3.0, 1), (4.0, 0)):
        engine.expire()
        engine.flush()
        assert len(reader.read()) == count


def test_a_session_that_lasts_for_ever_can_be_given_an_end_and_the_other_way_round() -> None:
    engine = Engine()
    session = gone(engine, math.inf, 0)
    engine.endings.keep_for(session, 5.0)
    engine.endings.left(session)
    engine.endings.keep_for(session, math.inf)
    engine.endings.left(session)
    engine.now = 1000.0
    engine.expire()
    assert engine.sessions[b"x"] is session
    engine.endings.keep_for(session, 5.0)
    engine.endings.left(session)
    engine.expire()
    assert engine.sessions == {subscriber.client_id: subscriber for subscriber in engine.sessions.values()}
    assert b"x" not in engine.sessions


MANY = 1_000


def paced() -> Engine:
    """An engine whose work is done by turns; its clock is late enough for all that lasts ten seconds."""
    engine = Engine()
    engine.slicing.on_waiting = lambda: None
    return engine


def away(engine: Engine, number: int) -> None:
    session, _ = engine.open_session(b"%d" % number, False)
    engine.identify(session, None, None)
    engine.subscribe_session(session, b"t/%d" % number, 1)
    engine.endings.keep_for(session, 10.0)
    session.will_delay_s = 10
    engine.endings.delay_will(session, Publication(b"will/%d" % number, b"gone"))
    engine.endings.left(session)


def test_very_many_sessions_and_their_wills_end_a_few_in_each_turn() -> None:
    engine = paced()
    reader = subscribed(engine, (b"will/#", 0))
    for number in range(MANY):
        away(engine, number)
    engine.now = 10.0
    engine.expire()
    engine.expire()  # what is under way does not begin anew
    wills = turns = 0
    left = MANY + 1
    while engine.slicing.waits():
        engine.flush()
        assert left - len(engine.sessions) <= STEPS_MAX // EXPIRE_STEPS + 1
        left = len(engine.sessions)
        wills += len(reader.read())
        engine.slicing.turn()
        turns += 1
    engine.flush()
    assert wills + len(reader.read()) == MANY
    assert turns > MANY * EXPIRE_STEPS // STEPS_MAX
    assert (len(engine.sessions), engine.trie.count) == (1, 1)
    assert engine.counters.sessions_expired == MANY


def test_who_comes_back_before_its_turn_has_come_keeps_its_session() -> None:
    engine = paced()
    reader = subscribed(engine, (b"will/#", 0))
    for number in range(MANY):
        away(engine, number)
    engine.now = 10.0
    engine.expire()
    back = [session for session in engine.sessions.values() if session.link is None]
    assert len(back) > MANY // 2
    for session in back:
        engine.endings.cancel_will(session)
        peer = Peer(engine)
        engine.attach(session, peer.link, peer.outbox)
    engine.flush()
    reader.read()
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
    assert reader.read() == []
    assert [session for session in engine.sessions.values() if session.client_id != reader_id(reader)] == back


def reader_id(reader: Peer) -> bytes:
    assert reader.link.session is not None
    return reader.link.session.client_id


def test_very_many_retained_messages_expire_a_few_in_each_turn() -> None:
    engine = paced()
    for number in range(MANY):
        one = Publication(b"r/%d" % number, b"x", 0, True)
        one.expires_at = 5.0
        engine.publish(one)
    engine.now = 10.0
    left = MANY
    engine.expire()
    while engine.slicing.waits():
        assert 0 < left - len(engine.retained) <= STEPS_MAX // EXPIRE_STEPS + 1
        left = len(engine.retained)
        engine.slicing.turn()
    assert len(engine.retained) == 0


def test_another_limit_holds_for_those_who_are_away_already() -> None:
    engine = paced()
    for number in range(MANY):
        session, _ = engine.open_session(b"%d" % number, False)
        engine.endings.left(session)
    engine.adopt(Policy(persistent_client_expiration_s=5.0), engine.window, engine.rules)
    engine.now = 6.0
    while engine.slicing.waits():
        engine.slicing.turn()
    engine.expire()
    while engine.slicing.waits():
        engine.slicing.turn()
    assert engine.sessions == {}


class Broken(Receiver):
    """Has a bug."""

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise ArithmeticError


def test_a_bug_that_a_will_meets_costs_the_will_and_its_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    engine = Engine()
    engine.subscribe(Broken(plain=False), b"will", 0)
    gone(engine, 5.0, 3)
    engine.now = 3.0
    engine.expire()
    assert engine.counters.link_bugs == 1
    engine.now = 5.0
    engine.expire()
    assert engine.sessions == {}


def test_whatever_is_met_what_is_due_besides_comes_with_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", True)
    engine = Engine()
    engine.subscribe(Broken(plain=False), b"will/1", 0)
    reader = subscribed(engine, (b"will/+", 0))
    for number in range(3):
        away(engine, number)
    engine.now = 10.0
    with pytest.raises(ArithmeticError):
        engine.expire()
    engine.expire()
    engine.flush()
    assert {packet.topic for packet in reader.read() if isinstance(packet, Publish)} >= {b"will/0", b"will/2"}
    assert {b"0", b"2"}.isdisjoint(engine.sessions)
