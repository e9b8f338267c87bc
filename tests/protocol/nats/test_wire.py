"""NATS' client protocol: what a server of version 2.15 sent, however it is cut, and what is no protocol at all."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.nats import headers, wire
from protocol.nats.errors import NatsProtocolError

INFO = (
    b'INFO {"server_id":"NDL","server_name":"n1","version":"2.15.1","proto":1,"headers":true,'
    b'"max_payload":1048576,"jetstream":true,"nonce":"x"} \r\n'
)
ACKED = (
    b"HMSG deliv.1 7 $JS.ACK.shop_MSGS.c1.1.2.2.1795676104685900071.8 61 63\r\n"
    b"NATS/1.0\r\nNats-Batch-Id: b1\r\nNats-Batch-Sequence: 2\r\nX: y\r\n\r\nx1\r\n"
)
HEARTBEAT = (
    b"HMSG deliv.1 7 77 77\r\n"
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 10\r\nNats-Last-Stream: 10\r\n\r\n\r\n"
)
NOBODY = b"HMSG _INBOX.x.r.3 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
PLAIN = b"MSG a.b 9 _INBOX.q 11\r\nhello\r\nPING\r\n"
EMPTY = b"MSG a.b 9 0\r\n\r\n"
RECORDED = [
    INFO,
    b"PING\r\n",
    b"+OK\r\n",
    PLAIN,
    ACKED,
    HEARTBEAT,
    NOBODY,
    EMPTY,
    b"-ERR 'Stale Connection'\r\n",
    b"PONG\r\n",
]


def shown(event: wire.Event) -> object:
    if isinstance(event, wire.Message):
        return (event.subject, event.sid, event.reply, event.block, event.payload)
    if isinstance(event, wire.Info):
        return event.fields
    if isinstance(event, wire.ServerError):
        return (event.text, event.is_fatal)
    return type(event)


def read(*pieces: bytes) -> list[object]:
    reader = wire.Reader()
    return [shown(event) for piece in pieces for event in reader.receive(piece)]


WHOLE = read(b"".join(RECORDED))


def test_everything_a_server_sends_is_read() -> None:
    assert len(WHOLE) == 9
    assert WHOLE[0]["version"] == "2.15.1"  # type: ignore[index]
    assert WHOLE[2] == (b"a.b", 9, b"_INBOX.q", b"", b"hello\r\nPING")
    assert WHOLE[6] == (b"a.b", 9, b"", b"", b"")
    assert WHOLE[7] == ("Stale Connection", True)


def test_byte_by_byte() -> None:
    assert read(*[bytes((byte,)) for byte in b"".join(RECORDED)]) == WHOLE


@given(st.lists(st.integers(0, sum(map(len, RECORDED))), max_size=12))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    data = b"".join(RECORDED)
    places = [0, *sorted(cuts), len(data)]
    assert read(*[data[start:end] for start, end in pairwise(places)]) == WHOLE


@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.sampled_from([b"", b"_INBOX.1"]), st.booleans()), max_size=6
    ),
    st.lists(st.integers(0, 600), max_size=6),
)
def test_any_payload_arrives_as_it_was_sent(sent: list[tuple[bytes, bytes, bool]], cuts: list[int]) -> None:
    data = b""
    for payload, reply, has_headers in sent:
        block = headers.encode({b"A": b"b: c"}) if has_headers else b""
        made = wire.publish(b"s.t", payload, reply, block)
        verb, rest = made.split(b" ", 1)
        data += verb.replace(b"PUB", b"MSG") + b" " + rest.replace(b"s.t ", b"s.t 5 ", 1)
    places = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    found = read(*[data[start:end] for start, end in pairwise(places)])
    assert [(event[2], event[4]) for event in found] == [(reply, payload) for payload, reply, _ in sent]  # type: ignore[index]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"INFO nothing\r\n",
        b"INFO [1]\r\n",
        b"INFO " + b"[" * 100_000 + b"\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 b c 3\r\n",
        b"MSG a x 3\r\nabc\r\n",
        b"MSG a 1 -3\r\nabc\r\n",
        b"MSG a 1 99999999999999999999\r\n",
        b"MSG a 1 68719476736\r\n",
        b"MSG a 1 3\r\nabcd\r\n",
        b"HMSG a 1 9 3\r\nabc\r\n",
        b"x" * (wire.LINE_BYTES_MAX + 1),
    ],
    ids=range(13),
)
def test_what_is_no_protocol_says_so(data: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        wire.Reader().receive(data)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(NatsProtocolError):
        wire.Reader().receive(data)


def test_permissions_are_no_reason_to_hang_up() -> None:
    assert wire.ServerError('Permissions Violation for Publish to "a"').is_fatal is False
    assert wire.ServerError("Authorization Violation").is_fatal is True


def test_headers_there_and_back() -> None:
    block = headers.encode({b"Nats-Msg-Id": b"a:b", b"X": b""})
    assert block == b"NATS/1.0\r\nNats-Msg-Id: a:b\r\nX: \r\n\r\n"
    assert dict(headers.decode(block).values) == {b"Nats-Msg-Id": b"a:b", b"X": b""}


@pytest.mark.parametrize("name", [b"", b"a:b", b"a\r\nb", b"a\nb"])
def test_a_header_that_would_end_its_line_is_refused(name: bytes) -> None:
    with pytest.raises(ValueError, match="one line"):
        headers.encode({name: b"x"})
    if name not in (b"", b"a:b"):
        with pytest.raises(ValueError, match="one line"):
            headers.encode({b"x": name})


@pytest.mark.parametrize(
    "block", [b"x", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0 abc\r\n\r\n", b"NATS/1.0\r\nab\r\n\r\n"]
)
def test_no_block_of_headers(block: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        headers.decode(block)


def test_a_status_is_read_without_the_rest() -> None:
    [message] = wire.Reader().receive(NOBODY)
    assert isinstance(message, wire.Message)
    assert message.status == 503
    [message] = wire.Reader().receive(ACKED)
    assert isinstance(message, wire.Message)
    assert message.status == 0
