"""One message may be many deliveries: what a publisher sends to so many is handed on by turns."""

from __future__ import annotations

from itertools import product

import pytest
from support.peer import Peer, connected, subscribed

from broker.core.engine import Engine, Policy
from broker.core.limits import STEPS_MAX
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import DeliveryRules
from broker.core.targets import RECEIVERS_UNPACED_MAX
from protocol.mqtt.codec import encode
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Publish, Subscribe

GROUPS = 20_000
MESSAGES = 12
CONNECT_5 = b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x09publisher"


def of_version(engine: Engine, level: int) -> Peer:
    if level == 4:
        return connected(engine, b"publisher")
    peer = Peer(engine)
    peer.write(CONNECT_5)
    assert peer.read_bytes()[0] == 0x20
    return peer


def publishes(level: int, qos: int, begins: bytes = b"t", own: bytes = b"") -> bytes:
    """Messages to one topic, or each to one of its own."""
    data = b""
    for number in range(1, MESSAGES + 1):
        topic = begins + (own % number if own else b"")
        packet = encode(Publish(topic, b"%d" % number, qos, packet_id=number if qos else 0))
        if level == 5:
            at = 2 + 2 + len(topic) + (2 if qos else 0)
            packet = packet[:1] + bytes((packet[1] + 1,)) + packet[2:at] + b"\0" + packet[at:]
        data += packet
    return data


def with_groups(count: int) -> tuple[Engine, Peer]:
    engine = Engine()
    member = connected(engine, b"member")
    for start in range(0, count, 1_000):
        filters = tuple((b"$share/%d/t" % number, 0) for number in range(start, min(start + 1_000, count)))
        member.send(Subscribe(1, filters))
    member.read_bytes()
    engine.slicing.on_waiting = lambda: None
    return engine, member


def delivered(engine: Engine) -> int:
    return engine.counters.publishes_sent


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_messages_to_very_many_groups_take_turns(level: int, qos: int) -> None:
    engine, _ = with_groups(GROUPS)
    publisher = of_version(engine, level)
    publisher.write(publishes(level, qos))
    assert delivered(engine) == GROUPS, "others have their turns before the second message"
    turns = 1
    while engine.slicing.waits():
        before = delivered(engine)
        engine.slicing.turn()
        engine.flush()
        assert delivered(engine) - before <= GROUPS * 2
        turns += 1
    assert delivered(engine) == GROUPS * MESSAGES
    assert turns > MESSAGES // 2


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_as_many_as_is_common_take_none(level: int, qos: int) -> None:
    engine, _ = with_groups(RECEIVERS_UNPACED_MAX)
    publisher = of_version(engine, level)
    publisher.write(publishes(level, qos))
    assert delivered(engine) == RECEIVERS_UNPACED_MAX * MESSAGES
    assert not engine.slicing.waits()


@pytest.mark.parametrize("is_away", [True, False])
@pytest.mark.parametrize("level", [4, 5])
def test_messages_that_wait_for_many_take_turns(level: int, is_away: bool) -> None:
    """No send is saved by doing them together: their receivers are away, or have as many unanswered as they may."""
    engine = Engine(window=Window(inflight_messages=1, queued_messages=0, queued_bytes=0))
    for number in range(RECEIVERS_UNPACED_MAX):
        member = connected(engine, b"%d" % number, clean=False)
        member.send(Subscribe(1, ((b"t", 1),)))
        if is_away:
            member.drop()
    engine.slicing.on_waiting = lambda: None
    publisher = of_version(engine, level)
    publisher.write(publishes(level, 1) * 10)
    most = STEPS_MAX // (RECEIVERS_UNPACED_MAX >> 4) + 2
    waiting = engine.books.last_position // RECEIVERS_UNPACED_MAX
    assert waiting <= most
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
        before, waiting = waiting, engine.books.last_position // RECEIVERS_UNPACED_MAX
        assert waiting - before <= most + 2
    assert waiting == MESSAGES * 10 - (0 if is_away else 1)


