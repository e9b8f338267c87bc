"""Moments told apart by their size, and where intervals begin and end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.market.numbers import BadValue
from broker.market.times import DAY_MS, INTERVALS_MS, Interval, time_us

AT_US = 1_700_000_000_123_456


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1700000000", AT_US // 1_000_000 * 1_000_000),
        ("1700000000.123456", AT_US),
        ("1700000000123", AT_US // 1000 * 1000),
        ("1700000000123.456", AT_US),
        ("1700000000123456", AT_US),
        ("1700000000123456789", AT_US),
        ("2023-11-14T22:13:20.123456Z", AT_US),
        ("2023-11-14T22:13:20.123456", AT_US),
        ("2023-11-15 00:13:20.123456+02:00", AT_US),
        ("0", 0),
    ],
)
def test_a_moment_is_told_by_its_size_or_by_its_form(value: str, expected: int) -> None:
    assert time_us(value) == expected


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "1969-12-31T23:59:59Z", "T", "9" * 30, None, 5, "2024-13-01"]
)
def test_what_is_no_moment_is_a_bad_time(value: object) -> None:
    with pytest.raises(BadValue) as raised:
        time_us(value)
    assert raised.value.reason == "bad_time"


@given(st.sampled_from(sorted(INTERVALS_MS)), st.integers(0, DAY_MS - 1), st.integers(DAY_MS, 4 * 10**12))
def test_every_moment_lies_in_one_interval_and_the_next_begins_at_its_end(
    name: str, day_starts_ms: int, at_ms: int
) -> None:
    interval = Interval(name, day_starts_ms)
    start_ms = interval.start_ms(at_ms)
    end_ms = interval.end_ms(start_ms)
    assert start_ms <= at_ms < end_ms
    assert interval.start_ms(end_ms - 1) == start_ms
    assert interval.start_ms(end_ms) == end_ms


@pytest.mark.parametrize(
    ("name", "day_starts_ms", "expected"),
    [
        ("1d", 0, "2024-02-29T00:00"),
        ("1d", DAY_MS // 2, "2024-02-28T12:00"),
        ("1w", 0, "2024-02-26T00:00"),
        ("1M", 0, "2024-02-01T00:00"),
        ("4h", 0, "2024-02-29T08:00"),
    ],
)
def test_days_weeks_and_months_begin_as_in_the_calendar(name: str, day_starts_ms: int, expected: str) -> None:
    at_ms = int(datetime(2024, 2, 29, 11, 59, tzinfo=UTC).timestamp() * 1000)
    start = datetime.fromtimestamp(Interval(name, day_starts_ms).start_ms(at_ms) / 1000, UTC)
    assert start.isoformat(timespec="minutes").removesuffix("+00:00") == expected
