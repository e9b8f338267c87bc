"""QoS 0 packets are handed on as they came only to those who want them so; who that is may change."""

from __future__ import annotations

from support.peer import Peer, connected

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine, Policy
from broker.core.session import DeliveryRules
from broker.links.listening.door import Door
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Connack, Connect, Puback, Publish, Subscribe


def away(engine: Engine, topic_filter: bytes) -> None:
    peer = connected(engine, b"client", clean=False)
    peer.send(Subscribe(1, ((topic_filter, 0),)))
    peer.drop()


def publish(engine: Engine, *topics: bytes) -> None:
    connected(engine, b"publisher").send(*(Publish(topic, b"x") for topic in topics))


def test_queueing_qos_0_from_a_reload_on_holds_for_sessions_that_are_there() -> None:
    engine = Engine()
    away(engine, b"t")
    engine.adopt(Policy(), Window(), DeliveryRules(queue_qos0=True))
    publish(engine, b"t", b"t")
    back = connected(engine, b"client", clean=False, present=True)
    assert back.read() == [Publish(b"t", b"x"), Publish(b"t", b"x")]


def test_what_was_queued_at_qos_0_goes_first_also_when_no_more_is_queued() -> None:
    engine = Engine(None, Window(inflight_messages=1), DeliveryRules(queue_qos0=True))
    peer = connected(engine, b"client", clean=False)
    peer.send(Subscribe(1, ((b"t", 1),)))
    peer.drop()
    connected(engine, b"publisher").send(
        *(
            Publish(b"t", payload, qos, packet_id=1 if qos else 0)
            for payload, qos in ((b"1", 1), (b"2", 1), (b"3", 0))
        )
    )
    back = connected(engine, b"client", clean=False, present=True)
    engine.adopt(Policy(), Window(inflight_messages=1), DeliveryRules())
    connected(engine, b"publisher").send(Publish(b"t", b"4"))
    back.send(Puback(1))
    payloads = [packet.payload for packet in back.read() if isinstance(packet, Publish)]
    back.send(Puback(2))
    payloads += [packet.payload for packet in back.read() if isinstance(packet, Publish)]
    assert payloads == [b"1", b"2", b"3", b"4"]


def test_a_session_that_moves_to_another_mount_point_ends() -> None:
    engine = Engine()
    away(engine, b"m/t")
    listener = Listener(port=1884, security=Security(allow_anonymous=True), mount_point="m/")
    peer = Peer(engine, Door(listener, Limits(), connection_messages=False))
    peer.send(Connect(b"client", False, 60))
    publish(engine, b"m/t", b"t")
    assert peer.read() == [Connack(False, 0)]
    assert engine.sessions[b"client"].subscriptions == {}


def test_a_session_that_comes_back_as_a_bridge_hears_no_echo_and_then_does_again() -> None:
    engine = Engine()
    away(engine, b"t")
    bridge = Peer(engine)
    bridge.send(Connect(b"client", False, 60, bridge=True), Publish(b"t", b"own"))
    assert bridge.read() == [Connack(True, 0)]
    bridge.drop()
    client = connected(engine, b"client", clean=False, present=True)
    client.send(Publish(b"t", b"own"))
    assert client.read() == [Publish(b"t", b"own")]
