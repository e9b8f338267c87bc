"""Clients of 3.1.1 and 5.0 on the same topics: whatever is sent in whatever pieces, each gets what is its own."""

from __future__ import annotations

import random

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.peer import Peer, connected, subscribed
from support.peer5 import connected5

from broker.core.engine import Engine
from protocol.mqtt.codec import encode as encode_3
from protocol.mqtt.packets import Packet, Publish, Subscribe
from protocol.mqtt.v5.codec import encode as encode_5
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties
from protocol.mqtt.v5.property_table import MESSAGE_EXPIRY, PAYLOAD_FORMAT, TOPIC_ALIAS_MAXIMUM
from protocol.mqtt.v5.runs import as_3, as_5, with_ids

TOPICS = (b"a", b"b/c", b"d" * 200)
PROPERTIES = (
    NO_PROPERTIES,
    NO_PROPERTIES,
    Properties({PAYLOAD_FORMAT: 1}, user=[(b"k", b"v"), (b"k", b"w")]),
    Properties(user=[(b"long", b"x" * 200)]),
    Properties({MESSAGE_EXPIRY: 60}),
)
PAYLOADS = (b"", b"1", b"x" * 120, b"y" * 20_000)

publishes = st.lists(
    st.builds(
        lambda topic, payload, qos, properties: Publish(
            topic, payload, qos, packet_id=1 if qos else 0, properties=properties
        ),
        st.sampled_from(TOPICS),
        st.sampled_from(PAYLOADS),
        st.sampled_from((0, 0, 0, 1)),
        st.sampled_from(PROPERTIES),
    ),
    max_size=12,
)


def bare(packet: Packet) -> Publish:
    assert isinstance(packet, Publish)
    return Publish(packet.topic, packet.payload, packet.qos, packet.retain, packet.dup, packet.packet_id)


def read(peer: Peer) -> list[Publish]:
    return [packet for packet in peer.read() if isinstance(packet, Publish)]


@settings(deadline=None, max_examples=cases(60))
@given(sent=publishes, is_new=st.booleans(), cut=st.integers(1, 4000))
def test_each_gets_every_message_once_in_its_own_version(sent: list[Publish], is_new: bool, cut: int) -> None:
    """Five kinds of receivers; the order and the bytes that each gets do not depend on the others."""
    engine = Engine()
    old = subscribed(engine, (b"#", 0), client_id=b"old")
    new = connected5(engine, b"new")
    new.send(Subscribe(1, ((b"#", 0),)))
    numbered = connected5(engine, b"numbered")
    numbered.send(Subscribe(1, ((b"#", 0),), Properties(subscription_ids=[7])))
    aliased = connected5(engine, b"aliased", properties=Properties({TOPIC_ALIAS_MAXIMUM: 2}))
    aliased.send(Subscribe(1, ((b"#", 0),)))
    old_too = subscribed(engine, (b"+", 0), client_id=b"old too")
    for peer in (old, new, numbered, aliased, old_too):
        peer.read()
    writer: Peer = connected5(engine, b"w") if is_new else connected(engine, b"w")
    wire = b"".join(encode_5(packet) if is_new else encode_3(bare(packet)) for packet in sent)
    for start in range(0, len(wire), cut):
        writer.write(wire[start : start + cut])
    at_0 = [Publish(p.topic, p.payload, properties=p.properties if is_new else NO_PROPERTIES) for p in sent]
    assert read(old) == [bare(packet) for packet in at_0]
    assert read(old_too) == [bare(packet) for packet in at_0 if b"/" not in packet.topic]
    assert read(new) == at_0
    with_id = read(numbered)
    assert [packet.properties.subscription_ids for packet in with_id] == [[7]] * len(sent)
    assert [bare(packet) for packet in with_id] == [bare(packet) for packet in at_0]
    assert resolved(read(aliased)) == [bare(packet) for packet in at_0]
    assert engine.counters.publishes_received == len(sent)


