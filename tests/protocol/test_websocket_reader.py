"""Frames a client writes, in any pieces: every rule with its bytes written out, and chance against wsproto.

Each case is read whole, byte by byte, and with every byte of what is left over kept from the reader: what comes out
may depend on the bytes alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.websockets import masked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.events import Ping as SentPing

from protocol.websocket_reader import (
    Binary,
    Event,
    FrameReader,
    PeerClose,
    Ping,
    Pong,
    Text,
    WebSocketError,
    unmask,
)

LIMIT = 1000

Seen = tuple[object, ...]


def read(pieces: Iterable[bytes], limit: int = LIMIT, in_pieces: bool = False) -> list[Seen]:
    """All that comes of these pieces; neighbouring pieces of binary messages joined, an error as the last."""
    reader = FrameReader(limit, in_pieces)
    seen: list[Seen] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                _note(seen, event, in_pieces)
    except WebSocketError as error:
        seen.append(("error", error.code))
    return seen


def _note(seen: list[Seen], event: Event, joins: bool) -> None:
    if isinstance(event, Text):
        seen.append(("text", event.text))
    elif isinstance(event, Binary):
        if joins and seen and seen[-1][0] == "binary":
            seen[-1] = ("binary", bytes(seen[-1][1]) + event.data)  # type: ignore[call-overload]
        else:
            seen.append(("binary", event.data))
    elif isinstance(event, Ping):
        seen.append(("ping", event.payload))
    elif isinstance(event, Pong):
        seen.append(("pong",))
    elif isinstance(event, PeerClose):
        seen.append(("close", event.code, event.reason))


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


CASES: dict[str, tuple[bytes, list[Seen]]] = {
    "text": (masked(0x81, b"Hello"), [("text", "Hello")]),
    "masked text, RFC 6455 5.7": (bytes.fromhex("818537fa213d7f9f4d5158"), [("text", "Hello")]),
    "empty text": (masked(0x81, b""), [("text", "")]),
    "binary": (masked(0x82, b"\x00\xff"), [("binary", b"\x00\xff")]),
    "126 bytes": (masked(0x82, b"x" * 126), [("binary", b"x" * 126)]),
    "as long as may be": (masked(0x82, b"x" * LIMIT), [("binary", b"x" * LIMIT)]),
    "three fragments": (
        masked(0x01, b"a") + masked(0x00, b"") + masked(0x80, b"b"),
        [("text", "ab")],
    ),
    "a character cut by fragments": (masked(0x01, b"\xc3") + masked(0x80, b"\xa9"), [("text", "é")]),
    "control frames between fragments": (
        masked(0x02, b"a") + masked(0x89, b"p") + masked(0x8A, b"") + masked(0x80, b"b"),
        [("ping", b"p"), ("pong",), ("binary", b"ab")],
    ),
    "two messages": (masked(0x81, b"a") + masked(0x82, b"b"), [("text", "a"), ("binary", b"b")]),
    "close": (masked(0x88, b"\x03\xe8bye"), [("close", 1000, "bye")]),
    "close without a code": (masked(0x88, b""), [("close", 1005, "")]),
    "close with a private code": (masked(0x88, b"\x13\x87"), [("close", 4999, "")]),
    "close between fragments": (
        masked(0x01, b"a") + masked(0x88, b"\x03\xe9"),
        [("close", 1001, "")],
    ),
    "what comes before an error counts": (
        masked(0x81, b"a") + masked(0x89, b"p") + masked(0x83, b""),
        [("text", "a"), ("ping", b"p"), ("error", 1002)],
    ),
    "unmasked": (b"\x81\x05Hello", [("error", 1002)]),
    "unmasked, by its head alone": (b"\x81\x05", [("error", 1002)]),
    "RSV1": (masked(0xC1, b""), [("error", 1002)]),
    "RSV2": (masked(0xA1, b""), [("error", 1002)]),
    "RSV3": (masked(0x91, b""), [("error", 1002)]),
    "RSV1 on a ping": (masked(0xC9, b""), [("error", 1002)]),
    "opcode 3": (masked(0x83, b""), [("error", 1002)]),
    "opcode 7": (masked(0x87, b""), [("error", 1002)]),
    "opcode 11": (masked(0x8B, b""), [("error", 1002)]),
    "opcode 15": (masked(0x8F, b""), [("error", 1002)]),
    "a fragmented ping": (masked(0x09, b""), [("error", 1002)]),
    "a ping of 126 bytes": (masked(0x89, b"x" * 126), [("error", 1002)]),
    "a continuation of nothing": (masked(0x80, b""), [("error", 1002)]),
    "a continuation after the end": (
        masked(0x81, b"a") + masked(0x80, b""),
        [("text", "a"), ("error", 1002)],
    ),
    "a message within a message": (masked(0x01, b"a") + masked(0x81, b"b"), [("error", 1002)]),
    "a length in two bytes that needs none": (b"\x82\xfe\x00\x7d" + bytes(4 + 125), [("error", 1002)]),
    "a length in eight bytes that needs two": (
        b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x00\x00",
        [("error", 1002)],
    ),
    "a length with its highest bit": (
        b"\x82\xff\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        [("error", 1002)],
    ),
    "oversize, by its head alone": (masked(0x82, b"x" * (LIMIT + 1))[:8], [("error", 1009)]),
    "enormous, by its head alone": (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4), [("error", 1009)]),
    "oversize in fragments": (
        masked(0x02, b"x" * 600) + masked(0x00, b"x" * 300) + masked(0x80, b"x" * 101)[:6],
        [("error", 1009)],
    ),
    "endless empty fragments": (masked(0x02, b"") + masked(0x00, b"") * 15_000, [("error", 1009)]),
    "text that is not UTF-8": (masked(0x81, b"\xff\xfe"), [("error", 1007)]),
    "text that ends within a character": (masked(0x81, b"\xc3"), [("error", 1007)]),
    "a surrogate in UTF-8": (masked(0x81, b"\xed\xa0\x80"), [("error", 1007)]),
    "fragments that are not UTF-8 together": (
        masked(0x01, b"\xc3") + masked(0x80, b"\xc3"),
        [("error", 1007)],
    ),
    "a close reason that is not UTF-8": (masked(0x88, b"\x03\xe8\xff"), [("error", 1007)]),
    "close with half a code": (masked(0x88, b"\x03"), [("error", 1002)]),
    **{
        f"close with code {code}": (masked(0x88, code.to_bytes(2, "big")), [("error", 1002)])
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES)
def test_the_rules_of_frames_however_the_bytes_are_cut(data: bytes, expected: list[Seen]) -> None:
    assert read([data]) == expected
    assert read(one_by_one(data)) == expected
    if len(data) < 2000:
        for cut in range(len(data)):
            assert read([data[:cut], data[cut:]]) == expected


def test_nothing_is_read_after_a_frame_that_is_not_whole() -> None:
    whole = masked(0x81, b"Hello")
    for cut in range(len(whole)):
        assert read([whole[:cut]]) == []


@pytest.mark.parametrize("in_pieces", [False, True])
def test_between_messages_no_byte_is_held(in_pieces: bool) -> None:
    reader = FrameReader(LIMIT, in_pieces)
    for piece in (masked(0x02, b"a" * 500)[:100], masked(0x02, b"a" * 500)[100:] + masked(0x80, b"b")):
        reader.feed(piece)
        while reader.next_event() is not None:
            pass
    assert (reader._data, reader._held, reader._message) == (b"", None, None)


def test_a_frame_that_drips_in_is_not_copied_at_each_drop() -> None:
    reader = FrameReader(1_000_000)
    for drop in one_by_one(masked(0x82, bytes(20_000))[:-1]):
        reader.feed(drop)
        assert reader.next_event() is None
    held = reader._held
    reader.feed(b"")
    assert held is not None
    assert reader._held is held


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
@example(b"x" * 5000, b"\x01\x02\x03\x04")
def test_unmasking_is_exclusive_or_with_the_mask_repeated(payload: bytes, mask: bytes) -> None:
    assert unmask(payload, mask) == bytes(a ^ b for a, b in zip(payload, itertools.cycle(mask), strict=False))


# --- in pieces ---------------------------------------------------------------------------------------------


def test_in_pieces_what_is_here_of_a_message_is_handed_on_at_once() -> None:
    reader = FrameReader(0, in_pieces=True)
    frame = masked(0x82, b"x" * 70_000)
    reader.feed(frame[:1014])
    event = reader.next_event()
    assert isinstance(event, Binary)
    assert event.data == b"x" * 1000
    assert reader.next_event() is None


def test_in_pieces_text_is_refused() -> None:
    assert read([masked(0x81, b"a")], in_pieces=True) == [("error", 1003)]


def test_in_pieces_fragments_and_control_frames_are_told_apart() -> None:
    data = (
        masked(0x02, b"ab") + masked(0x89, b"p") + masked(0x00, b"") + masked(0x80, b"c") + masked(0x83, b"")
    )
    expected = [("binary", b"ab"), ("ping", b"p"), ("binary", b"c"), ("error", 1002)]
    assert read([data], in_pieces=True) == expected
    assert read(one_by_one(data), in_pieces=True) == expected


# --- chance ------------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames, most of them right, sometimes with a few bytes changed."""
    first_bytes = st.sampled_from([0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0x83])
    payloads = st.one_of(st.binary(max_size=20), st.text(max_size=10).map(str.encode), st.just(b"x" * 300))
    frames = draw(st.lists(st.tuples(first_bytes, payloads), max_size=8))
    data = bytearray(b"".join(masked(first, payload) for first, payload in frames))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2)):
        if position < len(data):
            data[position] = value
    return bytes(data)


