"""Runs of QoS 0 packets are handed on whole to who takes bytes, and one by one to the others."""

from __future__ import annotations

import pytest
from support.peer import Peer, connected, subscribed
from support.peer5 import Peer5, connected5

from broker.core.access import Access
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.session import Session
from broker.core.targets import Targets
from broker.links.mqtt.forwarding import NOBODY, Run, forward, miss_steps, receivers_of
from protocol.mqtt.codec import encode
from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.packets import Publish, Subscribe
from protocol.mqtt.v5.codec import encode as encode_5
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import CONTENT_TYPE


class OneByOne(Receiver):
    """Takes no raw packets."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.came: list[tuple[bytes, bytes, int]] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.came.append((publication.topic, publication.payload, publication.listener_port))


def writer_of(engine: Engine, *, level: int = 4) -> Session:
    (connected5 if level == 5 else connected)(engine, b"writer")
    return engine.sessions[b"writer"]


def packets(
    *payloads: bytes, level: int = 4, topic: bytes = b"t", properties: Properties | None = None
) -> bytes:
    write = encode_5 if level == 5 else encode
    return b"".join(write(Publish(topic, one, properties=properties or Properties())) for one in payloads)


def hand_on(engine: Engine, session: Session, data: bytes, count: int) -> None:
    targets = receivers_of(engine, session, b"t")
    forward(engine, session, targets, data, 0, len(data), count, count)
    engine.flush()


def payloads(peer: Peer) -> list[bytes]:
    return [packet.payload for packet in peer.read() if isinstance(packet, Publish)]


@pytest.mark.parametrize("level", [4, 5])
def test_every_receiver_gets_the_packets_in_its_own_version(level: int) -> None:
    engine = Engine()
    session = writer_of(engine, level=level)
    old = subscribed(engine, (b"t", 0), client_id=b"old")
    new = connected5(engine, b"new")
    new.send(Subscribe(1, ((b"t", 0),)))
    new.read()
    properties = Properties(texts={CONTENT_TYPE: b"x"}) if level == 5 else None
    data = packets(b"1", b"2", level=level, properties=properties)
    hand_on(engine, session, data, 2)
    assert old.read() == [Publish(b"t", b"1"), Publish(b"t", b"2")]
    wanted = properties or Properties()
    assert new.read() == [Publish(b"t", b"1", properties=wanted), Publish(b"t", b"2", properties=wanted)]
    assert engine.counters.publishes_sent == 4


def test_a_sole_receiver_of_the_same_version_gets_the_bytes_as_they_came() -> None:
    engine = Engine()
    session = writer_of(engine)
    reader = subscribed(engine, (b"t", 0))
    data = packets(b"1", b"22", b"")
    hand_on(engine, session, data, 3)
    assert reader.read_bytes() == data


@pytest.mark.parametrize("level", [4, 5])
def test_a_sole_receiver_of_the_other_version_gets_them_in_its_own(level: int) -> None:
    engine = Engine()
    session = writer_of(engine, level=level)
    if level == 5:
        reader: Peer = subscribed(engine, (b"t", 0))
    else:
        reader = connected5(engine, b"new")
        reader.send(Subscribe(1, ((b"t", 0),)))
        reader.read()
    properties = Properties(texts={CONTENT_TYPE: b"x"}) if level == 5 else None
    hand_on(engine, session, packets(b"1", b"2", level=level, properties=properties), 2)
    assert reader.read() == [Publish(b"t", b"1"), Publish(b"t", b"2")]


@pytest.mark.parametrize("level", [4, 5])
def test_raw_and_other_receivers_of_one_topic_get_their_own_versions(level: int) -> None:
    engine = Engine()
    session = writer_of(engine, level=level)
    engine.subscribe(OneByOne(), b"t", 0)
    old = subscribed(engine, (b"t", 0), client_id=b"old")
    new = connected5(engine, b"new")
    new.send(Subscribe(1, ((b"t", 0),), Properties(subscription_ids=[7])))
    new.read()
    hand_on(engine, session, packets(b"1", level=level), 1)
    assert old.read() == [Publish(b"t", b"1")]
    assert new.read() == [Publish(b"t", b"1", properties=Properties(subscription_ids=[7]))]


def test_what_may_not_be_written_reaches_nobody_and_is_counted() -> None:
    class Nothing(Access):
        def may_write(self, topic: bytes) -> bool:
            return False

    engine = Engine()
    session = writer_of(engine)
    reader = subscribed(engine, (b"t", 0))
    session.access = Nothing()
    assert receivers_of(engine, session, b"t") is NOBODY
    assert engine.trie.cached(b"t") is None
    hand_on(engine, session, packets(b"1", b"2"), 2)
    assert reader.read() == []
    assert engine.counters.dropped_acl == 2
    engine.trie.match(b"t")
    assert receivers_of(engine, session, b"t") is NOBODY


@pytest.mark.parametrize("topic", [b"", b"a/#", b"+", b"a\0"])
def test_a_topic_that_is_none_is_refused_before_anybody_is_looked_for(topic: bytes) -> None:
    engine = Engine()
    with pytest.raises(MalformedPacket):
        receivers_of(engine, writer_of(engine), topic)


def test_who_takes_no_raw_packets_gets_messages_one_by_one() -> None:
    engine = Engine()
    session = writer_of(engine)
    other = OneByOne()
    engine.subscribe(other, b"t", 0)
    reader = subscribed(engine, (b"t", 0))
    hand_on(engine, session, packets(b"1", b"2"), 2)
    assert other.came == [(b"t", b"1", session.listener_port), (b"t", b"2", session.listener_port)]
    assert payloads(reader) == [b"1", b"2"]


def test_each_gets_its_own_identifiers_and_who_wants_none_of_its_own_gets_none() -> None:
    engine = Engine()
    session = writer_of(engine, level=5)
    readers: list[Peer5] = []
    for number in (7, 8, 7):
        peer = connected5(engine, b"reader%d" % len(readers))
        peer.send(Subscribe(1, ((b"t", 0),), Properties(subscription_ids=[number])))
        peer.read()
        readers.append(peer)
    for options, gets in ((4, False), (0, True)):
        link = session.link
        assert link is not None
        engine.subscribe_session(session, b"t", options and 1 << 32 | options)
        hand_on(engine, session, packets(b"1", level=5), 1)
        for number, peer in zip((7, 8, 7), readers, strict=True):
            (packet,) = peer.read()
            assert isinstance(packet, Publish)
            assert packet.properties.subscription_ids == [number]
        assert engine.counters.publishes_sent == (7 if gets else 3)


def test_all_goes_one_by_one_where_a_log_wants_it() -> None:
    engine = Engine()
    session = writer_of(engine, level=5)
    logged: list[tuple[bytes, bytes]] = []

    def log(publication: Publication) -> bool:
        logged.append((publication.payload, publication.properties))
        return True

    reader = subscribed(engine, (b"t", 0))
    engine.log = log
    data = packets(b"1", b"2", level=5, properties=Properties(texts={CONTENT_TYPE: b"x"}))
    hand_on(engine, session, data, 2)
    assert logged == [(b"1", b"\x03\x00\x01x"), (b"2", b"\x03\x00\x01x")]
    assert reader.read() == []


def test_a_run_is_handed_on_when_its_receivers_change_and_at_its_end() -> None:
    engine = Engine()
    session = writer_of(engine)
    one = subscribed(engine, (b"a", 0), (b"b", 0), client_id=b"one")
    other = subscribed(engine, (b"c", 0), client_id=b"other")
    data = b"".join(packets(topic, topic=topic) for topic in (b"a", b"a", b"b", b"c"))
    size = len(data) // 4
    run = Run(engine, session, data)
    for number, topic in enumerate((b"a", b"a", b"b", b"c")):
        run.begin(receivers_of(engine, session, topic), topic, number * size)
        run.add(1)
    assert run.topic == b"c"
    engine.flush()
    assert payloads(one) == [b"a", b"a", b"b"]
    assert payloads(other) == []
    run.end(len(data))
    run.end(len(data))
    engine.flush()
    assert payloads(other) == [b"c"]
    assert engine.counters.publishes_sent == 4
    assert engine.counters.publish_bytes_sent == 4


@pytest.mark.parametrize(
    ("length", "looked_at", "steps"),
    [(0, 0, 4), (63, 7, 4), (64, 0, 5), (65_535, 0, 4 + 1023), (0, 8, 5), (64, 80_000, 10_005)],
)
def test_a_topic_of_many_levels_and_one_that_takes_long_to_look_for_count_for_more(
    length: int, looked_at: int, steps: int
) -> None:
    assert miss_steps(b"/" * length, looked_at) == steps


def test_nobody_is_the_same_for_all() -> None:
    assert isinstance(NOBODY, Targets)
    assert list(NOBODY.pairs()) == []
