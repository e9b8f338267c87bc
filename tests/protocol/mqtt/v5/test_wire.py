"""The hand codec of 5.0 held against the layouts in `protocol.mqtt.v5.wire`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from construct import ConstructError
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases

from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Packet, Publish, Subscribe
from protocol.mqtt.v5.codec import decode, encode, publish_parts
from protocol.mqtt.v5.wire import PACKET

_spec = importlib.util.spec_from_file_location("codec5", Path(__file__).parent / "test_codec.py")
assert _spec is not None
assert _spec.loader is not None
_codec5: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_codec5)
PACKETS: st.SearchStrategy[Packet] = _codec5.PACKET


@settings(derandomize=True, max_examples=cases(400), deadline=None)
@given(PACKETS)
def test_what_the_hand_path_writes_has_the_declared_layout(packet: Packet) -> None:
    raw = encode(packet)
    parsed = PACKET.parse(raw)
    assert PACKET.build(parsed) == raw
    body = parsed.body
    if isinstance(packet, Publish):
        assert (body.topic_name, body.packet_id or 0, body.payload) == (
            packet.topic,
            packet.packet_id,
            packet.payload,
        )
        start, end = frame_at(raw, 0, 0)
        topic, packet_id, _, payload_start = publish_parts(raw[0], raw, start, end)
        assert (topic, packet_id, raw[payload_start:]) == (packet.topic, packet.packet_id, packet.payload)
    if isinstance(packet, Subscribe):
        assert [one.topic_filter for one in body.filters] == [name for name, _ in packet.filters]
    if hasattr(packet, "properties") and getattr(body, "properties", None) is not None:
        found = [one.identifier for one in body.properties.all]
        named = packet.properties
        assert sorted(found) == sorted(
            [*named.numbers, *named.texts, *[38] * len(named.user), *[11] * len(named.subscription_ids)]
        )


@settings(derandomize=True, max_examples=cases(400), deadline=None)
@given(PACKETS, st.data())
def test_what_has_not_the_layout_the_hand_path_refuses(packet: Packet, data: st.DataObject) -> None:
    raw = bytearray(encode(packet))
    start, _ = frame_at(bytes(raw), 0, 0)
    inner = raw[start:]
    if inner:
        at = data.draw(st.integers(0, len(inner) - 1))
        inner[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    changed = _codec5.framed(raw[0], bytes(inner))
    try:
        PACKET.parse(changed)
    except ConstructError:
        body, end = frame_at(changed, 0, 0)
        with pytest.raises(ProtocolError):
            decode(changed[0], changed[body:end])