@given(streams(), st.lists(st.integers(0, 600), max_size=10), st.booleans())
def test_any_cut_of_any_bytes_gives_the_same(data: bytes, cuts: list[int], in_pieces: bool) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]
    whole = read([data], in_pieces=in_pieces)
    assert read(pieces, in_pieces=in_pieces) == whole
    assert read(one_by_one(data), in_pieces=in_pieces) == whole


messages = st.one_of(
    st.text(max_size=400).map(lambda text: TextMessage(data=text)),
    st.binary(max_size=400).map(lambda data: BytesMessage(data=data)),
    st.binary(max_size=125).map(lambda data: SentPing(payload=data)),
)


@given(st.lists(messages, max_size=6), st.text(max_size=30))
def test_what_wsproto_writes_is_read(sent: list[Message[Any] | SentPing], reason: str) -> None:
    client = Connection(ConnectionType.CLIENT)
    data = b"".join(client.send(event) for event in [*sent, CloseConnection(code=1000, reason=reason)])
    names = {TextMessage: "text", BytesMessage: "binary", SentPing: "ping"}
    expected: list[Seen] = [
        (names[type(event)], event.payload if isinstance(event, SentPing) else event.data) for event in sent
    ]
    assert read([data]) == [*expected, ("close", 1000, reason)]
