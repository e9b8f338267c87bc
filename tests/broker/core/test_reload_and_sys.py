"""Settings that SIGHUP changes hold at once; what begins with `$SYS` is the broker's, but a bridge's state."""

from __future__ import annotations

import pytest
from support.peer import connected, subscribed

from broker.core.engine import Engine, Policy
from broker.core.publication import Publication
from broker.core.session import DeliveryRules
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import SUBSCRIBE_FAILURE, Publish, Suback, Subscribe, Will


def test_allow_duplicate_messages_holds_at_once_also_for_topics_that_are_remembered() -> None:
    engine = Engine()
    reader = subscribed(engine, (b"a/#", 0), (b"a/+", 0))
    for duplicates, copies in ((False, 1), (True, 2), (False, 1)):
        engine.adopt(Policy(allow_duplicate_messages=duplicates), Window(), DeliveryRules())
        engine.publish(Publication(b"a/b", b"x"))
        engine.flush()
        assert len(reader.read()) == copies


def test_bounds_of_retained_messages_hold_at_once_and_take_nothing_away() -> None:
    engine = Engine()
    writer = connected(engine, b"writer")

    def retain(*topics: bytes) -> set[bytes]:
        for topic in topics:
            writer.send(Publish(topic, b"12", retain=True))
        return {kept.topic for kept in engine.retained.all()}

    assert retain(b"a", b"b", b"c") == {b"a", b"b", b"c"}
    engine.adopt(Policy(retained_messages_max=2), Window(), DeliveryRules())
    assert retain(b"d") == {b"a", b"b", b"c"}
    engine.adopt(Policy(retained_bytes_max=12), Window(), DeliveryRules())
    assert retain(b"e", b"f") == {b"a", b"b", b"c", b"e"}
    engine.adopt(Policy(), Window(), DeliveryRules())
    assert retain(b"g") == {b"a", b"b", b"c", b"e", b"g"}
    assert engine.counters.dropped_retained_full == 2


@pytest.mark.parametrize(
    ("topic", "passes"),
    [
        (b"$SYS/broker/connection/b.edge/state", True),
        (b"$SYS/broker/connection//state", True),
        (b"$SYS/broker/connection/state", False),
        (b"$SYS/broker/connection/a/b/state", False),
        (b"$SYS/broker/connection/a/state/x", False),
        (b"$SYS/broker/uptime", False),
        (b"$SYS", False),
        (b"$SYSTEM/x", False),
        (b"$CONTROL/x", False),
        (b"$test/test", True),
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_of_sys_only_a_bridges_state_passes(topic: bytes, passes: bool, qos: int) -> None:
    engine = Engine()
    reader = subscribed(engine, (b"$SYS/#", 0), (b"$SYSTEM/#", 0), (b"$CONTROL/#", 0), (b"$test/#", 0))
    writer = connected(engine, b"writer")
    writer.send(Publish(topic, b"1", qos=qos, retain=True, packet_id=qos))
    assert len(reader.read()) == int(passes)
    assert len(engine.retained) == int(passes)
    assert not writer.closed


def test_a_bridges_will_says_that_it_is_gone() -> None:
    engine = Engine()
    topic = b"$SYS/broker/connection/b/state"
    reader = subscribed(engine, (topic, 0))
    bridge = connected(engine, b"bridge", will=Will(topic, b"0", 0, True))
    bridge.drop()
    assert [packet.payload for packet in reader.read()] == [b"0"]  # type: ignore[union-attr]


def test_the_bound_of_subscriptions_refuses_new_ones_and_takes_nothing_away() -> None:
    engine = Engine()
    client = connected(engine, b"c")

    def codes(packet_id: int, *names: bytes) -> list[int]:
        client.send(Subscribe(packet_id, tuple((name, 1) for name in names)))
        [answer] = client.read()
        assert isinstance(answer, Suback)
        return list(answer.return_codes)

    assert codes(1, b"a", b"b", b"c") == [1, 1, 1]
    engine.adopt(Policy(subscriptions_max=2), Window(), DeliveryRules())
    assert codes(2, b"a", b"d", b"$share/g/e") == [1, SUBSCRIBE_FAILURE, SUBSCRIBE_FAILURE]
    engine.adopt(Policy(subscriptions_max=4), Window(), DeliveryRules())
    assert codes(3, b"d", b"e") == [1, SUBSCRIBE_FAILURE]
    assert engine.counters.subscriptions_refused == 3
