"""What the standard leaves open, decided as Mosquitto decides it; each found by playing both brokers."""

from __future__ import annotations

import re

import pytest
from support.owed import lose
from support.peer import Peer, connected, subscribed

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.links.listening.door import Door
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Will,
)


def door(max_qos: int = 2, **security: object) -> Door:
    allowed = Security(allow_anonymous=True, **security)  # type: ignore[arg-type]
    return Door(Listener(port=1883, max_qos=max_qos, security=allowed), Limits())


def refused_without_a_word(engine: Engine, way_in: Door, will: Will) -> bool:
    peer = Peer(engine, way_in)
    peer.send(Connect(b"a", True, 60, will=will))
    return peer.closed and peer.read_bytes() == b""


def test_an_empty_topic_closes_also_as_the_first_packet() -> None:
    peer = connected(Engine())
    peer.write(b"\x30\x03\x00\x00x")
    assert peer.closed


def test_a_will_that_could_not_be_published_closes_without_connack() -> None:
    engine = Engine(Policy(retain_available=False))
    assert refused_without_a_word(engine, door(max_qos=1), Will(b"t", b"", 2, False))
    assert refused_without_a_word(engine, door(), Will(b"t", b"", 0, True))
    assert refused_without_a_word(engine, door(), Will(b"$CONTROL/x", b"", 0, False))


def test_nobody_hears_what_is_published_below_control() -> None:
    engine = Engine()
    listener, speaker = subscribed(engine, (b"$CONTROL/#", 0)), connected(engine, b"speaker")
    speaker.send(Publish(b"$CONTROL/x", b"y", 1, packet_id=3))
    assert speaker.read() == [Puback(3)]
    assert listener.read() == []


@pytest.mark.parametrize("topic_filter", [b"$share", b"$share/group", b"$share/group/"])
def test_a_shared_subscription_without_filter_closes(topic_filter: bytes) -> None:
    peer = connected(Engine())
    peer.send(Subscribe(1, ((topic_filter, 0),)))
    assert peer.closed


def test_a_shared_subscription_with_filter_is_granted() -> None:
    peer = connected(Engine())
    peer.send(Subscribe(1, ((b"$share/group/a", 1),)))
    assert peer.read() == [Suback(1, (1,))]


def test_ids_made_up_by_the_broker_are_uuids_in_capitals() -> None:
    engine = Engine()
    peer = Peer(engine, door(auto_id_prefix="dev-"))
    peer.send(Connect(b"", True, 60))
    (client_id,) = engine.sessions
    assert re.fullmatch(rb"dev-[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", client_id)


def test_ids_made_up_by_the_broker_need_the_prefix_too() -> None:
    peer = Peer(Engine(), door(clientid_prefixes="dev-"))
    peer.send(Connect(b"", True, 60))
    assert peer.read() == [Connack(False, 5)]
    assert peer.closed


def away(engine: Engine) -> None:
    """A client that left its session behind, subscribed to everything at QoS 1."""
    peer = connected(engine, b"away", clean=False)
    peer.send(Subscribe(1, ((b"#", 1),)))
    peer.drop()


def publish(engine: Engine, *topics: bytes) -> None:
    speaker = connected(engine, b"speaker")
    for topic in topics:
        speaker.send(Publish(topic, b"x", 1, packet_id=1))


def back(engine: Engine) -> list[int]:
    """The client returns: the packet ids of what it gets, which it does not acknowledge."""
    peer = connected(engine, b"away", clean=False, present=True)
    ids = [packet.packet_id for packet in peer.read() if isinstance(packet, Publish)]
    peer.drop()
    return ids


def test_the_message_that_oversteps_max_queued_bytes_is_still_queued() -> None:
    engine = Engine(window=Window(queued_messages=0, queued_bytes=3))
    away(engine)
    publish(engine, b"a", b"a", b"a", b"a")
    assert back(engine) == [1, 2, 3]  # of one byte each: topics do not count


def test_a_message_dropped_for_lost_rights_takes_its_packet_id_with_it() -> None:
    engine = Engine()
    away(engine)
    publish(engine, b"b", b"a", b"b", b"a")
    lose(engine.sessions[b"away"].outbound, b"a")
    assert back(engine) == [1, 3]
    publish(engine, b"b")
    assert back(engine) == [1, 3, 5]


def test_ids_of_dropped_messages_are_passed_over_when_more_is_queued_behind_them() -> None:
    engine = Engine()
    away(engine)
    publish(engine, b"b", b"a")
    lose(engine.sessions[b"away"].outbound, b"a")
    publish(engine, b"b", b"a")
    lose(engine.sessions[b"away"].outbound, b"a")
    assert back(engine) == [1, 3]


def test_a_qos_1_message_with_the_id_of_a_pending_one_replaces_it() -> None:
    engine = Engine()
    listener, speaker = subscribed(engine, (b"t", 0)), connected(engine, b"speaker")
    speaker.send(Publish(b"t", b"two", 2, packet_id=1), Publish(b"t", b"one", 1, packet_id=1), Pubrel(1))
    assert speaker.read() == [Pubrec(1), Puback(1), Pubcomp(1)]
    assert [packet.payload for packet in listener.read() if isinstance(packet, Publish)] == [b"one"]
