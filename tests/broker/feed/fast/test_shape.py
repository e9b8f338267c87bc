"""A text is taken as another row of the same shape only if it is JSON with other values in the same places."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.feed.fast.shape import BOTH, LEVEL, TEXT, UNUSED, Shape, plain_end

GAPS = [b'{"a":', b',"b":', b"}"]
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@given(values, values)
def test_whatever_stands_in_places_nobody_looks_at_is_taken(a: Any, b: Any) -> None:
    text = json.dumps({"a": a, "b": b}, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    assert Shape(GAPS, [UNUSED, UNUSED]).values(text) == []


@given(st.text(max_size=6) | st.integers(), st.sampled_from((TEXT, LEVEL, BOTH)))
def test_a_value_that_is_wanted_is_what_the_parser_gives_or_the_careful_path_is_asked(
    value: Any, use: int
) -> None:
    text = json.dumps({"a": value, "b": None}, separators=(",", ":"), ensure_ascii=False).encode(
        errors="replace"
    )
    found = Shape(GAPS, [use, UNUSED]).values(text)
    if found is not None:
        read = json.loads(text)["a"]
        assert found == [str(read).encode()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":"x","b":1}', [b"x"]),
        (b'{"a":12,"b":1}', [b"12"]),
        (b'{"a":-1.5,"b":"y"}', [b"-1.5"]),
        (b'{"a":"\xc3\xbc","b":1}', None),
        (b'{"a":"x\\n","b":1}', None),
        (b'{"a":null,"b":1}', None),
        (b'{"a":[],"b":1}', None),
        (b'{"a":"x", "b":1}', None),
        (b'{"a":"x","c":1}', None),
        (b'{"a":"x","b":1,"c":2}', None),
        (b'{"a":"x","b":1} ', None),
        (b'{"a":"x","b":}', None),
        (b'{"a":"x","b":1', None),
        (b'{"a":"x"', None),
        (b'{"a":', None),
        (b"", None),
    ],
)
def test_another_shape_is_another_s(text: bytes, expected: list[bytes] | None) -> None:
    assert Shape(GAPS, [TEXT, UNUSED]).values(text) == expected


@pytest.mark.parametrize("value", [b'"a/b"', b'"+"', b'"#"', b'""', b'"$"', b'"%"', b"1.5e3"])
def test_what_may_not_stand_as_a_level_is_asked_about_and_is_text_all_the_same(value: bytes) -> None:
    text = b'{"a":%b,"b":1}' % value
    taken = Shape(GAPS, [LEVEL, UNUSED]).values(text)
    assert taken is None or value == b"1.5e3"
    assert Shape(GAPS, [TEXT, UNUSED]).values(text) == [value.strip(b'"')]


@pytest.mark.parametrize(
    ("word", "use", "expected"),
    [
        (b"true", LEVEL, [b"true"]),
        (b"false", LEVEL, [b"false"]),
        (b"true", TEXT, None),
        (b"tru", LEVEL, None),
    ],
)
def test_a_boolean_is_a_level_by_its_word(word: bytes, use: int, expected: list[bytes] | None) -> None:
    assert Shape(GAPS, [use, UNUSED]).values(b'{"a":%b,"b":1}' % word) == expected


def test_a_plain_text_ends_at_its_quote() -> None:
    assert plain_end(b'"abc",', 0, 6) == 5
    assert plain_end(b'"a/c",', 0, 6) < 0
    assert plain_end(b'"abc', 0, 4) < 0
