"""Who asks for much at once has it done by slices: others are served in between, and nothing is lost or reordered."""

from __future__ import annotations

import pytest
from support.peer import Peer, connected
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.core.limits import PLAIN_SUBSCRIPTIONS_MAX, STEPS_MAX
from broker.links.mqtt.requests import FILTER_STEPS
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

MANY = 5_000
FILTERS = tuple((b"f/%d/+" % number, 0) for number in range(MANY))


class Pacer:
    """Stands for the server's task: counts that it was asked for, and takes a turn when the test says so."""

    def __init__(self, engine: Engine) -> None:
        self.asked = 0
        self.engine = engine
        engine.slicing.on_waiting = self._asked

    def _asked(self) -> None:
        self.asked += 1

    def turn(self) -> None:
        self.engine.slicing.turn()
        self.engine.flush()

    def finish(self) -> int:
        turns = 0
        while self.engine.slicing.waits():
            self.turn()
            turns += 1
            assert turns < 1000, "it never ends"
        return turns


def test_others_are_served_between_two_slices_of_a_subscribe() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    greedy, other = connected(engine, b"greedy"), connected(engine, b"other")
    greedy.send(Subscribe(1, FILTERS), Publish(b"f/7/x", b"after"))
    assert (pacer.asked, greedy.outbox.holds_reading, greedy.read()) == (1, True, [])
    grown = []
    while engine.slicing.waits():
        before = engine.trie.count
        other.send(Pingreq())
        assert other.read() == [Pingresp()]
        pacer.turn()
        grown.append(engine.trie.count - before)
    assert max(grown) <= STEPS_MAX // FILTER_STEPS + 1
    assert greedy.read() == [Suback(1, (0,) * MANY), Publish(b"f/7/x", b"after")]
    assert not greedy.outbox.holds_reading


def test_the_same_for_5_0_and_for_unsubscribe() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer = connected5(engine)
    peer.send(Subscribe(1, FILTERS), Unsubscribe(2, tuple(name for name, _ in FILTERS)))
    assert pacer.finish() > 2 * MANY * FILTER_STEPS // STEPS_MAX - 5
    first, second = peer.read()
    assert isinstance(first, Suback)
    assert isinstance(second, Unsuback)
    assert (len(first.return_codes), set(second.return_codes), engine.trie.count) == (MANY, {0}, 0)


@pytest.mark.parametrize("packet", [Pingreq(), Publish(b"t", b"", 1, packet_id=7)])
def test_small_packets_are_answered_a_thousand_at_a_time(packet: Pingreq | Publish) -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer = connected(engine)
    peer.write(encode(packet) * MANY)
    answers = [len(peer.read())]
    while engine.slicing.waits():
        pacer.turn()
        answers.append(len(peer.read()))
    assert max(answers) <= STEPS_MAX
    assert sum(answers) == MANY


def test_sessions_take_turns_and_one_that_asks_little_is_not_delayed() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    greedy = [connected(engine, b"greedy%d" % number) for number in range(5)]
    modest = connected(engine, b"modest")
    for peer in greedy:
        peer.link.received(encode(Subscribe(1, FILTERS)))
    modest.send(Subscribe(1, ((b"m", 0),)))
    assert modest.read() == [Suback(1, (0,))]
    for _ in range(10):
        pacer.turn()
    sizes = [len(engine.sessions[b"greedy%d" % number].subscriptions) for number in range(5)]
    assert max(sizes) - min(sizes) <= 3 * STEPS_MAX // FILTER_STEPS
    pacer.finish()


def test_what_came_before_the_end_counts() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    witness = connected(engine, b"witness")
    witness.send(Subscribe(1, ((b"w/#", 0),)))
    witness.read()
    peer = Peer(engine)
    peer.send(Connect(b"greedy", True, 0, will=Will(b"w/will", b"gone", 0, False)))
    peer.send(Subscribe(1, FILTERS), Publish(b"w/last", b"word"))
    peer.link.lost()
    assert (witness.read(), peer.closed) == ([], False)
    pacer.finish()
    assert witness.read() == [Publish(b"w/last", b"word"), Publish(b"w/will", b"gone")]
    assert (peer.closed, engine.trie.count) == (True, 1)


