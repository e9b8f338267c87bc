"""What all dialects share: how fast a peer may send, moments as text, and JSON that can be sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.dialects.base import Clock, Meter, envelope, json_text, parsed


def test_a_bucket_holds_a_seconds_worth_and_fills_as_time_goes() -> None:
    meter = Meter(10, now=100.0)
    assert [meter.allows(100.0) for _ in range(11)] == [True] * 10 + [False]
    assert meter.allows(100.125)
    assert not meter.allows(100.125)
    assert [meter.allows(200.0) for _ in range(11)] == [True] * 10 + [False]


def test_what_is_charged_beyond_the_bucket_says_when_there_is_room_again() -> None:
    meter = Meter(10, now=0.0)
    assert meter.charge(10, 0.0) == 0.0
    assert meter.charge(5, 0.0) == pytest.approx(0.5)
    assert meter.charge(5, 0.5) == pytest.approx(1.0)
    assert meter.charge(0, 1.0) == 1.0


@given(st.lists(st.floats(0, 3), max_size=40))
def test_nobody_gets_more_than_the_rate_and_one_bucket(pauses: list[float]) -> None:
    meter, now, allowed = Meter(10, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        allowed += meter.allows(now)
        assert allowed <= 10 + now * 10 + 1e-6


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "2023-11-14T22:13:20Z"),
        (0.25, "2023-11-14T22:13:20.250Z"),
        (0.9996, "2023-11-14T22:13:21Z"),
        (-1_700_000_000.0, "1970-01-01T00:00:00Z"),
    ],
)
def test_moments(now: float, text: str) -> None:
    assert Clock(1_700_000_000.0).iso(now) == text


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=4))
def test_json_can_be_sent_and_says_the_same(value: object) -> None:
    assert json.loads(json_text(value).encode()) == value


def test_a_lone_surrogate_stays_escaped_and_other_characters_stand_for_themselves() -> None:
    assert json_text("ä\ud800") == '"\\u00e4\\ud800"'
    assert json_text({"ä": [1]}) == '{"ä":[1]}'


def test_an_envelope_takes_its_text_as_it_is() -> None:
    assert envelope('a"b', b"1.50") == b'{"channel" : "a\\"b", "payload" : 1.50}'


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", '"x"', "[" * 100_000, '{"a":' * 100_000, "9" * 5000]
)
def test_what_is_no_object_is_none(text: str) -> None:
    assert parsed(text) is None


def test_an_object_is_one_whatever_is_in_it() -> None:
    assert parsed('{"type": null, "type": [1]}') == {"type": [1]}
