"""MQTT 5.0 §3.8 to §3.11, §4.1, §4.5, §4.7, §4.8, §6: subscriptions, statement by statement."""

from __future__ import annotations

import pytest
from support.packet_case import framed, string
from support.peer import connected
from support.peer5 import Peer5, connected5

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.links.listening.door import Door
from protocol.mqtt.packets import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import SESSION_EXPIRY
from protocol.mqtt.v5.reasons import ReasonCode

KEPT = Properties({SESSION_EXPIRY: 1000})


def mounted(mount_point: bytes) -> Door:
    listener = Listener(port=1883, security=Security(allow_anonymous=True), mount_point=mount_point.decode())
    return Door(listener, Limits(), connection_messages=False)


def publishes(peer: Peer5) -> list[Publish]:
    return [packet for packet in peer.read() if isinstance(packet, Publish)]


def subscriber(engine: Engine, topic_filter: bytes, options: int = 1, client_id: bytes = b"s") -> Peer5:
    peer = connected5(engine, client_id, properties=KEPT)
    peer.send(Subscribe(1, ((topic_filter, options),)))
    assert isinstance(peer.read()[0], Suback)
    return peer


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (framed(0x82, b"\x00\x01\x00" + string(b"\xff") + b"\x00"), 0x81),  # [MQTT-3.8.3-1]
        (framed(0x82, b"\x00\x01\x00" + string(b"a/#/b") + b"\x00"), 0x81),  # [MQTT-4.7.1-1]
        (framed(0x82, b"\x00\x01\x00" + string(b"a#") + b"\x00"), 0x81),
        (framed(0x82, b"\x00\x01\x00" + string(b"a+/b") + b"\x00"), 0x81),  # [MQTT-4.7.1-2]
        (framed(0x82, b"\x00\x01\x00" + string(b"") + b"\x00"), 0x81),  # [MQTT-4.7.3-1]
        (framed(0x82, b"\x00\x00\x00" + string(b"a") + b"\x00"), 0x81),  # [MQTT-2.2.1-3]
        (framed(0x82, b"\x00\x01\x00" + string(b"$share/g/a") + b"\x04"), 0x82),  # [MQTT-3.8.3-4]
        (framed(0xA2, b"\x00\x01\x00" + string(b"\xff")), 0x81),  # [MQTT-3.10.3-1]
        (framed(0xA2, b"\x00\x01\x00"), 0x82),  # [MQTT-3.10.3-2]
    ],
)
def test_a_subscribe_or_unsubscribe_that_is_none_ends_the_connection(raw: bytes, code: int) -> None:
    peer = connected5(Engine())
    peer.write(raw)
    assert peer.read() == [Disconnect(code)]
    assert peer.closed


def test_each_filter_is_answered_in_its_place() -> None:
    peer = connected5(Engine())
    peer.send(
        Subscribe(7, ((b"a", 2), (b"$share/+/t", 0), (b"b", 1), (b"$ws/x", 0), (b"c", 0))),
        Unsubscribe(8, (b"a", b"never", b"c")),
    )
    # [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
    # [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    assert peer.read() == [
        Suback(7, (2, ReasonCode.TOPIC_FILTER_INVALID, 1, ReasonCode.NOT_AUTHORIZED, 0)),
        Unsuback(8, (0, ReasonCode.NO_SUBSCRIPTION_EXISTED, 0)),
    ]


@pytest.mark.parametrize("mount_point", [b"", b"tenant/"])
def test_a_shared_subscription_that_lacks_a_part_is_refused_and_the_others_hold(mount_point: bytes) -> None:
    misnamed = (
        b"$share",
        b"$share/",
        b"$share/g",
        b"$share/g/",
        b"$share//t",
        b"$share/+/t",
        b"$share/a#b/t",
    )
    peer = connected5(Engine(), door=mounted(mount_point))
    filters = tuple((name, 0) for name in (b"a", *misnamed, b"$share/g/t"))
    peer.send(Subscribe(1, filters), Unsubscribe(2, misnamed), Publish(b"a", b"1"))
    # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    assert peer.read() == [
        Suback(1, (0, *[ReasonCode.TOPIC_FILTER_INVALID] * len(misnamed), 0)),
        Unsuback(2, (ReasonCode.NO_SUBSCRIPTION_EXISTED,) * len(misnamed)),
        Publish(b"a", b"1"),
    ]


