"""Numbers and texts as times, each against a time that Python makes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.ingest.times import Refused, is_number, microseconds, number_time, time_text


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "", "2023-11-14T22:13:20.000000+00:00"),
        ("1700000000.25", "", "2023-11-14T22:13:20.250000+00:00"),
        ("1700000000123", "", "2023-11-14T22:13:20.123000+00:00"),
        ("1700000000123456", "", "2023-11-14T22:13:20.123456+00:00"),
        ("1700000000123", "ms", "2023-11-14T22:13:20.123000+00:00"),
        ("-1", "ms", "1969-12-31T23:59:59.999000+00:00"),
        ("1.7e9", "", "2023-11-14T22:13:20.000000+00:00"),
    ],
)
def test_times_that_are_numbers(text: str, unit: str, expected: str) -> None:
    assert time_text(microseconds(text, unit)) == expected
    assert number_time(text, unit) == expected


@given(st.integers(0, 10**17), st.sampled_from(["", "s", "ms", "us"]))
def test_the_quick_way_to_a_time_gives_the_same(number: int, unit: str) -> None:
    def either(make: Callable[[], str]) -> str:
        try:
            return make()
        except Refused as error:
            return f"refused: {error}"

    text = str(number)
    assert either(lambda: number_time(text, unit)) == either(lambda: time_text(microseconds(text, unit)))


@pytest.mark.parametrize("text", ["1e999999999", "9" * 400, "1e25", "NaN", "-1e400"])
def test_no_number_is_too_far_from_any_time_to_be_refused(text: str) -> None:
    with pytest.raises(Refused):
        time_text(microseconds(text, ""))


@given(st.integers(-(10**17), 10**17))
def test_a_time_is_what_python_says(since_epoch_us: int) -> None:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=since_epoch_us)
    except OverflowError:
        with pytest.raises(Refused):
            time_text(since_epoch_us)
    else:
        assert datetime.fromisoformat(time_text(since_epoch_us)) == moment


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1700000000", "", True),
        ("20240101", "", False),  # eight digits are a date
        ("-1", "", False),
        ("1.5", "", False),
        ("-1", "ms", True),
        ("", "s", False),
        ("١٧٠٠٠٠٠٠٠٠", "", False),
    ],
)
def test_a_text_is_a_number_where_no_date_looks_like_it(text: str, unit: str, expected: bool) -> None:
    assert is_number(text, unit) is expected
