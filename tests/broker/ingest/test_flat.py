"""Members of flat objects: what the parser gives, or nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.ingest.flat import PARSE, members_into
from broker.ingest.times import Refused
from broker.ingest.values import parsed

SLOTS = {b'"v"': 0, '"größe"'.encode(): 1}

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
members = st.dictionaries(
    st.sampled_from(["v", "größe", "x", 'q"']),
    numbers | st.text(max_size=4) | st.none() | st.lists(numbers, max_size=2),
)
objects = st.builds(
    lambda value, separators, ascii_only: json.dumps(
        value, separators=separators, ensure_ascii=ascii_only
    ).encode(errors="surrogatepass"),
    members,
    st.sampled_from([(",", ":"), (" , ", " :\n")]),
    st.booleans(),
)
noise = st.lists(
    st.sampled_from([b"{", b"}", b'"v"', b":", b",", b"1", b"-", b".5", b"e", b" ", b"\xff", b"\\"])
)


def quick(payload: bytes) -> list[tuple[str | None, bool]] | None:
    members: list[str | None] = ["left"] * len(SLOTS)
    texts = members_into(payload, SLOTS, members)
    return None if texts == PARSE else [(one, bool(texts >> n & 1)) for n, one in enumerate(members)]


def parsing(payload: bytes) -> list[tuple[str | None, bool]] | None:
    try:
        value = parsed(payload)
    except Refused:
        return None
    if not isinstance(value, dict):
        return None
    return [(value.get(name), type(value.get(name)) is str) for name in ("v", "größe")]


@given(objects | noise.map(b"".join))
def test_members_are_what_the_parser_makes_of_them(payload: bytes) -> None:
    found = quick(payload)
    if found is not None:
        assert found == parsing(payload)


def test_texts_and_numbers_are_found_among_others() -> None:
    payload = '{"x": [1, {"v": 2}], "y": true, "v": 12.50, "größe":"groß", "z": null }'.encode()
    assert quick(payload) == [("12.50", False), ("groß", True)]
    assert quick(b'{"v": 1, "v": null}') == [(None, False), (None, False)]
    assert quick(b'{"v": "1", "v": 2}') == [("2", False), (None, False)]
    assert quick(b'{"v": true}') is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"{",
        b'{"v"',
        b'{"v":',
        b'{"v":1',
        b'{"v":1,',
        b'{"v":1,}',
        b'{"v":1}x',
        b'{"v":1 "x":2}',
        b'{"v":01}',
        b'{"v":false}',
        b'{"v":[1]}',
        b'{"v":"\\n"}',
        b'{"v":"\xff"}',
        b' {"v":1}',
        b"[1]",
        b"{v:1}",
        b'{"v":"\n"}',
    ],
)
def test_all_else_is_for_the_parser(payload: bytes) -> None:
    assert quick(payload) is None
