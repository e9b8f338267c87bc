"""Rows that go on as packets reach the same receivers, with the same bytes, as rows that are published one by one."""

from __future__ import annotations

import pytest
from support.peer import Peer, connected
from support.peer5 import connected5

from broker.core import barrier
from broker.core.engine import Engine, Policy
from broker.core.publication import RUN, Publication
from broker.core.receiver import Receiver
from broker.core.rows_as_bytes import forward
from broker.core.session import DeliveryRules
from broker.outlet import EngineOutlet
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.packets import Subscribe

TOPIC = b"rows/7/0xa"
PAYLOADS = [b'{"id":1}', b'{"id":2}', b'{"id":33}', b"", b"x" * 300, b'{"id":4}']


class Heard(Receiver):
    """Takes messages, no packets."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.came: list[tuple[bytes, bytes, int]] = []
        self.runs: list[int] = []

    def deliver_run(self, run: list[Publication], granted: int) -> None:
        self.runs.append(len(run))
        super().deliver_run(run, granted)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append((publication.topic, publication.payload, publication.qos))


class World:
    """An engine with receivers, and what each has got."""

    def __init__(
        self, receivers: str, rules: DeliveryRules | None = None, policy: Policy | None = None
    ) -> None:
        self.engine = Engine(policy, rules=rules)
        self.peers: list[Peer] = []
        self.heard = Heard()
        for kind, topic_filter, qos in RECEIVERS[receivers]:
            if kind == "messages":
                self.engine.subscribe(self.heard, topic_filter, qos)
            else:
                self._connect(kind, topic_filter, qos)

    def _connect(self, kind: str, topic_filter: bytes, qos: int) -> None:
        if kind == "away":
            peer = connected(self.engine, b"away", clean=False)
        else:
            connect = connected5 if kind == "5" else connected
            peer = connect(self.engine, b"c%d" % len(self.peers))
        peer.send(Subscribe(1, ((topic_filter, qos),)))
        peer.read()
        if kind == "away":
            peer.drop()
        else:
            self.peers.append(peer)

    def got(self) -> tuple[object, ...]:
        self.engine.flush()
        counters = self.engine.counters
        away = self.engine.sessions.get(b"away")
        return (
            [peer.read_bytes() for peer in self.peers],
            self.heard.came,
            counters.publishes_sent,
            counters.publish_bytes_sent,
            counters.dropped_outbox_full,
            None if away is None else away.outbound.queued_count(),
        )


RECEIVERS: dict[str, tuple[tuple[str, bytes, int], ...]] = {
    "nobody": (),
    "somebody-else": (("3", b"other", 0),),
    "one": (("3", b"rows/#", 0),),
    "one-at-qos-1": (("3", b"rows/#", 1),),
    "two": (("3", b"rows/#", 0), ("3", b"rows/7/+", 0)),
    "two-qos": (("3", b"rows/#", 0), ("3", b"rows/7/+", 2)),
    "away": (("3", b"rows/#", 0), ("away", b"rows/#", 1)),
    "messages": (("3", b"rows/#", 0), ("messages", b"#", 2)),
    "5": (("5", b"rows/#", 0),),
    "5-and-3": (("5", b"rows/#", 0), ("3", b"#", 0), ("5", b"rows/+/+", 0)),
}
"""By name: whether each takes 3.1.1, 5.0 or messages, or is away; its filter, and its QoS."""


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("receivers", list(RECEIVERS))
@pytest.mark.parametrize(
    "rules", [DeliveryRules(), DeliveryRules(queue_qos0=True), DeliveryRules(upgrade_qos=True)],
    ids=["plain", "queue_qos0", "upgrade_qos"],
)  # fmt: skip
def test_everybody_gets_what_they_would_get_one_by_one(
    receivers: str, qos: int, rules: DeliveryRules
) -> None:
    together, singly = World(receivers, rules), World(receivers, rules)
    EngineOutlet(together.engine, None).publish_run(TOPIC, PAYLOADS, qos)
    for payload in PAYLOADS:
        EngineOutlet(singly.engine, None).publish(TOPIC, payload, qos, False)
    assert together.got() == singly.got()


def test_copies_of_overlapping_subscriptions_come_as_often_as_one_by_one() -> None:
    worlds = [World("one", policy=Policy(allow_duplicate_messages=True)) for _ in range(2)]
    for world in worlds:
        world.peers[0].send(Subscribe(2, ((b"rows/7/+", 0),)))
        world.peers[0].read()
    EngineOutlet(worlds[0].engine, None).publish_run(TOPIC, PAYLOADS, 0)
    for payload in PAYLOADS:
        EngineOutlet(worlds[1].engine, None).publish(TOPIC, payload, 0, False)
    assert worlds[0].got() == worlds[1].got()


@pytest.mark.parametrize("receivers", list(RECEIVERS))
def test_each_receiver_gets_all_of_them_at_once(receivers: str) -> None:
    world = World(receivers)
    assert forward(world.engine, TOPIC, PAYLOADS, 1)
    assert world.heard.runs == ([len(PAYLOADS)] if receivers == "messages" else [])


def test_while_retained_messages_are_on_their_way_each_is_published_by_itself() -> None:
    world = World("messages")
    world.engine.replaying.active = 1
    assert not forward(world.engine, TOPIC, PAYLOADS, 1)
    assert not world.heard.came


def test_very_many_are_charged_for_each_message() -> None:
    world = World("nobody")
    for _ in range(1999):
        world.engine.subscribe(Heard(), b"rows/#", 0)
    world.engine.slicing.allowance()
    assert forward(world.engine, TOPIC, PAYLOADS, 0)
    assert world.engine.slicing.charged() == len(PAYLOADS) * (1999 >> 4)


def test_where_a_log_takes_publications_nothing_goes_past_it() -> None:
    world = World("one")
    taken: list[bytes] = []

    def log(publication: Publication) -> bool:
        taken.append(publication.payload)
        return True

    world.engine.log = log
    EngineOutlet(world.engine, None).publish_run(TOPIC, PAYLOADS, 0)
    assert taken == PAYLOADS
    assert world.got()[0] == [b""]


def test_one_too_long_for_any_packet_is_left_to_the_engine() -> None:
    world = World("one")
    long = memoryview(bytearray(REMAINING_LENGTH_MAX)).tobytes()
    assert not forward(world.engine, TOPIC, [b"1", long], 0)
    EngineOutlet(world.engine, None).publish_run(TOPIC, [b"1", long, b"2"], 0)
    assert world.engine.counters.dropped_too_large == 1
    assert world.engine.counters.publishes_sent == 2


class Keeps(Receiver):
    """As a history does."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.kept: list[Publication] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.kept.append(publication)


class Joins(Keeps):
    def deliver_run(self, run: list[Publication], granted: int) -> None:
        run[0].keep_frame(RUN, b"all of them")
        super().deliver_run(run, granted)


def test_whoever_keeps_the_messages_does_not_keep_the_bytes_of_a_run() -> None:
    world = World("nobody")
    for receiver in (keeps := Keeps(), Joins()):
        world.engine.subscribe(receiver, b"rows/#", 0)
    assert forward(world.engine, TOPIC, PAYLOADS, 0)
    assert [publication.payload for publication in keeps.kept] == PAYLOADS
    assert keeps.kept[0].frame(RUN) is None


class Fails(Receiver):
    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise ZeroDivisionError


def test_a_bug_that_one_receiver_meets_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "RERAISE", False)
    world = World("messages")
    world.engine.subscribe(Fails(plain=False), b"rows/#", 0)
    world.engine.subscribe(after := Keeps(), b"rows/#", 0)
    EngineOutlet(world.engine, None).publish_run(TOPIC, PAYLOADS, 0)
    assert [publication.payload for publication in after.kept] == PAYLOADS
    assert world.got()[0] != [b""]
    assert world.engine.counters.link_bugs == 1
