"""What `rowcast.publish()` writes, read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feed.sql_publish import Unpublishable, parse_publish


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
        topic, payload, qos, retain = parse_publish(data)
    except Unpublishable:
        return
    assert content(topic, payload, qos, retain) == data