def resolved(packets: list[Publish]) -> list[Publish]:
    """With topics instead of aliases, as a client resolves them; the first two topics have one each."""
    aliases: dict[int, bytes] = {}
    found = []
    for packet in packets:
        alias = packet.properties.numbers.get(35, 0)
        assert alias <= 2
        if alias and packet.topic:
            assert alias not in aliases
            aliases[alias] = packet.topic
        topic = packet.topic or aliases[alias]
        found.append(Publish(topic, packet.payload, packet.qos))
    assert len(aliases) == min(2, len({packet.topic for packet in found}))
    return found


@given(sent=publishes)
def test_a_run_is_rewritten_packet_by_packet(sent: list[Publish]) -> None:
    plain = [Publish(packet.topic, packet.payload, properties=packet.properties) for packet in sent]
    new = b"".join(encode_5(packet) for packet in plain)
    old = b"".join(encode_3(bare(packet)) for packet in plain)
    assert as_3(new) == old
    assert as_5(old) == b"".join(encode_5(bare(packet)) for packet in plain)
    for ids in ([1], [200, 3], [268_435_455] * 40):
        identified = b"".join(encode_5(with_identifiers(packet, ids)) for packet in plain)
        assert with_ids(new, Properties(subscription_ids=ids).inner()) == identified


def with_identifiers(packet: Publish, ids: list[int]) -> Publish:
    told = packet.properties
    return evolve(packet, properties=Properties(told.numbers, told.texts, told.user, ids))


@pytest.mark.parametrize("level", [4, 5])
def test_a_publisher_that_is_cut_off_in_the_midst_has_published_what_was_whole(level: int) -> None:
    engine = Engine()
    new = connected5(engine, b"new")
    new.send(Subscribe(1, ((b"#", 0),)))
    new.read()
    writer: Peer = connected5(engine, b"w") if level == 5 else connected(engine, b"w")
    encode = encode_5 if level == 5 else encode_3
    writer.write(encode(Publish(b"a", b"1")) + encode(Publish(b"a", b"2")) + b"\x36\x03\x00\x01a")
    assert [packet.payload for packet in read(new)] == [b"1", b"2"]
    assert writer.closed


def test_an_alias_in_a_packet_that_was_dropped_is_not_used() -> None:
    engine = Engine()
    peer = connected5(engine, b"slow", properties=Properties({TOPIC_ALIAS_MAXIMUM: 2}))
    peer.send(Subscribe(1, ((b"#", 0),)))
    peer.read()
    peer.takes = 0
    peer.outbox.limit_bytes = 4000
    writer = connected5(engine, b"w")
    writer.send(Publish(b"first", b"x" * 3000), Publish(b"second", b"y" * 3000), Publish(b"first", b"z"))
    assert engine.counters.dropped_outbox_full == 1
    peer.unblock()
    writer.send(Publish(b"second", b"late"), Publish(b"second", b"later"))
    packets = read(peer)
    assert [(packet.topic, packet.properties.numbers[35]) for packet in packets] == [
        (b"first", 1),
        (b"", 1),
        (b"second", 2),
        (b"", 2),
    ]


def test_seeded_runs_between_many() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = Engine()
    peers: list[Peer] = []
    for index in range(12):
        name = b"p%d" % index
        peer: Peer = connected5(engine, name) if index % 2 else connected(engine, name)
        peer.send(Subscribe(1, ((chance.choice((b"#", b"a", b"b/+", b"+/c")), chance.randrange(2)),)))
        peer.read()
        peers.append(peer)
    for _ in range(60):
        writer = chance.choice(peers)
        packets = [Publish(chance.choice(TOPICS), b"%d" % chance.randrange(99)) for _ in range(5)]
        writer.send(*packets)
    received = [read(peer) for peer in peers]
    assert sum(len(packets) for packets in received) == engine.counters.publishes_sent
