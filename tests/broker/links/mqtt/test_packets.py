"""What each packet of a client of 3.1.1 does: its answer, what is remembered, and what ends the connection."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.peer import OPEN_DOOR, Peer, connected, subscribed
from support.peer5 import connected5

from broker.config.model import Limits
from broker.core.engine import Engine
from broker.core.policy import Policy
from broker.core.publication import Publication
from broker.links.listening.door import Door
from broker.links.mqtt.packets import offer_once, take_pubacks
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Will,
)
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY

ANSWERS: list[tuple[list[Packet], list[Packet]]] = [
    ([Publish(b"t", b"x")], []),
    ([Publish(b"t", b"x", 1, packet_id=5)], [Puback(5)]),
    ([Publish(b"t", b"x", 2, packet_id=5)], [Pubrec(5)]),
    ([Publish(b"t", b"x", 2, packet_id=5)] * 2, [Pubrec(5)] * 2),
    ([Publish(b"t", b"x", 2, packet_id=5), Pubrel(5)], [Pubrec(5), Pubcomp(5)]),
    ([Pubrel(5)], [Pubcomp(5)]),
    ([Puback(5)], []),
    ([Pubcomp(5)], []),
    ([Pubrec(5)], [Pubrel(5)]),
    ([Pingreq()], [Pingresp()]),
]


@pytest.mark.parametrize(("sent", "answered"), ANSWERS)
def test_each_packet_has_its_answer(sent: list[Packet], answered: list[Packet]) -> None:
    peer = connected(Engine())
    peer.send(*sent)
    assert peer.read() == answered
    assert not peer.closed


@pytest.mark.parametrize(
    ("sent", "published"),
    [
        ([Publish(b"t", b"x", 2, packet_id=5)], 0),
        ([Publish(b"t", b"x", 2, packet_id=5), Pubrel(5)], 1),
        ([Publish(b"t", b"x", 2, packet_id=5), Publish(b"t", b"x", 2, dup=True, packet_id=5), Pubrel(5)], 1),
        ([Publish(b"t", b"x", 2, packet_id=5), Pubrel(5), Pubrel(5)], 1),
        ([Publish(b"t", b"x", 1, packet_id=5), Publish(b"t", b"x", 1, dup=True, packet_id=5)], 2),
    ],
)
def test_at_qos_2_a_message_is_handed_on_once_and_by_its_pubrel(sent: list[Packet], published: int) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"t", 0))
    connected(engine).send(*sent)
    assert len(reader.read()) == published


def test_a_message_at_qos_1_takes_the_place_of_one_at_qos_2_with_its_id() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"t", 0))
    peer = connected(engine)
    peer.send(Publish(b"t", b"given up", 2, packet_id=5), Publish(b"t", b"y", 1, packet_id=5), Pubrel(5))
    assert reader.read() == [Publish(b"t", b"y")]
    assert peer.read() == [Pubrec(5), Puback(5), Pubcomp(5)]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x41\x02\x00\x05",
        b"\x51\x02\x00\x05",
        b"\x60\x02\x00\x05",
        b"\x71\x02\x00\x05",
        b"\x40\x01\x00",
        b"\x40\x03\x00\x05\x00",
        b"\xc1\x00",
        b"\xd0\x00",
        b"\x20\x02\x00\x00",
        b"\x00\x00",
        b"\xf0\x00",
    ],
)
def test_what_no_client_may_send_ends_the_connection_without_a_word(raw: bytes) -> None:
    peer = connected(Engine())
    peer.write(raw)
    assert peer.closed
    assert peer.read_bytes() == b""


RUNS_OF_PUBACKS = [
    (b"\x40\x02\0\1\x40\x02\0\2\x40\x02\0\3", 3, 3, False),
    (b"\x40\x02\0\3\x40\x02\0\3\x40\x02\0\1", 3, 2, False),
    (b"\x40\x02\0\1\x40\x02\1\0\x40\x02\0\2", 3, 2, False),
    (b"\x40\x02\0\1\xc0\0\x40\x02\0\2", 3, 2, False),
    (b"\x40\x02\0\1\x40\x02\0", 1, 1, False),
    (b"\x40\x02\0\1\x40", 1, 1, False),
    (b"\x40\x02\0\1\x40\x02\0\0\x40\x02\0\2", 2, 1, True),
    (b"\x40\x02\0\0\x40\x02\0\1", 1, 0, True),
    (b"\x40\x02\0\1\x41\x02\0\2\x40\x02\0\3", 2, 1, True),
]


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize(("raw", "packets", "acknowledged", "closed"), RUNS_OF_PUBACKS)
def test_pubacks_that_come_together_count_one_by_one(
    raw: bytes, packets: int, acknowledged: int, closed: bool, level: int
) -> None:
    engine = Engine()
    kept = Properties({SESSION_EXPIRY: 60})
    reader = connected5(engine, properties=kept) if level == 5 else connected(engine, clean=False)
    reader.send(Subscribe(1, ((b"t", 1),)))
    for payload in (b"one", b"two", b"three"):
        engine.publish(Publication(b"t", payload, 1))
    outbound = engine.sessions[b"client"].outbound
    before = engine.counters.packets_received
    reader.write(raw)
    assert outbound.inflight_count() == 3 - acknowledged
    assert (engine.counters.packets_received - before, reader.closed) == (packets, closed)


def test_pubacks_that_come_together_leave_others_their_turn() -> None:
    engine = Engine()
    reader = connected(engine)
    link, session = reader.link, engine.sessions[b"client"]
    run = b"".join(encode(Puback(packet_id)) for packet_id in range(1, 11))
    link.steps = 4
    assert take_pubacks(link, session, run, 2) == 4 * len(encode(Puback(1)))


@pytest.mark.parametrize("raw", [b"\x41\x02\x00\x05", b"\x51\x02\x00\x05", b"\x60\x02\x00\x05", b"\xc1\x00"])
def test_3_1_may_set_flags_that_have_no_meaning(raw: bytes) -> None:
    peer = Peer(Engine())
    peer.send(Connect(b"c", True, 60, 3))
    peer.write(raw)
    assert not peer.closed


@pytest.mark.parametrize(("goodbye", "published"), [(True, False), (False, True)])
def test_a_goodbye_takes_the_will_away(goodbye: bool, published: bool) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"gone", 0))
    peer = connected(engine, will=Will(b"gone", b"x", 0, False))
    if goodbye:
        peer.send(Disconnect())
    else:
        peer.drop()
    assert peer.closed
    assert reader.read() == ([Publish(b"gone", b"x")] if published else [])


@pytest.mark.parametrize(
    ("qos", "max_qos", "may"), [(1, 1, True), (2, 1, False), (1, 0, False), (2, 2, True)]
)
def test_a_message_above_the_listeners_qos_ends_the_connection(qos: int, max_qos: int, may: bool) -> None:
    door = Door(evolve(OPEN_DOOR.listener, max_qos=max_qos), Limits(), connection_messages=False)
    peer = connected(Engine(), door=door)
    peer.send(Publish(b"t", b"x", qos, packet_id=1))
    assert peer.closed != may


@pytest.mark.parametrize(
    ("available", "retain", "may"), [(True, True, True), (False, True, False), (False, False, True)]
)
def test_where_nothing_is_retained_who_retains_is_closed(available: bool, retain: bool, may: bool) -> None:
    peer = connected(Engine(policy=Policy(retain_available=available)))
    peer.send(Publish(b"t", b"x", 1, retain=retain, packet_id=1))
    assert peer.closed != may


@pytest.mark.parametrize("topic", [b"", b"a/#", b"+", b"\xff", b"a\0"])
def test_what_is_no_topic_name_ends_the_connection(topic: bytes) -> None:
    engine = Engine()
    peer = connected(engine)
    peer.write(b"\x32" + bytes((len(topic) + 4, 0, len(topic))) + topic + b"\x00\x01")
    assert peer.closed
    assert engine.counters.protocol_errors == 1


def test_a_message_of_a_client_says_whose_it_is_and_stands_below_its_mount_point() -> None:
    engine = Engine()
    door = Door(evolve(OPEN_DOOR.listener, mount_point="site/"), Limits(), connection_messages=False)
    peer = connected(engine, b"c", door=door)
    peer.send(Publish(b"t", b"x", 1, retain=True, packet_id=1))
    (kept,) = engine.retained.all()
    assert (kept.topic, kept.client_id, kept.user_name, kept.listener_port) == (
        b"site/t",
        b"c",
        None,
        door.port,
    )


def test_a_message_that_is_sent_again_says_so_to_tables() -> None:
    engine = Engine()
    came: list[tuple[int, bool]] = []
    engine.ingest = lambda publication: came.append((publication.packet_id, publication.dup))
    peer = connected(engine)
    for dup in (False, True):
        peer.send(Publish(b"t", b"x", 2, dup=dup, packet_id=4 + dup))
    assert came == [(4, False), (5, True)]


class Tables:
    """Takes note of what it is given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, publication: Publication) -> None:
        self.given.append(publication.payload)


def test_tables_get_a_message_at_qos_2_once_and_before_its_pubrec() -> None:
    engine = Engine()
    engine.ingest = tables = Tables()
    peer = connected(engine)
    message = Publish(b"t", b"x", 2, packet_id=5)
    peer.send(message)
    assert tables.given == [b"x"]
    assert peer.read() == [Pubrec(5)]
    peer.send(message, Pubrel(5))
    assert peer.read() == [Pubrec(5), Pubcomp(5)]
    assert tables.given == [b"x"]


def test_a_message_that_was_read_from_the_file_is_given_once_when_it_is_sent_again() -> None:
    engine = Engine()
    engine.ingest = tables = Tables()
    connected(engine)
    session = engine.sessions[b"client"]
    kept = Publication(b"t", b"kept", 2)
    session.expect().accept(5, kept, False)
    for _ in range(2):
        assert offer_once(engine, session, 5, Publication(b"t", b"again", 2)) is kept
    assert tables.given == [b"kept"]
    assert (kept.packet_id, kept.dup) == (5, True)
