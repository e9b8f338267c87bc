"""Who is owed very much gets it a little in each turn, in its order, whoever says something meanwhile."""

from __future__ import annotations

import random

import pytest
from support.peer import Peer, connected
from support.rule_files import parse_acl

from broker.core.engine import Engine
from broker.core.limits import STEPS_MAX
from broker.core.publication import Publication
from broker.core.session import DeliveryRules
from protocol.mqtt.outbound import AT_ONCE_MAX, Window
from protocol.mqtt.packets import Connect, Puback, Publish, Subscribe

MANY = 1_500
A_TURN = AT_ONCE_MAX + STEPS_MAX


def paced(inflight: int = 0, rules: DeliveryRules | None = None) -> Engine:
    """An engine without a limit of queues, whose work is done by turns."""
    engine = Engine(window=Window(inflight_messages=inflight, queued_messages=0, queued_bytes=0), rules=rules)
    engine.slicing.on_waiting = lambda: None
    return engine


def away(engine: Engine, count: int, qos: int = 1) -> None:
    peer = connected(engine, b"away", clean=False)
    peer.send(Subscribe(1, ((b"#", qos),)))
    peer.drop()
    for number in range(count):
        engine.publish(Publication(b"t/%d" % number, b"%d" % number, qos))


def back(engine: Engine) -> Peer:
    peer = Peer(engine)
    peer.send(Connect(b"away", False, 0))
    return peer


def numbers(peer: Peer) -> list[int]:
    return [int(packet.payload) for packet in peer.read() if isinstance(packet, Publish)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_queue_leaves_by_slices(qos: int) -> None:
    engine = paced(rules=DeliveryRules(queue_qos0=True))
    away(engine, MANY, qos)
    peer = back(engine)
    came = [numbers(peer)]
    engine.publish(Publication(b"t/live", b"%d" % MANY, qos))
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
        came.append(numbers(peer))
    assert len(came) > 4
    assert max(len(some) for some in came) <= A_TURN
    assert [number for some in came for number in some] == list(range(MANY + 1))


def test_what_is_sent_again_leaves_by_slices() -> None:
    engine = paced()
    away(engine, MANY)
    peer = back(engine)
    while engine.slicing.waits():
        engine.slicing.turn()
    engine.flush()
    assert numbers(peer) == list(range(MANY))
    peer.drop()
    peer = back(engine)
    first = numbers(peer)
    assert 0 < len(first) <= A_TURN
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
    assert first + numbers(peer) == list(range(MANY))


def test_what_may_not_be_read_any_more_is_passed_over_by_slices() -> None:
    engine = paced(20)
    away(engine, MANY)
    session = engine.sessions[b"away"]
    session.set_access(parse_acl(b"topic read t/%d\n" % (MANY - 1), "acl").access(None, b"away"))
    peer = Peer(engine)
    engine.attach(session, peer.link, peer.outbox)
    peer.link.connected(session)
    engine.flush()
    left = MANY
    while engine.slicing.waits():
        assert left - session.outbound.queued_count() <= A_TURN
        left = session.outbound.queued_count()
        engine.slicing.turn()
        engine.flush()
    assert numbers(peer) == [MANY - 1]
    assert engine.counters.dropped_acl == MANY - 1


def test_the_messages_of_a_session_that_ends_go_by_slices() -> None:
    engine = paced()
    away(engine, MANY)
    engine.end_session(engine.sessions[b"away"])
    turns = 0
    while engine.slicing.waits():
        engine.slicing.turn()
        turns += 1
    assert turns > 0
    assert engine.books.store.count == 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_in_between_nothing_is_lost_or_overtaken(seed: int) -> None:
    chance = random.Random(seed)
    engine = paced(chance.choice((0, 5, 700)))
    away(engine, 700)
    said = 700
    peer = back(engine)
    came: list[int] = []
    for _ in range(60):
        kind = chance.choice(("publish", "turn", "acknowledge", "acknowledge", "return"))
        if kind == "publish":
            engine.publish(Publication(b"t/x", b"%d" % said, 1))
            said += 1
            engine.flush()
        elif kind == "turn":
            engine.slicing.turn()
            engine.flush()
        elif kind == "return" and chance.random() < 0.2:
            peer.drop()
            peer = back(engine)
        else:
            came += _take(peer)
    while some := _take(peer) or engine.slicing.waits():
        came += some if isinstance(some, list) else []
        engine.slicing.turn()
        engine.flush()
    assert list(dict.fromkeys(came)) == list(range(said))


def _take(peer: Peer) -> list[int]:
    packets = [packet for packet in peer.read() if isinstance(packet, Publish)]
    peer.send(*[Puback(packet.packet_id) for packet in packets])
    return [int(packet.payload) for packet in packets]
