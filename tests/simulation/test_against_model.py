"""The engine against a naive broker: whatever a few clients do, each gets the same packets in the same order.

Hypothesis chooses what they do and shrinks what goes wrong; a failure prints the steps as code.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.model_broker import ModelBroker
from support.peer import Peer
from support.peer5 import Peer5

from broker.core.engine import Engine
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import NEVER, SESSION_EXPIRY

WINDOW, QUEUE_MAX = 2, 4
CLIENTS = st.sampled_from([b"a", b"b", b"c"])
TOPICS = st.sampled_from([b"x/y", b"x", b"x/y/z", b"/y", b"$x/y"])
FILTERS = st.sampled_from([b"#", b"x/#", b"+/y", b"x/y", b"+", b"+/y/#", b"$x/#", b"/+", b"x/+/z"])
QOS = st.integers(0, 2)
WILLS = st.none() | st.builds(Will, TOPICS, st.just(b"gone"), QOS, st.just(False))


class Comparison(RuleBasedStateMachine):
    """Each rule does one thing to both brokers; the invariant compares what every client has to read."""

    LEVELS: ClassVar[tuple[int, ...]] = (4,)
    """Of the clients' connections: each is of one of these, whatever its session was before."""

    def __init__(self) -> None:
        super().__init__()
        self.connections = 0
        self.engine = Engine(window=Window(inflight_messages=WINDOW, queued_messages=QUEUE_MAX))
        self.model = ModelBroker(WINDOW, QUEUE_MAX)
        self.peers: dict[bytes, Peer] = {}
        self.sent = 0

    @initialize(clean=st.booleans(), first=QOS, second=QOS)
    def begin(self, clean: bool, first: int, second: int) -> None:
        """Two clients that have something to say to each other."""
        for client, topic_filter, qos in ((b"a", b"x/#", first), (b"b", b"+/y", second)):
            self.connect(client, clean, None)
            self.model.subscribe(client, 7, topic_filter, qos)
            self.send(client, Subscribe(7, ((topic_filter, qos),)))

    def send(self, client: bytes, packet: Packet) -> None:
        self.peers[client].send(packet)

    def payload(self) -> bytes:
        self.sent += 1
        return str(self.sent).encode()

    @rule(client=CLIENTS, clean=st.booleans(), will=WILLS)
    def connect(self, client: bytes, clean: bool, will: Will | None) -> None:
        """Perhaps a takeover: the will of the older connection goes out unless both are persistent."""
        if client in self.peers:
            older = self.model.sessions[client].clean
            self.model.lose(client, send_will=clean or older or isinstance(self.peers[client], Peer5))
        self.model.connect(client, clean, will)
        older_peer = self.peers.pop(client, None)
        self.connections += 1
        level = self.LEVELS[self.connections % len(self.LEVELS)]
        self.peers[client] = Peer5(self.engine) if level == 5 else Peer(self.engine)
        properties = Properties({SESSION_EXPIRY: NEVER}) if level == 5 and not clean else NO_PROPERTIES
        self.send(client, Connect(client, clean, 60, level, will, properties=properties))
        assert older_peer is None or older_peer.closed

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), polite=st.booleans())
    def leave(self, data: st.DataObject, polite: bool) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        peer = self.peers.pop(client)
        peer.send(Disconnect()) if polite else peer.drop()
        self.model.lose(client, send_will=not polite)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def cut_and_return(self, data: st.DataObject) -> None:
        """The connection breaks and the client comes back as it was: what was in flight is resumed."""
        client = data.draw(st.sampled_from(sorted(self.peers)))
        clean = self.model.sessions[client].clean
        self.peers.pop(client).drop()
        self.model.lose(client, send_will=True)
        self.connect(client, clean, None)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), topic_filter=FILTERS, qos=QOS)
    def subscribe(self, data: st.DataObject, topic_filter: bytes, qos: int) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        self.model.subscribe(client, 7, topic_filter, qos)
        self.send(client, Subscribe(7, ((topic_filter, qos),)))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), topic_filter=FILTERS)
    def unsubscribe(self, data: st.DataObject, topic_filter: bytes) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        self.model.unsubscribe(client, 8, topic_filter)
        self.send(client, Unsubscribe(8, (topic_filter,)))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), topic=TOPICS, qos=QOS, packet_id=st.integers(1, 3))
    def publish(self, data: st.DataObject, topic: bytes, qos: int, packet_id: int) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        packet = Publish(topic, self.payload(), qos, packet_id=packet_id if qos else 0)
        incoming = self.model.sessions[client].incoming
        if qos == 2 and self.LEVELS != (4,) and packet_id not in incoming and len(incoming) >= WINDOW:
            return  # more than the receive maximum
        self.model.receive(client, packet)
        self.send(client, packet)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), topic=TOPICS, count=st.integers(2, 9))
    def publish_many(self, data: st.DataObject, topic: bytes, count: int) -> None:
        """More than window and queue hold, in one batch."""
        client = data.draw(st.sampled_from(sorted(self.peers)))
        packets = [Publish(topic, self.payload(), 1, packet_id=9) for _ in range(count)]
        for packet in packets:
            self.model.receive(client, packet)
        self.peers[client].send(*packets)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), topic=TOPICS, clear=st.booleans())
    def publish_retained(self, data: st.DataObject, topic: bytes, clear: bool) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        packet = Publish(topic, b"" if clear else self.payload(), 0, retain=True)
        self.model.receive(client, packet)
        self.send(client, packet)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), packet_id=st.integers(1, 4))
    def release(self, data: st.DataObject, packet_id: int) -> None:
        client = data.draw(st.sampled_from(sorted(self.peers)))
        self.model.release(client, packet_id)
        self.send(client, Pubrel(packet_id))

    @precondition(lambda self: any(self.model.sessions[client].inflight for client in self.peers))
    @rule(data=st.data(), steps=st.integers(1, 4))
    def acknowledge(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            self.acknowledge_one(data)

    def acknowledge_one(self, data: st.DataObject) -> None:
        waiting = sorted(client for client in self.peers if self.model.sessions[client].inflight)
        if not waiting:
            return
        client = data.draw(st.sampled_from(waiting))
        note = data.draw(st.sampled_from(self.model.sessions[client].inflight))
        packet_id = note.packet_id
        answer: Packet = Puback(packet_id)
        if note.qos == 2:
            answer = Pubcomp(packet_id) if note.received else Pubrec(packet_id)
        self.model.acknowledge(client, packet_id)
        self.send(client, answer)

    @invariant()
    def every_client_reads_the_same(self) -> None:
        for client, peer in self.peers.items():
            expected = self.model.sessions[client].out
            assert in_some_order([bare(packet) for packet in peer.read()]) == in_some_order(expected)
            expected.clear()
            assert not peer.closed

    def teardown(self) -> None:
        """When all have left, only what outlives a connection is left."""
        for client, peer in self.peers.items():
            peer.drop()
            self.model.lose(client, send_will=True)
        assert set(self.engine.sessions) == set(self.model.sessions)
        for client, session in self.model.sessions.items():
            assert self.engine.sessions[client].subscriptions == session.subscriptions
        assert {p.topic: p.payload for p in self.engine.retained.all()} == self.model.retained
        assert self.engine.connected == 0


class Mixed(Comparison):
    """The same with connections of 3.1.1 and 5.0 in turn, on the same sessions."""

    LEVELS = (4, 5, 5)


def bare(packet: Packet) -> Packet:
    """Without what 5.0 adds to answers: the model has none of it."""
    if isinstance(packet, Connack):
        return Connack(packet.session_present, packet.return_code)
    if isinstance(packet, Puback):
        assert packet.reason_code in (0, 0x10)
        return Puback(packet.packet_id)
    if isinstance(packet, Unsuback):
        assert set(packet.return_codes) <= {0, 0x11}
        return Unsuback(packet.packet_id)
    return packet


def in_some_order(packets: list[Packet]) -> list[Packet]:
    """Replayed messages of one subscription may come in any order of their topics."""
    ordered: list[Packet] = []
    for is_replay, run in groupby(packets, lambda packet: isinstance(packet, Publish) and packet.retain):
        part = list(run)
        ordered += sorted(part, key=lambda packet: packet.topic) if is_replay else part  # type: ignore[union-attr]
    return ordered


COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.timeout(180)
def test_a_few_clients_get_what_the_model_says() -> None:
    run_state_machine_as_test(
        Comparison, settings=settings(max_examples=60, stateful_step_count=40, derandomize=True, **COMMON)
    )


@pytest.mark.timeout(180)
def test_clients_of_both_versions_get_what_the_model_says() -> None:
    run_state_machine_as_test(
        Mixed, settings=settings(max_examples=60, stateful_step_count=40, derandomize=True, **COMMON)
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_clients_of_both_versions_get_what_the_model_says_for_long() -> None:
    run_state_machine_as_test(Mixed, settings=settings(max_examples=1500, stateful_step_count=80, **COMMON))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_few_clients_get_what_the_model_says_for_long() -> None:
    run_state_machine_as_test(
        Comparison, settings=settings(max_examples=3000, stateful_step_count=80, **COMMON)
    )
