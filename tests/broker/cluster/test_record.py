"""A publication between nodes: what is described is read, and whatever else comes is refused in one way."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cluster import record
from broker.core.publication import Publication
from protocol.nats.errors import NatsProtocolError

names = st.one_of(
    st.just(b"-"), st.just(b""), st.text(max_size=5).map(lambda text: text.replace("\0", "").encode())
)
topics = st.sampled_from((b"a", b"a/b", b"/", b"a b/%2D", "ü".encode()))


@given(
    topics,
    st.integers(0, 2),
    st.booleans(),
    names,
    st.one_of(st.none(), names),
    st.integers(0, 65535),
    st.binary(max_size=5),
    st.booleans(),
)
def test_what_is_described_is_read(
    topic: bytes,
    qos: int,
    retain: bool,
    client: bytes,
    user: bytes | None,
    port: int,
    properties: bytes,
    long: bool,
) -> None:
    sent = Publication(topic, b"payload", qos, retain, client, user, port)
    sent.properties = properties
    value = record.describe(sent, b"node", 7, 0.0, 0.0, long)
    read = record.read(value, None if long else topic, b"payload", retain, 0.0, 0.0)
    for name in (
        "topic",
        "payload",
        "qos",
        "retain",
        "client_id",
        "user_name",
        "listener_port",
        "properties",
    ):
        assert getattr(read, name) == getattr(sent, name), name
    assert value.split(b" ")[:2] == [b"node", b"7"]


def test_a_message_expires_at_the_same_moment_by_another_node_s_clock() -> None:
    sent = Publication(b"t", b"")
    sent.expires_at = 130.0
    value = record.describe(sent, b"n", 0, 100.0, 1_700_000_000.0, False)
    assert record.read(value, b"t", b"", False, 5.0, 1_700_000_010.0).expires_at == 25.0
    assert record.read(value, b"t", b"", False, 0.0, 1_700_000_030.0).expires_at > 0.0, "0.0 is never"


def test_one_that_does_not_expire_never_does() -> None:
    value = record.describe(Publication(b"t", b""), b"n", 0, 100.0, 1.7e9, False)
    assert record.read(value, b"t", b"", False, 5.0, 1.8e9).expires_at == 0.0


GOOD = b"node 1 0 c - 1883 - -"


@pytest.mark.parametrize(
    ("place", "word"),
    [
        (1, b"x"),
        (1, b""),
        (1, b"-1"),
        (1, b"9" * 21),
        (1, b"9" * 5000),
        (2, b"3"),
        (2, b"00"),
        (3, b"%"),
        (3, b""),
        (4, b"%2d"),
        (5, b"x"),
        (6, b"1.5"),
        (6, b"9" * 400),
        (7, b"0"),
        (7, b"xx"),
    ],
)
def test_what_no_node_writes_is_refused(place: int, word: bytes) -> None:
    words = GOOD.split(b" ")
    record.read(b" ".join(words), b"t", b"", False, 0.0, 0.0)
    words[place] = word
    with pytest.raises(NatsProtocolError):
        record.read(b" ".join(words), b"t", b"", False, 0.0, 0.0)


@pytest.mark.parametrize(
    ("value", "topic"),
    [
        (GOOD, None),
        (GOOD + b" t", b"t"),
        (b"", b"t"),
        (GOOD + b" %00", None),
        (GOOD, b"a/#"),
        (GOOD + b" a%00", None),
    ],
)
def test_a_topic_stands_in_one_place(value: bytes, topic: bytes | None) -> None:
    with pytest.raises(NatsProtocolError):
        record.read(value, topic, b"", False, 0.0, 0.0)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_description_or_refused(value: bytes) -> None:
    with suppress(NatsProtocolError):
        record.read(value, b"t", b"", False, 0.0, 0.0)


@pytest.mark.parametrize(
    ("block", "value"),
    [
        (b"NATS/1.0\r\nRowcast: a b\r\n\r\n", b"a b"),
        (b"NATS/1.0\r\nNats-Msg-Id: x\r\nRowcast: a\r\nOther: y\r\n\r\n", b"a"),
        (b"NATS/1.0\r\nX-Rowcast: a\r\n\r\n", b""),
        (b"NATS/1.0\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_the_header_is_found_in_its_block(block: bytes, value: bytes) -> None:
    assert record.value_in(block) == value


@given(st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4)), max_size=4))
def test_several_travel_together_and_cut_ones_are_refused(messages: list[tuple[bytes, bytes, bytes]]) -> None:
    data = b"".join(record.pack(*one) for one in messages)
    assert record.unpack(data) == messages
    ends = {
        len(b"".join(record.pack(*one) for one in messages[:count])) for count in range(len(messages) + 1)
    }
    for size in range(len(data)):
        if size not in ends:
            with pytest.raises(NatsProtocolError, match="cut"):
                record.unpack(data[:size])
