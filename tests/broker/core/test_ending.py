"""Sessions and delayed wills end when their time is over, neither sooner nor twice."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from support.peer import Peer, Publish, subscribed

from broker.core.engine import Engine
from broker.core.publication import Publication
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
    for engine.now, count in ((2.9, 0), (3.0, 1), (4.0, 0)):
        engine.expire()
        engine.flush()
        assert len(reader.read()) == count


def test_a_session_that_lasts_for_ever_can_be_given_an_end_and_the_other_way_round() -> None:
    engine = Engine()
    session = gone(engine, math.inf, 0)
    engine.endings.keep_for(session, 5.0)
    engine.endings.keep_for(session, math.inf)
    engine.now = 1000.0
    engine.expire()
    assert engine.sessions[b"x"] is session
    engine.endings.keep_for(session, 5.0)
    engine.expire()
    assert engine.sessions == {subscriber.client_id: subscriber for subscriber in engine.sessions.values()}
    assert b"x" not in engine.sessions
