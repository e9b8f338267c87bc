"""What no MQTT packet can hold ends nothing but itself."""

from __future__ import annotations

from support.peer import subscribed

from broker.core.engine import Engine
from broker.core.publication import Publication
from protocol.mqtt.framing import REMAINING_LENGTH_MAX


def test_a_message_longer_than_any_packet_is_dropped_and_counted() -> None:
    engine = Engine()
    peer = subscribed(engine, (b"#", 1))
    payload = bytes(REMAINING_LENGTH_MAX)
    for qos in (0, 1, 2):
        engine.publish(Publication(b"p/x", payload, qos, retain=True))
    engine.flush()
    assert peer.read_bytes() == b""
    assert engine.counters.dropped_too_large == 3
    assert len(engine.retained) == 0