def test_subscribing_again_replaces_all_that_was_asked_for() -> None:
    engine = Engine()
    writer = connected5(engine, b"w")
    writer.send(Publish(b"a", b"kept", 1, True, packet_id=1))
    peer = connected5(engine, b"s")
    peer.send(Subscribe(1, ((b"a", 2 | 4 | 8),), Properties(subscription_ids=[5])))
    assert [p.properties.subscription_ids for p in publishes(peer)] == [[5]]
    peer.send(Subscribe(2, ((b"a", 0),), Properties(subscription_ids=[6])))
    (again,) = publishes(peer)  # [MQTT-3.8.4-3] [MQTT-3.8.4-4]
    assert (again.qos, again.retain, again.properties.subscription_ids) == (0, True, [6])
    peer.send(Publish(b"a", b"own", 0, True))
    (own,) = publishes(peer)
    assert (own.retain, own.properties.subscription_ids) == (False, [6])
    peer.send(Subscribe(3, ((b"a", 0x20),)))
    peer.read()
    peer.send(Publish(b"a", b"own"))
    assert publishes(peer) == [Publish(b"a", b"own")]


def test_no_local_holds_for_retained_messages_too() -> None:
    engine = Engine()
    peer = connected5(engine, b"s")
    peer.send(Publish(b"a", b"kept", 0, True), Subscribe(1, ((b"a", 4),)))
    assert publishes(peer) == []  # [MQTT-3.8.3-3]


def test_unsubscribing_ends_what_is_new_and_completes_what_was_sent() -> None:
    engine = Engine()
    peer = subscriber(engine, b"a/+", 2)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"a/b", b"1", 1, packet_id=1))
    (first,) = publishes(peer)
    peer.send(Unsubscribe(2, (b"a/b",)))  # not character by character the same [MQTT-3.10.4-1]
    assert peer.read() == [Unsuback(2, (ReasonCode.NO_SUBSCRIPTION_EXISTED,))]
    peer.send(Unsubscribe(3, (b"a/+",)))
    peer.read()
    writer.send(Publish(b"a/b", b"2", 1, packet_id=1))
    assert publishes(peer) == []  # [MQTT-3.10.4-2]
    peer.drop()
    again = connected5(engine, b"s", clean=False, properties=KEPT, present=True)
    assert [packet.payload for packet in publishes(again)] == [b"1"]  # [MQTT-3.10.4-3]
    again.send(Puback(first.packet_id))


def test_wildcards_do_not_match_what_begins_with_a_dollar() -> None:
    engine = Engine()
    peers = [subscriber(engine, f, 0, b"s%d" % i) for i, f in enumerate((b"#", b"+/x", b"$local/x"))]
    connected5(engine, b"w").send(Publish(b"$local/x", b""))
    assert [len(publishes(peer)) for peer in peers] == [0, 0, 1]  # [MQTT-4.7.2-1]


def test_a_message_goes_to_every_session_that_matches_here_or_away() -> None:
    engine = Engine()
    here, away = subscriber(engine, b"t"), subscriber(engine, b"+", client_id=b"away")
    away.drop()
    connected5(engine, b"w").send(Publish(b"t", b"x", 1, packet_id=1))
    assert len(publishes(here)) == 1  # [MQTT-4.5.0-1]
    engine.now += 900
    engine.expire()
    back = connected5(engine, b"away", clean=False, properties=KEPT, present=True)  # [MQTT-4.1.0-1]
    assert [packet.payload for packet in publishes(back)] == [b"x"]


# --- shared subscriptions ---------------------------------------------------------------------------------


def shared(engine: Engine, client_id: bytes, qos: int = 1, group: bytes = b"g") -> Peer5:
    return subscriber(engine, b"$share/" + group + b"/t", qos, client_id)


def test_a_message_goes_to_one_of_a_group_and_at_the_qos_of_that_one() -> None:
    engine = Engine()
    low, high = shared(engine, b"low", 0), shared(engine, b"high", 2)
    other, alone = shared(engine, b"other", 1, b"h"), subscriber(engine, b"t", 1, b"alone")
    writer = connected5(engine, b"w")
    for number in range(4):
        writer.send(Publish(b"t", b"%d" % number, 1, packet_id=1))
    got_low, got_high = publishes(low), publishes(high)
    # [MQTT-4.8.2-3]
    assert sorted(packet.payload for packet in got_low + got_high) == [b"0", b"1", b"2", b"3"]
    assert {packet.qos for packet in got_low} == {0}
    assert {packet.qos for packet in got_high} == {1}
    assert [len(publishes(peer)) for peer in (other, alone)] == [4, 4]


def test_a_group_gets_no_retained_messages() -> None:
    engine = Engine()
    connected5(engine, b"w").send(Publish(b"t", b"kept", 0, True))
    assert publishes(shared(engine, b"a")) == []
    peer = connected5(engine, b"b")
    peer.send(Subscribe(1, ((b"$share/g/#", 1),)))
    assert len(peer.read()) == 1


def test_a_message_for_one_of_a_group_stays_its_own() -> None:
    engine = Engine()
    one = shared(engine, b"one", 2)
    writer = connected5(engine, b"w")
    writer.send(Publish(b"t", b"mine", 1, packet_id=1))
    assert len(publishes(one)) == 1
    one.drop()
    two = shared(engine, b"two", 2)
    engine.expire()
    assert publishes(two) == []  # [MQTT-4.8.2-4]
    one = connected5(engine, b"one", clean=False, properties=KEPT, present=True)
    assert [(packet.payload, packet.dup) for packet in publishes(one)] == [(b"mine", True)]
    one.drop()
    connected5(engine, b"one").drop()
    assert publishes(two) == []  # [MQTT-4.8.2-5]