def test_messages_at_qos_0_that_wait_for_many_take_turns() -> None:
    engine = Engine(rules=DeliveryRules(queue_qos0=True), window=Window(1, 0, 0, 0))
    many = 500
    for number in range(many):
        member = connected(engine, b"%d" % number, clean=False)
        member.send(Subscribe(1, ((b"t", 0),)))
        member.drop()
    engine.slicing.on_waiting = lambda: None
    publisher = connected(engine, b"publisher")
    publisher.write(publishes(4, 0) * 20)
    assert engine.books.last_position <= 2 * STEPS_MAX << 4
    while engine.slicing.waits():
        before = engine.books.last_position
        engine.slicing.turn()
        engine.flush()
        assert engine.books.last_position - before <= 2 * STEPS_MAX << 4
    assert engine.books.last_position == MESSAGES * 20 * many


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("duplicates", [False, True])
def test_those_who_take_packets_as_bytes_count_for_what_does_not_go_so(level: int, duplicates: bool) -> None:
    everything = Window(inflight_messages=0, queued_messages=0, queued_bytes=0)
    engine = Engine(Policy(allow_duplicate_messages=duplicates), window=everything)
    many = RECEIVERS_UNPACED_MAX + 1
    for number in range(many):
        subscribed(engine, (b"t", 1), client_id=b"%d" % number)
    if duplicates:
        subscribed(engine, (b"+", 0), client_id=b"other")  # a copy for each filter is none that goes as bytes
        many += 1
    engine.slicing.on_waiting = lambda: None
    publisher = of_version(engine, level)
    publisher.write(publishes(level, 0 if duplicates else 1) * 3)
    assert MESSAGES * many < delivered(engine) < MESSAGES * many * 2, "some together, then others"
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
    assert delivered(engine) == MESSAGES * many * 3


def test_at_qos_0_they_count_while_retained_messages_are_on_their_way_to_somebody_there() -> None:
    engine = Engine()
    many = RECEIVERS_UNPACED_MAX + 1
    for number in range(many):
        subscribed(engine, (b"t", 0), client_id=b"%d" % number)
    engine.subscribe(Deaf(plain=False), b"t", 0)
    engine.replaying.active = 1
    engine.slicing.on_waiting = lambda: None
    publisher = connected(engine, b"publisher")
    publisher.write(publishes(4, 0) * 3)
    assert MESSAGES * many < delivered(engine) < MESSAGES * many * 2, "some together, then others"
    while engine.slicing.waits():
        engine.slicing.turn()
        engine.flush()
    assert delivered(engine) == MESSAGES * many * 3


class Deaf(Receiver):
    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        pass


@pytest.mark.parametrize("duplicates", [False, True])
def test_a_few_go_on_together_to_very_many_however_much_others_have_done(duplicates: bool) -> None:
    engine = Engine(Policy(allow_duplicate_messages=duplicates))
    for number in range(RECEIVERS_UNPACED_MAX + 1):
        subscribed(engine, (b"t", 1), client_id=b"%d" % number)
    publisher = connected(engine, b"publisher")
    engine.slicing.on_waiting = lambda: None
    engine.slicing.used(2 * STEPS_MAX)
    publisher.send(*(Publish(b"t", b"x", 1, packet_id=number) for number in range(1, 11)))
    assert delivered(engine) == 10 * (RECEIVERS_UNPACED_MAX + 1)


def test_a_window_of_messages_leaves_whole_whatever_others_had_done_in_the_turn() -> None:
    engine = Engine()
    subscriber = subscribed(engine, (b"t", 1))
    publisher = connected(engine, b"publisher")
    engine.slicing.on_waiting = lambda: None
    engine.slicing.used(2 * STEPS_MAX)
    publisher.send(*(Publish(b"t", b"x", 1, packet_id=number) for number in range(1, 21)))
    assert len(subscriber.read()) == 20


def test_what_others_sent_is_not_charged_to_who_comes_next() -> None:
    engine, _ = with_groups(GROUPS)
    for _ in range(STEPS_MAX * 16 // GROUPS + 1):
        publisher = connected(engine, b"one")
        publisher.send(Publish(b"t", b"x", 0))
    other = subscribed(engine, (b"other", 0), client_id=b"other")
    other.write(b"\xc0\x00" * 20)
    assert other.read_bytes() == b"\xd0\x00" * 20


BRANCHING_LEVELS = 12


def with_branching_filters() -> Engine:
    """Each level of the filters is a `+` or a `t`: to find out who gets a topic of `t` takes a walk through all."""
    engine = Engine()
    member = connected(engine, b"member")
    filters = [(b"/".join((*levels, b"+")), 0) for levels in product((b"+", b"t"), repeat=BRANCHING_LEVELS)]
    for start in range(0, len(filters), 1_000):
        member.send(Subscribe(1, tuple(filters[start : start + 1_000])))
    member.read_bytes()
    engine.slicing.on_waiting = lambda: None
    return engine


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_topics_whose_receivers_take_long_to_find_take_turns(level: int, qos: int) -> None:
    engine = with_branching_filters()
    publisher = of_version(engine, level)
    topic = b"t/" * BRANCHING_LEVELS
    publisher.write(publishes(level, qos, topic, b"%d"))
    assert engine.trie.misses <= 3, "others have their turns before the rest is looked for"
    turns = 1
    while engine.slicing.waits():
        before = engine.trie.misses
        engine.slicing.turn()
        engine.flush()
        assert engine.trie.misses - before <= 3
        turns += 1
    assert engine.trie.misses == MESSAGES
    assert turns >= MESSAGES // 3
