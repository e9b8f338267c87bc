"""A row's characters are found in a notification, and handed on as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.feeds import Source
from broker.feed.routing.rowtext import NotARow, columns_of, locate, notification_text
from protocol.dialects.base import envelope

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_numbers_stay_text_digit_for_digit() -> None:
    text = '{"id":340282366920938463463374607431768211455,"n":1.10,"e":-1E+2,"b":true,"z":null}'
    assert columns_of(text) == {
        "id": "340282366920938463463374607431768211455", "n": "1.10", "e": "-1E+2", "b": True, "z": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not_json"),
        ("{", "not_json"),
        ('{"a":1', "not_json"),
        ('{"a" 1}', "not_json"),
        ('{"a":1 "b":2}', "not_json"),
        ('{"a":1,}', "not_json"),
        ('{"a":NaN}', "not_json"),
        ('{"channel":"c","payload":{}} x', "not_json"),
        ('{"channel":"c","payload":{"a":}}', "not_json"),
        ('{"channel":"c","payload":' + "[" * 5000, "not_json"),
        ("[1]", "not_an_object"),
        ('"text"', "not_an_object"),
        ("17", "not_an_object"),
    ],
)
def test_what_is_no_row_is_refused_by_reason(text: str, reason: str) -> None:
    for read in (columns_of, lambda text: locate(text, ("channel",), ("payload",))):
        with pytest.raises(NotARow) as refused:
            read(text)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"payload":{}}', "no_kind"),
        ('{"channel":"c"}', "no_row"),
        ("{}", "no_kind"),
        ('{"channel":"c","payload":5}', "not_an_object"),
        ('{"channel":"c","payload":null}', "not_an_object"),
    ],
)
def test_an_envelope_without_its_parts_is_refused(text: str, reason: str) -> None:
    with pytest.raises(NotARow) as refused:
        locate(text, ("channel",), ("payload",))
    assert refused.value.reason == reason


def test_a_nested_path_is_followed() -> None:
    text = '{"meta": {"kind": "fill"}, "data": {"after" : {"id": 1.0 }}}'
    kind, columns, start, end = locate(text, ("meta", "kind"), ("data", "after"))
    assert (kind, columns, text[start:end]) == ("fill", {"id": "1.0"}, '{"id": 1.0 }')
    with pytest.raises(NotARow, match="no_row"):
        locate(text, ("meta", "kind"), ("meta", "kind", "after"))


@given(
    row=st.dictionaries(st.text(), json_values),
    others=st.dictionaries(st.text(), json_values),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
def test_the_span_is_the_row_however_it_is_printed(
    row: dict[str, Any], others: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    whole = {**others, "channel": "fill_event", "payload": row}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    kind, columns, start, end = locate(text, ("channel",), ("payload",))
    assert kind == "fill_event"
    assert text[start] == "{"
    assert json.loads(text[start:end]) == row
    assert columns.keys() == row.keys()


def test_the_last_of_a_repeated_member_wins_as_in_a_dict() -> None:
    text = '{"channel":"a","payload":{"x":1},"channel":"b","payload":{"x":2}}'
    kind, columns, start, end = locate(text, ("channel",), ("payload",))
    assert (kind, columns, text[start:end]) == ("b", {"x": "2"}, '{"x":2}')


def test_an_envelope_is_spaced_as_json_build_object_prints_it() -> None:
    assert envelope("fill_event", b'{"a":1}') == b'{"channel" : "fill_event", "payload" : {"a":1}}'
    assert envelope('"☃', b"{}") == '{"channel" : "\\"☃", "payload" : {}}'.encode()


def test_a_notification_is_rebuilt_from_its_row() -> None:
    row = b'{"id": 1.0 }'
    nested = Source("s", ("s",), kind_path=("meta", "kind"), row_path=("meta", "after"))
    assert notification_text(Source("s", ("fill",)), "fill", row) == row
    assert (
        notification_text(Source("s", ("s",), ("channel",), ("payload",)), "fill_event", row)
        == b'{"channel" : "fill_event", "payload" : {"id": 1.0 }}'
    )
    assert notification_text(nested, "fill", row) == b'{"meta" : {"kind" : "fill", "after" : {"id": 1.0 }}}'
