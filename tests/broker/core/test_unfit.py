"""What no MQTT packet can hold ends nothing but itself."""

from __future__ import annotations

import pytest
from support.peer import subscribed
from support.peer5 import connected5

from broker.core.engine import Engine
from broker.core.publication import Publication
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.packets import Subscribe
from protocol.mqtt.v5.properties import Properties
from protocol.mqtt.v5.property_table import TOPIC_ALIAS_MAXIMUM


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


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize(
    ("properties", "expires_at", "payload_bytes"),
    [(b"", 9.0, REMAINING_LENGTH_MAX - 8), (b"\x26\x00\x01nvvvv" * 40_000, 0.0, REMAINING_LENGTH_MAX - 100)],
    ids=["expiry", "user properties"],
)  # fmt: skip
def test_a_message_too_long_for_a_packet_of_5_reaches_those_of_older_versions_alone(
    qos: int, properties: bytes, expires_at: float, payload_bytes: int
) -> None:
    engine = Engine()
    newer, older = connected5(engine), subscribed(engine, (b"#", 0), client_id=b"older")
    newer.send(Subscribe(1, ((b"#", qos),)))
    newer.read()
    publication = Publication(b"p", bytes(payload_bytes), qos)
    publication.properties, publication.expires_at = properties, expires_at
    engine.publish(publication)
    engine.flush()
    assert newer.read_bytes() == b""
    assert len(older.read_bytes()) == 5 + 2 + 1 + payload_bytes
    assert engine.counters.dropped_too_large == 1


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_that_fits_without_a_topic_alias_goes_without_one(qos: int) -> None:
    engine = Engine()
    peer = connected5(engine, properties=Properties({TOPIC_ALIAS_MAXIMUM: 5}))
    peer.send(Subscribe(1, ((b"#", qos),)))
    peer.read()
    engine.publish(Publication(b"p", bytes(REMAINING_LENGTH_MAX - 6), qos))
    engine.flush()
    assert len(peer.read_bytes()) == 5 + REMAINING_LENGTH_MAX - (2 if qos == 0 else 0)
    assert engine.counters.dropped_too_large == 0
