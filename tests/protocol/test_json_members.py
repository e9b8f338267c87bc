"""The members of a JSON object, each with the text that stands there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.json_members import Number, elements_in, elements_of, is_json, is_text, members_of


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8))
)
def test_members_are_found_as_json_finds_them(value: dict[str, object]) -> None:
    found = members_of(json.dumps(value))
    assert found is not None
    assert {name: json.loads(text) for name, (_, text) in found.items()} == value


def test_numbers_are_kept_digit_for_digit_and_the_last_of_a_name_wins() -> None:
    found = members_of(' { "n" : 1.50e400 , "t":"1", "n": 12345678901234567890.10 } ')
    assert found == {"n": (Number("12345678901234567890.10"), "12345678901234567890.10"), "t": ("1", '"1"')}
    assert not is_text(found["n"][0])
    assert is_text(found["t"][0])


NO_OBJECTS = (
    *("", " ", "{", "[]", "1", "nul", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1}x', '{"a":1 "b":2}', "{a:1}"),
    *('{"a":NaN}', '{"a":Infinity}', '{"a":"\n"}', '{"a":' + "[" * 100_000),
)


@pytest.mark.parametrize("text", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
def test_what_is_no_object_has_no_members(text: str) -> None:
    assert members_of(text) is None


@given(st.text(alphabet='{}[]",:1e-. \\nul', max_size=12))
def test_it_is_an_object_for_both_or_for_neither(text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    assert is_json(text) is (value is not None or text.strip() == "null")
    found = members_of(text)
    assert (found is not None) is isinstance(value, dict)


@given(
    st.lists(st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2)),
    st.booleans(),
)
def test_elements_are_found_as_json_finds_them(value: list[object], spaced: bool) -> None:
    text = json.dumps(value, indent=1 if spaced else None)
    assert [json.loads(one) for one in elements_of(text)] == value


@given(st.text(alphabet='[]{}",:1e-. \\nul', max_size=12))
def test_what_begins_as_an_array_is_one_for_both_or_for_neither(rest: str) -> None:
    text = "[" + rest.rstrip()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    try:
        found = list(elements_in(text))
    except ValueError:
        assert value is None
    else:
        assert [json.loads(one) for one in found] == value
