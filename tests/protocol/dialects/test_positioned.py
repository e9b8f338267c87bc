"""Positions beside a dialect's own documents: what a reader parses is the message as it was, and where it stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dialects.positioned import SINCE_CHARACTERS_MAX, is_since, place_members, with_position

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, st.sampled_from(["", "s 1"]), st.sampled_from([None, 1]))
def test_a_message_is_found_again_whole(value: object, subscription: str, indent: int | None) -> None:
    read = json.loads(with_position(json.dumps(value, indent=indent).encode(), b"E/7", subscription))
    assert read.pop("at") == "E/7"
    assert read.pop("subscription", "") == subscription
    own = {"at", "subscription"} & set(value) if isinstance(value, dict) else True
    assert (read["message"] if own else read) == value


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"n": 1.50}', b'{"n": 1.50,"at":"E/7"}'),
        (b"{ }", b'{"at":"E/7"}'),
        (b"not json", b'{"at":"E/7","message":"not json"}'),
        (b"\xff", '{"at":"E/7","message":"�"}'.encode()),
        (b'{"at":1}', b'{"at":"E/7","message":{"at":1}}'),
    ],
)
def test_its_text_stays_as_it_is(payload: bytes, text: bytes) -> None:
    assert with_position(payload, b"E/7") == text


def test_members_of_an_answer() -> None:
    assert json.loads('{"a":1' + place_members("E/7", False, 'a "reason"') + "}") == {
        "a": 1,
        "at": "E/7",
        "recovered": False,
        "reason": 'a "reason"',
    }
    assert place_members("", True, "") == ',"recovered":true'


def test_what_may_be_a_position() -> None:
    assert is_since("now")
    assert is_since("x" * SINCE_CHARACTERS_MAX)
    assert not any(is_since(one) for one in ("x" * (SINCE_CHARACTERS_MAX + 1), None, 7, ["now"], True))
