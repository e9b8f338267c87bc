"""The order of keys is Postgres's, whatever the columns' types."""

from __future__ import annotations

import pytest

from broker.config.feeds import Recovery
from broker.feed.listen.mark import Mark

NUMERIC, TEXT, TIMESTAMPTZ, TIMESTAMP = 1700, 25, 1184, 1114
GOOD = {
    NUMERIC: "5",
    TEXT: "m",
    TIMESTAMPTZ: "2024-02-13T15:53:50+00:00",
    TIMESTAMP: "2024-02-13T15:53:50",
}


def mark(*types: int) -> Mark:
    return Mark(Recovery("t", tuple("abc"[: len(types)]), ()), types)


def test_a_key_compares_as_a_whole_and_numbers_as_numbers() -> None:
    both = mark(NUMERIC, NUMERIC)
    for a, b in (("9", "5"), ("10", "1"), ("10", "0"), ("9", "7")):
        assert both.advance({"a": a, "b": b})
    assert both.key == (10, 1)
    assert both.rows_after()[1] == ("10", "1")


def test_39_digits_and_fractions_compare_exactly() -> None:
    wide = mark(NUMERIC)
    wide.advance({"a": "340282366920938463463374607431768211455"})
    wide.advance({"a": "340282366920938463463374607431768211454.9"})
    assert wide.rows_after()[1] == ("340282366920938463463374607431768211455",)


def test_times_compare_as_instants_whatever_their_offset() -> None:
    times = mark(TIMESTAMPTZ)
    times.advance({"a": "2024-02-13T15:53:50.5+00:00"})
    times.advance({"a": "2024-02-13T10:53:50.49-05:00"})
    assert times.rows_after()[1] == ("2024-02-13T15:53:50.5+00:00",)
    assert times.key_of({"a": "2024-02-13T10:53:50.5-05:00"}) == times.key


def test_before_standard_time_an_offset_has_seconds() -> None:
    times = mark(TIMESTAMPTZ)
    assert times.advance({"a": "1890-01-01T00:53:28+00:53:28"})
    assert times.key_of({"a": "1890-01-01T00:00:00+00:00"}) == times.key
    times.advance({"a": "1889-12-31 23:59:59.5+00:00"})
    assert times.texts == ("1890-01-01T00:53:28+00:53:28",)


@pytest.mark.parametrize("columns", [{}, {"a": None}, {"a": "x"}, {"a": ["1"]}])
def test_a_row_without_a_usable_key_does_not_move_the_mark(columns: dict[str, object]) -> None:
    numbers = mark(NUMERIC)
    numbers.advance({"a": "5"})
    assert not numbers.advance(columns)
    assert numbers.key_of(columns) is None
    assert numbers.key == (5,)


@pytest.mark.parametrize(
    ("type_oid", "text"),
    [
        pytest.param(NUMERIC, "sNaN", id="signaling-nan"),
        pytest.param(NUMERIC, "NaN5", id="nan-with-digits"),
        pytest.param(NUMERIC, "1_000", id="underscores"),
        pytest.param(NUMERIC, "\u0669", id="arabic-digits"),
        pytest.param(TEXT, "z\0", id="nul"),
        pytest.param(TEXT, "z\ud800", id="half-of-a-pair"),
        pytest.param(TIMESTAMPTZ, "2124-02-13T15:53:50", id="no-zone"),
        pytest.param(TIMESTAMPTZ, "2124-W07-2", id="week"),
        pytest.param(TIMESTAMP, "2124-02-13T15:53:50+00:00", id="zone"),
    ],
)
def test_what_no_column_has_is_no_key_whatever_a_trigger_sends(type_oid: int, text: str) -> None:
    one = mark(type_oid)
    assert one.advance({"a": GOOD[type_oid]})
    for advance in (one.advance({"a": text}), one.advance_to((text,)), one.go_back([[text]])):
        assert not advance
    assert one.key_of({"a": text}) is None
    assert one.texts == (GOOD[type_oid],)


@pytest.mark.parametrize(
    ("type_oid", "order"),
    [
        pytest.param(NUMERIC, ["-Infinity", "-1.5", "0", "7", "1e40", "Infinity", "NaN"], id="numbers"),
        pytest.param(
            TIMESTAMPTZ,
            ["-infinity", "2024-02-13T15:53:50+00:00", "2024-02-13 10:53:51-05:00", "infinity"],
            id="moments",
        ),
        pytest.param(TIMESTAMP, ["-infinity", "2024-02-13", "2024-02-13T00:00:00.1", "infinity"], id="dates"),
    ],
)
def test_the_edges_of_a_type_stand_where_postgres_has_them(type_oid: int, order: list[str]) -> None:
    for rising in (order, order[::-1]):
        one = mark(type_oid)
        keys = [one.key_of({"a": text}) for text in rising]
        for text in rising:
            assert one.advance({"a": text})
        assert one.texts == (order[-1],)
        assert len({*keys}) == len(order)
        assert one.go_back([[order[0]]])
        assert one.texts == (order[0],)
