"""What `rowcast.publish()` writes, read back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.added import Added
from broker.feed.sql_publish import Unpublishable, parse_publish
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.v5.properties import read_properties


def content(topic: bytes, payload: bytes, qos: int, retain: bool) -> bytes:
    return bytes([qos + 4 * retain]) + len(topic).to_bytes(3, "big") + topic + payload


@given(st.text("abc/é", min_size=1), st.binary(), st.integers(0, 2), st.booleans())
def test_content_is_read_back(topic: str, payload: bytes, qos: int, retain: bool) -> None:
    name = topic.encode()
    assert parse_publish(content(name, payload, qos, retain)) == (name, payload, qos, retain)


@pytest.mark.parametrize("topic", [b"", b"a/+", b"#", b"$SYS/x", b"$other", b"\xff", b"a\0"])
def test_topics_that_nothing_may_be_published_to_are_refused(topic: bytes) -> None:
    with pytest.raises(Unpublishable):
        parse_publish(content(topic, b"x", 0, False))


def test_channels_of_dialects_may_be_published_to() -> None:
    assert parse_publish(content(b"$ws/econia/fill_event", b"x", 0, False))[0] == b"$ws/econia/fill_event"


@given(st.binary(max_size=20))
def test_arbitrary_content_is_read_or_refused(data: bytes) -> None:
    """Anybody may write a logical message with our prefix."""
    try:
        topic, payload, qos, retain, *added = parse_publish(data)
    except Unpublishable:
        return
    assert added or content(topic, payload, qos, retain) == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["expiry", "content_type", "response_topic", "correlation_data", "user_properties", "x"]
)


@given(st.dictionaries(NAMES, JSON))
def test_arbitrary_properties_are_what_a_packet_can_carry_or_refused(properties: dict[str, object]) -> None:
    text = json.dumps(properties).encode()
    data = b"\x08" + b"\x00\x00\x01t" + len(text).to_bytes(4, "big") + text + b"payload"
    try:
        outgoing = parse_publish(data)
    except Unpublishable:
        return
    assert outgoing[:4] == (b"t", b"payload", 0, False)
    added = outgoing[-1]
    assert isinstance(added, Added)
    packed = encode_variable(len(added.properties)) + added.properties
    assert read_properties(packed, 0, len(packed), 3)[1] == len(packed)
    assert added.expiry_s is None or 0 <= added.expiry_s <= 0xFFFF_FFFF


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null", b"\xff", b'{"expiry": NaN}', b"[" * 10_000])
def test_what_is_no_object_of_properties_is_refused(text: bytes) -> None:
    with pytest.raises(Unpublishable):
        parse_publish(b"\x08\x00\x00\x01t" + len(text).to_bytes(4, "big") + text)


@pytest.mark.parametrize("cut", range(4, 11))
def test_properties_that_are_cut_are_refused(cut: int) -> None:
    with pytest.raises(Unpublishable):
        parse_publish((b"\x08\x00\x00\x01t" + (2).to_bytes(4, "big") + b"{}")[:cut])