def test_a_message_that_one_of_a_group_refuses_goes_to_nobody_else() -> None:
    engine = Engine()
    peers = [shared(engine, b"one", 2), shared(engine, b"two", 2)]
    connected5(engine, b"w").send(Publish(b"t", b"", 1, packet_id=1))
    for peer in peers:
        for packet in publishes(peer):
            peer.send(Puback(packet.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert [publishes(peer) for peer in peers] == [[], []]  # [MQTT-4.8.2-6]


def test_a_member_keeps_its_options_and_identifier() -> None:
    engine = Engine()
    peer = connected5(engine, b"s")
    peer.send(Subscribe(1, ((b"$share/g/t", 1 | 8),), Properties(subscription_ids=[3])))
    peer.read()
    connected5(engine, b"w").send(Publish(b"t", b"", 1, True, packet_id=1))
    (publish,) = publishes(peer)
    assert (publish.retain, publish.properties.subscription_ids) == (True, [3])
    peer.send(Puback(1), Unsubscribe(2, (b"$share/g/t", b"t")), Pingreq())
    assert peer.read() == [Unsuback(2, (0, ReasonCode.NO_SUBSCRIPTION_EXISTED)), Pingresp()]
    assert not len(engine.shared)


def test_a_refusal_of_qos_2_in_a_group() -> None:
    engine = Engine()
    peers = [shared(engine, b"one", 2), shared(engine, b"two", 2)]
    writer = connected5(engine, b"w")
    writer.write(framed(0x34, string(b"t") + b"\x00\x01\x00") + b"\x62\x02\x00\x01")
    for peer in peers:
        for packet in publishes(peer):
            peer.send(Pubrec(packet.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert [publishes(peer) for peer in peers] == [[], []]
    assert sum(session.outbound.inflight_count() for session in engine.sessions.values()) == 0


def test_one_subscription_too_many_is_refused_in_words() -> None:
    engine = Engine(Policy(subscriptions_max=1))
    peer = subscriber(engine, b"a")
    peer.send(Subscribe(2, ((b"a", 0), (b"b", 0))))
    assert peer.read() == [Suback(2, (0, ReasonCode.QUOTA_EXCEEDED))]
    peer.send(Unsubscribe(3, (b"a",)), Subscribe(4, ((b"b", 0),)))
    assert peer.read() == [Unsuback(3, (0,)), Suback(4, (0,))]


def test_filters_with_many_levels_count_for_what_they_take_and_give_it_back() -> None:
    engine = Engine(Policy(subscriptions_max=50))
    peer = subscriber(engine, b"a/b/c/d/e/f/g/+")
    deep = [b"%d" % number + b"/x" * 190 + b"/#" for number in range(3)]
    exact = b"y" + b"/y" * 190
    for again in range(3):
        peer.send(Subscribe(1, tuple((one, 0) for one in (*deep, exact, deep[0]))))
        assert peer.read() == [Suback(1, (0, 0, ReasonCode.QUOTA_EXCEEDED, 0, 0))]
        peer.send(Unsubscribe(2, (*deep, exact)))
        assert peer.read() == [Unsuback(2, (0, 0, ReasonCode.NO_SUBSCRIPTION_EXISTED, 0))], again
    peer.send(Subscribe(3, tuple((b"%d/+" % number, 0) for number in range(50))))
    assert peer.read() == [Suback(3, (*[0] * 49, ReasonCode.QUOTA_EXCEEDED))]


@pytest.mark.parametrize("topic_filter", [b"#", b"+", b"+/a", b"$share/g/#"])
def test_a_filter_that_a_mount_point_makes_one_without_topics_is_granted(topic_filter: bytes) -> None:
    """As mosquitto: `site` and `#` make `site#`, which is the name of nothing.  The client stays, and gets nothing."""
    engine = Engine()
    door = mounted(b"site")
    peer = connected5(engine, b"c", door=door)
    old = connected(engine, b"old", door=door)
    engine.publish(Publication(b"site/a", b"kept", 0, True))
    for one in (peer, old):
        one.send(Subscribe(1, ((topic_filter, 1), (b"/b", 2))))
        assert one.read() == [Suback(1, (1, 2))]
    for topic in (b"site/a", b"sitea", b"site", b"other"):
        engine.publish(Publication(topic, b"x"))
    engine.flush()
    assert (peer.read(), old.read()) == ([], [])
    for one in (peer, old):
        one.send(Unsubscribe(2, (topic_filter,)))
    assert old.read() == [Unsuback(2)]
    assert isinstance(peer.read()[0], Unsuback)
