"""A listening backend's bytes to notifications, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.notifications import MESSAGE_BYTES_MAX, Answers, MalformedAnswer, Notification, query


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def notified(channel: bytes, text: bytes) -> bytes:
    return message(b"A", b"\0\0\x12\x67" + channel + b"\0" + text + b"\0")


READY = b"Z\0\0\0\x05I"
LISTENED = b"C\0\0\0\x0bLISTEN\0"
SETTING = b"S\0\0\0\x12TimeZone\0UTC\0\0"
FATAL = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Fpostgres.c\0\0")

names = st.binary(min_size=1, max_size=63).map(lambda name: name.replace(b"\0", b"x"))
texts = st.binary(max_size=300).map(lambda text: text.replace(b"\0", b""))
notifications = st.tuples(st.sampled_from([b"fill", b"fills", b"till"]) | names, texts)


@given(st.lists(notifications, max_size=8), st.lists(st.integers(0, 3000), max_size=6), st.data())
def test_notifications_come_whole_and_in_order_however_the_bytes_are_cut(
    some: list[Notification], cuts: list[int], data: st.DataObject
) -> None:
    parts = [notified(*one) for one in some]
    for other in (LISTENED + READY, SETTING, FATAL):
        parts.insert(data.draw(st.integers(0, len(parts))), other)
    stream = b"".join(parts)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    answers = Answers()
    found: list[Notification] = []
    for start, end in pairwise(places):
        found += answers.take(stream[start:end])
    assert found == some
    assert answers.ready == 1
    assert answers.error == ("57P01", "terminating connection")


def test_bytes_one_by_one() -> None:
    answers = Answers()
    stream = notified(b"fill", b'{"a":1}') + READY + notified(b"fill", b"")
    found = [one for byte in stream for one in answers.take(bytes([byte]))]
    assert found == [(b"fill", b'{"a":1}'), (b"fill", b"")]
    assert answers.ready == 1


@pytest.mark.parametrize(
    "stream",
    [
        b"A\0\0\0\x03xxx",  # shorter than its own length
        b"A" + (MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"),
        b"A\xff\xff\xff\xff",
        b"A\0\0\0\x09\0\0\0\1\0",  # no text
        b"A\0\0\0\x0a\0\0\0\1xx",  # no NUL at all
        b"A\0\0\0\x0b\0\0\0\1xy\0",  # the text's NUL is missing
        b"H\0\0\0\x07\0\0\0",  # CopyOutResponse
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_what_is_no_answer_is_refused(stream: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        Answers().take(stream)


def test_a_query_is_its_text_with_length_and_nul() -> None:
    assert query(b"SELECT 1") == b"Q\0\0\0\x0dSELECT 1\0"
