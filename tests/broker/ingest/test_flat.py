"""Members of flat objects: what the parser gives, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.ingest.flat import flat
from broker.ingest.values import Refused, parsed
from protocol.json_members import Number

NAMES = {b'"v"': "v", '"größe"'.encode(): "größe"}

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


def wanted(payload: bytes) -> dict[str, Any] | None:
    try:
        value = parsed(payload)
    except Refused:
        return None
    return (
        {name: value[name] for name in NAMES.values() if name in value} if isinstance(value, dict) else None
    )


@given(objects | noise.map(b"".join))
def test_members_are_what_the_parser_makes_of_them(payload: bytes) -> None:
    found = flat(payload, NAMES)
    if found is not None:
        expected = wanted(payload)
        assert found == expected
        assert [type(one) for one in found.values()] == [type(expected[name]) for name in found]


def test_texts_and_numbers_are_found_among_others() -> None:
    payload = '{"x": 1, "v": 12.50, "größe":"groß" }'.encode()
    assert flat(payload, NAMES) == {"v": "12.50", "größe": "groß"}
    assert type(flat(payload, NAMES)["v"]) is Number  # type: ignore[index]


def test_the_last_of_a_name_wins() -> None:
    assert flat(b'{"v":1,"v":2}', NAMES) == {"v": "2"}


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
        b'{"v":null}',
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
    assert flat(payload, NAMES) is None
