"""Whatever happens while a client gets its retained messages, it gets every one, and ends with the newest of a topic.

A random script is played to the broker and to a model that only remembers, for each client, what every topic had when
it subscribed and what was published since.  Queues have no limit, so nothing may be missing.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from support.peer import Peer, connected

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.storage.records import restore, snapshot
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel, Subscribe, Unsubscribe

TOPICS = [head + tail for head in (b"a", b"b", b"c/d", b"$x") for tail in (b"", b"/", b"/x", b"/y", b"/z/1")]
FILTERS = {
    b"#": [topic for topic in TOPICS if topic[0] != 0x24],
    b"a/#": [topic for topic in TOPICS if topic == b"a" or topic.startswith(b"a/")],
    b"+/x": [b"a/x", b"b/x"],
    b"c/d/+": [b"c/d/", b"c/d/x", b"c/d/y"],
    b"$x/#": [topic for topic in TOPICS if topic.startswith(b"$x")],
    b"b/z/1": [b"b/z/1"],
}
PADDING = b"." * 30_000
"""Some of them are more than a replay owes at a time."""


class Broker:
    """An engine whose turns are paced, as in the process."""

    def __init__(self, qos: int) -> None:
        self.qos = qos
        self.retained: dict[bytes, bytes] = {}
        self.engine = self._fresh()

    def _fresh(self) -> Engine:
        engine = Engine(window=Window(inflight_messages=3, queued_messages=0))
        engine.replaying.on_waiting = lambda: None
        return engine

    def publish(self, topic: bytes, payload: bytes, retain: bool) -> None:
        self.engine.publish(Publication(topic, payload, self.qos, retain))
        self.engine.flush()
        if retain:
            self.retained[topic] = payload
            if not payload:
                del self.retained[topic]

    def restart(self) -> None:
        """In order, or after kill -9 when everything was just saved."""
        self.engine.replaying.leave_all(self.engine.sessions.values())
        saved = snapshot(self.engine, 0.0)
        self.engine = self._fresh()
        restore(self.engine, saved, 0.0)


class Reader:
    """A client, and what it must have got when all is over.

    Attributes:
        expected: by topic, what was retained when it subscribed.
        newest: by topic, what was retained then, or published since.
    """

    def __init__(self, broker: Broker, name: bytes, clean: bool) -> None:
        self.broker = broker
        self.name = name
        self.clean = clean
        self.filters: set[bytes] = set()
        self.expected: dict[bytes, set[bytes]] = defaultdict(set)
        self.newest: dict[bytes, bytes] = {}
        self.got: list[tuple[bytes, bytes]] = []
        self.owes: list[Packet] = []
        self.peer: Peer | None = None

    def here(self) -> Peer:
        if self.peer is None:
            present = self.name in self.broker.engine.sessions
            self.peer = connected(self.broker.engine, self.name, clean=self.clean, present=present)
            self.owes = []
        return self.peer

    def leave(self) -> None:
        if self.peer is None:
            return
        self.take()
        self.peer.drop()
        self.peer = None
        if self.clean:
            self.filters = set()
            self._forget(TOPICS)

    def subscribe(self, topic_filter: bytes) -> None:
        peer = self.here()
        self.filters.add(topic_filter)
        for topic in FILTERS[topic_filter]:
            payload = self.broker.retained.get(topic)
            if payload is not None:
                self.expected[topic].add(payload)
                self.newest[topic] = payload
        peer.send(Subscribe(1, ((topic_filter, self.broker.qos),)))

    def unsubscribe(self, topic_filter: bytes) -> None:
        self.here().send(Unsubscribe(2, (topic_filter,)))
        self.filters.discard(topic_filter)
        self._forget(FILTERS[topic_filter])

    def published(self, topic: bytes, payload: bytes) -> None:
        if any(topic in FILTERS[topic_filter] for topic_filter in self.filters):
            if self.peer is not None or self.broker.qos > 0:
                self.newest[topic] = payload
            else:
                self._forget([topic])  # QoS 0 to a client that is away: it gets what is retained, or nothing

    def take(self) -> None:
        """Read what came, and owe the answers."""
        if self.peer is None or self.peer.takes is not None:
            return
        for packet in self.peer.read():
            if isinstance(packet, Publish):
                self.got.append((packet.topic, packet.payload))
                if packet.qos:
                    assert packet.packet_id is not None
                    self.owes.append((Puback if packet.qos == 1 else Pubrec)(packet.packet_id))
            elif isinstance(packet, Pubrel):
                self.owes.append(Pubcomp(packet.packet_id))

    def answer(self, count: int) -> None:
        self.take()
        if self.peer is not None:
            self.peer.send(*self.owes[:count])
            del self.owes[:count]

    def block(self) -> None:
        if self.peer is not None:
            self.take()
            self.peer.takes = 0

    def unblock(self) -> None:
        if self.peer is not None:
            self.peer.unblock()

    def check(self) -> None:
        for topic, payloads in self.expected.items():
            got = {payload for other, payload in self.got if other == topic}
            assert payloads <= got, (self.name, topic)
        last = dict(self.got)
        for topic, payload in self.newest.items():
            assert last.get(topic) == payload, (self.name, topic)

    def _forget(self, topics: list[bytes]) -> None:
        for topic in topics:
            self.expected.pop(topic, None)
            self.newest.pop(topic, None)


def turn(broker: Broker) -> None:
    broker.engine.replaying.turn()
    broker.engine.flush()


def finish(broker: Broker, readers: list[Reader]) -> None:
    """Everybody is here and reads, until nothing more comes."""
    for reader in readers:
        reader.here()
    quiet = 0
    while quiet < 3:
        before = sum(len(reader.got) for reader in readers)
        turn(broker)
        for reader in readers:
            reader.unblock()
            reader.answer(100)
        quiet = quiet + 1 if sum(len(reader.got) for reader in readers) == before else 0
    assert broker.engine.replaying.active == 0
    for reader in readers:
        assert broker.engine.sessions[reader.name].plain


def play(seed: int, qos: int) -> None:
    print(f"seed {seed}, QoS {qos}")
    chance = random.Random(seed)
    broker = Broker(qos)
    readers = [Reader(broker, name, name == b"clean") for name in (b"clean", b"one", b"two")]
    number = 0
    for _ in range(150):
        reader = chance.choice(readers)
        deed = chance.choices(
            [
                "publish",
                "subscribe",
                "unsubscribe",
                "leave",
                "here",
                "answer",
                "turn",
                "block",
                "unblock",
                "restart",
            ],
            [40, 12, 2, 3, 5, 12, 10, 3, 3, 0.7],
        )[0]
        if deed == "publish":
            number += 1
            topic = chance.choice(TOPICS)
            payload = b"%d" % number + (PADDING if chance.random() < 0.3 else b"")
            retain = chance.random() < 0.7
            if retain and chance.random() < 0.1:
                payload = b""
            broker.publish(topic, payload, retain)
            for other in readers:
                other.published(topic, payload)
        elif deed == "subscribe":
            reader.subscribe(chance.choice(list(FILTERS)))
        elif deed == "unsubscribe" and reader.filters:
            reader.unsubscribe(chance.choice(sorted(reader.filters)))
        elif deed == "leave":
            reader.unblock()
            reader.leave()
        elif deed == "here":
            reader.here()
        elif deed == "answer":
            reader.answer(chance.randint(1, 3))
        elif deed == "turn":
            turn(broker)
        elif deed == "block":
            reader.block()
        elif deed == "unblock":
            reader.unblock()
        elif deed == "restart" and qos > 0:
            for other in readers:
                other.unblock()
                other.leave()
            broker.restart()
    finish(broker, readers)
    for reader in readers:
        reader.check()


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_a_client_gets_every_retained_message_and_ends_with_the_newest(seed: int, qos: int) -> None:
    play(seed, qos)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_so_it_is_in_many_scripts(qos: int) -> None:
    for seed in range(1000, 3000):
        play(seed, qos)
