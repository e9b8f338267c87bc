"""Rules are read again for very many clients: nobody waits for all of them, and nobody goes by the old rules meanwhile.

The work of a turn is counted, not timed: how many sessions somebody decided about in it.
"""

from __future__ import annotations

import pytest
from support.peer import Peer, connected

from broker.core.access import Access
from broker.core.engine import Engine, Policy
from broker.core.limits import STEPS_MAX
from broker.core.publication import Publication
from broker.core.review import LOOK_STEPS, Judge
from broker.core.session import DeliveryRules, Session
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connect, Puback, Publish, Subscribe, Will

MANY = 2_000
A_TURN = STEPS_MAX // LOOK_STEPS


class Nothing(Access):
    def may_read(self, topic: bytes) -> bool:
        return False

    def may_write(self, topic: bytes) -> bool:
        return False


class Rules(Judge):
    """Who is named may do nothing, or may not even stay; all others may do everything."""

    def __init__(self) -> None:
        super().__init__()
        self.shut_up: set[bytes] = set()
        self.shut_out: set[bytes] = set()
        self.asked: list[bytes] = []

    def decide(self, session: Session) -> bool:
        self.asked.append(session.client_id)
        is_out = session.link is not None and session.client_id in self.shut_out
        session.set_access(Nothing() if is_out or session.client_id in self.shut_up else None)
        return not is_out

    def dismiss(self, session: Session) -> None:
        assert session.link is not None
        session.link.will_wanted = False
        session.link.close("disconnected, not authorised.")


@pytest.fixture
def engine() -> Engine:
    engine = Engine(window=Window(inflight_messages=1))
    engine.review.judge = Rules()
    engine.slicing.on_waiting = lambda: None
    engine.trie.restrict(True)
    return engine


def rules_of(engine: Engine) -> Rules:
    rules = engine.review.judge
    assert isinstance(rules, Rules)
    return rules


def crowd(engine: Engine, count: int = MANY) -> None:
    """So many are here; whoever comes behind them is looked at last."""
    for number in range(count):
        engine.open_session(b"%d" % number, False)


def turns_left(engine: Engine) -> int:
    turns = 0
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
        turns += 1
    return turns


def test_a_reload_looks_at_some_sessions_in_a_turn_and_at_all_in_the_end(engine: Engine) -> None:
    crowd(engine)
    rules = rules_of(engine)
    engine.reconsider()
    asked = [len(rules.asked)]
    while engine.slicing.waits():
        before = len(rules.asked)
        engine.slicing.turn()
        asked.append(len(rules.asked) - before)
    assert max(asked) <= A_TURN
    assert rules.asked == list(engine.sessions)
    assert not engine.books.asks_all


def test_another_reload_in_between_begins_anew(engine: Engine) -> None:
    crowd(engine)
    engine.reconsider()
    engine.reconsider()
    turns_left(engine)
    assert {session.edition for session in engine.sessions.values()} == {engine.review.edition}


def test_what_a_client_sends_before_its_turn_is_judged_by_the_new_rules(engine: Engine) -> None:
    crowd(engine)
    reader, writer = connected(engine, b"reader"), connected(engine, b"writer")
    reader.send(Subscribe(1, ((b"t", 0),)))
    reader.read()
    rules_of(engine).shut_up = {b"writer"}
    engine.reconsider()
    assert b"writer" not in rules_of(engine).asked
    for qos in (0, 1):
        writer.send(Publish(b"t", b"x", qos, packet_id=qos))
    assert reader.read() == []
    turns_left(engine)
    assert rules_of(engine).asked.count(b"writer") == 1


