"""What the log brings together reaches everybody as if each message had been handed on by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from support.peer import OPEN_DOOR, Peer, connected
from support.peer5 import connected5

from broker.cluster.together import Together
from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import DeliveryRules
from broker.links.listening.door import Door
from broker.links.listening.sources import Sources
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM
from protocol.mqtt.v5.subscribing import subscription

TOPICS = (b"t/1", b"t/2", b"u")
NO_LOCAL = 4
RETAIN_AS_PUBLISHED = 8


class Heard(Receiver):
    """Takes messages, no packets."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.came: list[tuple[bytes, bytes, int]] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append((publication.topic, publication.payload, publication.qos))


class Broken(Receiver):
    """Has a bug, whatever it is given."""

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise ZeroDivisionError

    def forward(self, packets: bytes, count: int, payload_bytes: int) -> None:
        raise ZeroDivisionError


class World:
    """An engine with clients of all kinds, and what each has got."""

    def __init__(self, rules: DeliveryRules | None = None, policy: Policy | None = None) -> None:
        self.engine = Engine(policy, rules=rules)
        self.heard = Heard()
        self.peers: list[Peer] = []
        self.engine.subscribe(self.heard, b"#", 2)
        for topic_filter in (b"t/#", b"t/1", b"#", b"$share/g/t/2"):
            for qos in (0, 1):
                self.comes(topic_filter, qos)
                self.comes(topic_filter, qos, is_5=True)
        self.comes(b"t/+", subscription(NO_LOCAL, 0), is_5=True)
        self.comes(b"t/+", subscription(RETAIN_AS_PUBLISHED, 7), is_5=True)
        away = self.comes(b"t/+", 0, client_id=b"away", clean=False)
        away.drop()

    def comes(
        self,
        topic_filter: bytes,
        granted: int,
        *,
        is_5: bool = False,
        client_id: bytes = b"",
        clean: bool = True,
        door: Door | None = None,
        limit: int = 0,
    ) -> Peer:
        """A client that has subscribed.

        Args:
            limit: a property of its CONNECT, 30 at most.
        """
        name = client_id or b"c%d" % len(self.peers)
        door = door or OPEN_DOOR
        if is_5:
            properties = Properties({limit: 30} if limit else {})
            peer: Peer = connected5(self.engine, name, door=door, properties=properties)
        else:
            peer = connected(self.engine, name, clean=clean, door=door)
        self.engine.subscribe_session(self.engine.sessions[name], topic_filter, granted)
        peer.read_bytes()
        self.peers.append(peer)
        return peer

    def got(self) -> tuple[object, ...]:
        self.engine.flush()
        counters = self.engine.counters
        return (
            [peer.read_bytes() for peer in self.peers],
            self.heard.came,
            counters.publishes_sent,
            counters.publish_bytes_sent,
            counters.messages_expired,
            [one.payload for one in self.engine.retained.all()],
        )


def drawn(seed: int) -> list[Publication]:
    """Messages as the log brings them: mostly plain ones, some of them with more to say."""
    random = Random(seed)
    messages: list[Publication] = []
    topic = TOPICS[0]
    for number in range(60):
        if random.random() < 0.3:
            topic = random.choice(TOPICS)
        client_id = random.choice([b"", b"elsewhere", b"c16"])
        payload = b"%d" % number * random.choice([0, 1, 1, 1, 90])
        one = Publication(topic, payload, random.choice([0, 1, 1, 1, 2]), random.random() < 0.05, client_id)
        if random.random() < 0.05:
            one.expires_at = random.choice([0.5, 2.0])
        if random.random() < 0.05:
            one.properties = b"\x01\x01"
        one.sequence = number + 1
        messages.append(one)
    return messages


def hand_on(world: World, messages: Iterable[Publication]) -> None:
    together = Together(world.engine)
    world.engine.now = 1.0
    for one in messages:
        together.publish(one)
    together.end()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        (DeliveryRules(), None),
        (DeliveryRules(queue_qos0=True), None),
        (DeliveryRules(upgrade_qos=True), None),
        (DeliveryRules(), Policy(allow_duplicate_messages=True)),
    ],
    ids=["plain", "queue_qos0", "upgrade_qos", "copies"],
)
def test_everybody_gets_what_they_would_get_one_by_one(
    rules: DeliveryRules, policy: Policy | None, seed: int
) -> None:
    together, singly = World(rules, policy), World(rules, policy)
    hand_on(together, drawn(seed))
    singly.engine.now = 1.0
    for one in drawn(seed):
        singly.engine.publish_here(one)
    assert together.got() == singly.got()


@pytest.mark.parametrize("seed", range(20))
def test_so_do_those_who_may_read_little_or_take_little(tmp_path: Path, seed: int) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read t/1\n")
    rules.chmod(0o600)
    security = Security(allow_anonymous=True)
    listeners = (
        Listener(1, security=Security(allow_anonymous=True, acl_file=rules)),
        Listener(2, security=security, mount_point="t/"),
        Listener(3, security=security, max_qos=0),
    )

    def world() -> World:
        made = World()
        doors = [Door(listener, Limits()) for listener in listeners]
        Sources(doors).renew(made.engine)
        for door in doors:
            for qos in (0, 1):
                made.comes(b"t/#", qos, door=door)
                made.comes(b"#", qos, is_5=True, door=door)
        for limit in (MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM):
            for qos in (0, 1):
                made.comes(b"#", qos, is_5=True, limit=limit)
        return made

    together, singly = world(), world()
    hand_on(together, drawn(seed))
    singly.engine.now = 1.0
    for one in drawn(seed):
        singly.engine.publish_here(one)
    assert together.got() == singly.got()


def plain(*payloads: bytes) -> list[Publication]:
    return [Publication(b"t/1", payload, 1) for payload in payloads]


def test_who_takes_packets_is_owed_one_piece() -> None:
    engine = Engine()
    peers = [connected(engine, b"c%d" % number) for number in range(2)]
    for peer in peers:
        engine.subscribe_session(engine.sessions[peer.link.session.client_id], b"t/1", 0)  # type: ignore[union-attr]
    together = Together(engine)
    for one in plain(b"1", b"2", b"3"):
        together.publish(one)
    assert [peer.outbox.pieces() for peer in peers] == [0, 0]
    together.end()
    assert [peer.outbox.pieces() for peer in peers] == [1, 1]


def test_a_message_to_others_does_not_overtake() -> None:
    world = World()
    hand_on(world, [*plain(b"1", b"2"), Publication(b"u", b"3"), *plain(b"4")])
    assert [payload for _, payload, _ in world.heard.came] == [b"1", b"2", b"3", b"4"]


def test_a_bug_costs_only_the_receiver_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    engine = Engine()
    heard = Heard()
    for one in (Broken(plain=True), Broken(plain=False), heard):
        engine.subscribe(one, b"t/1", 0)
    together = Together(engine)
    for publication in plain(b"1", b"2"):
        together.publish(publication)
    together.end()
    assert [payload for _, payload, _ in heard.came] == [b"1", b"2"]
    assert engine.counters.link_bugs == 2


def test_what_was_handed_on_is_not_handed_on_again() -> None:
    world = World()
    together = Together(world.engine)
    together.end()
    for one in plain(b"1", b"2"):
        together.publish(one)
    together.end()
    together.end()
    assert [payload for _, payload, _ in world.heard.came] == [b"1", b"2"]