def test_bytes_that_come_meanwhile_are_in_order() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer = connected(engine)
    peer.send(Subscribe(1, ((b"t", 0),)), Subscribe(2, FILTERS))
    packet = encode(Publish(b"t", b"one"))
    peer.write(packet[:3])
    peer.write(packet[3:])
    pacer.finish()
    assert peer.read()[-1] == Publish(b"t", b"one")


def test_a_takeover_waits_for_what_was_asked_before() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    watcher, old = connected(engine), connected(engine, b"x")
    watcher.send(Subscribe(1, ((b"last", 0),)))
    watcher.read()
    old.send(Subscribe(1, FILTERS), Publish(b"last", b"one"))
    new = Peer(engine)
    new.send(Connect(b"x", True, 60), Subscribe(1, ((b"#", 0),)))
    assert (old.closed, new.read()) == (False, [])
    pacer.finish()
    assert old.closed
    assert watcher.read() == [Publish(b"last", b"one")]
    assert new.read() == [Connack(False, 0), Suback(1, (0,))]
    assert engine.trie.count == 2


def test_a_bad_filter_in_the_middle_closes() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer = connected(engine)
    peer.send(Subscribe(1, (*FILTERS[:-1], (b"$share/g", 0))))
    pacer.finish()
    assert (peer.closed, peer.read(), engine.trie.count) == (True, [], 0)


def test_a_session_with_many_subscriptions_ends_by_slices() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer, publisher = connected(engine, b"x"), connected(engine, b"publisher")
    peer.send(Subscribe(1, (*FILTERS[:-1], (b"$share/g/f/s", 1))))
    member = connected(engine, b"member")
    member.send(Subscribe(1, ((b"$share/g/f/s", 1),)))
    pacer.finish()
    member.read()
    peer.drop()
    assert engine.trie.count > MANY - 2 * STEPS_MAX, "it isn't done at once"
    for number in range(MANY):
        publisher.send(Publish(b"f/%d/x" % number, b""))
    for packet_id in (1, 2):
        publisher.send(Publish(b"f/s", b"", 1, packet_id=packet_id))
    assert len(member.read()) == 2, "who has ended has no turn"
    again = connected(engine, b"x")
    again.send(Subscribe(1, ((b"f/7/+", 0),)))
    pacer.finish()
    publisher.send(Publish(b"f/7/x", b"once"))
    assert again.read() == [Suback(1, (0,)), Publish(b"f/7/x", b"once")]
    assert engine.trie.count == 2
    assert engine.counters.dropped_queue_full == 0


def test_many_subscriptions_are_not_gone_through_for_each_replay() -> None:
    engine = Engine()
    peer, publisher = connected(engine, b"x"), connected(engine, b"publisher")
    session = engine.sessions[b"x"]
    names = tuple((b"n/%d" % number, 0) for number in range(PLAIN_SUBSCRIPTIONS_MAX + 1))
    peer.send(Subscribe(1, names[:-1]))
    assert session.plain
    peer.send(Subscribe(2, names[-1:]))
    assert not session.plain
    peer.read()
    publisher.write(encode(Publish(b"n/0", b"")) + encode(Publish(b"n/%d" % PLAIN_SUBSCRIPTIONS_MAX, b"")))
    assert len(peer.read()) == 2
    assert peer.closed is False


def test_connect_and_what_came_with_it() -> None:
    engine = Engine()
    pacer = Pacer(engine)
    peer = Peer(engine)
    peer.send(Connect(b"x", True, 0), Subscribe(1, FILTERS), Pingreq())
    pacer.finish()
    assert peer.read() == [Connack(False, 0), Suback(1, (0,) * MANY), Pingresp()]