def test_what_comes_for_a_client_before_its_turn_is_judged_by_the_new_rules(engine: Engine) -> None:
    crowd(engine)
    reader, writer = connected(engine, b"reader"), connected(engine, b"writer")
    reader.send(Subscribe(1, ((b"t", 1),)))
    writer.send(Publish(b"t", b"known", 1, packet_id=1))
    assert [packet.payload for packet in reader.read() if isinstance(packet, Publish)] == [b"known"]
    writer.send(Publish(b"t", b"queued", 1, packet_id=2))
    rules_of(engine).shut_up = {b"reader"}
    engine.reconsider()
    writer.send(Publish(b"t", b"x", 0))
    reader.send(Puback(1))
    assert reader.read() == []


def test_what_was_queued_is_asked_about_though_its_client_has_not_said_anything(engine: Engine) -> None:
    crowd(engine)
    reader = connected(engine, b"reader")
    reader.send(Subscribe(1, ((b"t", 1),)))
    for number in (1, 2):
        engine.publish(Publication(b"t", b"%d" % number, 1))
    engine.flush()
    assert len(reader.read()) == 2  # SUBACK, and the first of both
    rules_of(engine).shut_up = {b"reader"}
    engine.reconsider()
    engine.sessions[b"reader"].outbound.puback(1)
    engine.flush()
    assert reader.read() == []


def test_a_client_that_may_not_stay_is_closed_before_it_does_anything(engine: Engine) -> None:
    crowd(engine)
    reader = connected(engine, b"reader")
    reader.send(Subscribe(1, ((b"#", 0),)))
    reader.read()
    writer = connected(engine, b"writer", will=Will(b"will", b"", 0, False))
    rules_of(engine).shut_out = {b"writer"}
    engine.reconsider()
    assert not writer.closed
    writer.send(Publish(b"t", b"x", 1, packet_id=1))
    assert writer.closed
    assert writer.read() == []
    assert reader.read() == []


def test_many_that_may_not_stay_are_closed_some_in_each_turn(engine: Engine) -> None:
    peers: list[Peer] = [connected(engine, b"%d" % number, clean=False) for number in range(MANY // 4)]
    rules_of(engine).shut_out = {b"%d" % number for number in range(MANY)}
    engine.reconsider()
    closed = [sum(peer.closed for peer in peers)]
    while engine.slicing.waits():
        engine.slicing.turn()
        closed.append(sum(peer.closed for peer in peers))
    assert max(after - before for before, after in zip([0, *closed], closed, strict=False)) <= STEPS_MAX // 16
    assert closed[-1] == len(peers)
    assert {session.edition for session in engine.sessions.values()} == {engine.review.edition}


def test_who_comes_back_meanwhile_is_known_by_the_new_rules(engine: Engine) -> None:
    crowd(engine)
    away = connected(engine, b"away", clean=False)
    away.send(Subscribe(1, ((b"t", 1),)))
    away.drop()
    engine.publish(Publication(b"t", b"x", 1))
    rules_of(engine).shut_up = {b"away"}
    engine.reconsider()
    back = Peer(engine)
    back.send(Connect(b"away", False, 0))
    assert engine.sessions[b"away"].edition == engine.review.edition
    asked = len(rules_of(engine).asked)
    turns_left(engine)
    assert b"away" not in rules_of(engine).asked[asked:]


def test_other_rules_of_queueing_are_settled_by_slices(engine: Engine) -> None:
    crowd(engine)
    for number in range(MANY):
        session = engine.sessions[b"%d" % number]
        for topic in range(40):
            engine.subscribe_session(session, b"t/%d" % topic, 0)
    was_plain = {session: session.plain for session in engine.sessions.values()}

    def settled() -> int:
        return sum(40 * (session.plain != plain) for session, plain in was_plain.items())

    engine.adopt(Policy(), Window(), DeliveryRules(queue_qos0=True))
    counts = [settled()]
    while engine.slicing.waits():
        engine.slicing.turn()
        counts.append(settled())
    assert counts[-1] == MANY * 40
    assert (
        max(after - before for before, after in zip([0, *counts], counts, strict=False))
        <= 4 * STEPS_MAX + 160
    )
