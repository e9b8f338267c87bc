"""The clock of calculators, and what columns may hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.market.calculator import (
    NEVER_MS,
    SILENCE_MS,
    SYMBOL_CHARACTERS_MAX,
    Due,
    Pace,
    is_buy,
    side_told,
    symbol_of,
)
from broker.market.numbers import BadValue
from broker.market.times import DAY_MS

NOW_MS = 1_700_000_000_000


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(0, 20))
def test_who_is_due_is_taken_by_time_and_then_by_when_it_was_said(times: list[int], now_ms: int) -> None:
    due = Due()
    for index, at_ms in enumerate(times):
        due.add(at_ms, index)
    taken = []
    while (index := due.take(now_ms)) >= 0:
        taken.append(index)
    assert taken == [
        index for index, at_ms in sorted(enumerate(times), key=lambda x: x[1]) if at_ms <= now_ms
    ]
    assert due.next_ms() == min((at_ms for at_ms in times if at_ms > now_ms), default=NEVER_MS)


def test_live_it_is_now() -> None:
    pace = Pace()
    pace.heard(NOW_MS, NOW_MS)
    assert pace.time_ms(NOW_MS + 5) == NOW_MS + 5
    pace.heard(NOW_MS + 100, NOW_MS + 50)  # the source's clock is before ours
    assert (pace.behind_ms, pace.time_ms(NOW_MS + 60)) == (0, NOW_MS + 60)


def test_where_old_trades_are_played_it_is_then_and_goes_on_as_our_clock() -> None:
    pace = Pace()
    pace.heard(NOW_MS - 3 * DAY_MS, NOW_MS)
    assert pace.time_ms(NOW_MS + 7) == NOW_MS - 3 * DAY_MS + 7
    assert pace.when_ms(NOW_MS - 3 * DAY_MS + 1000, NOW_MS) == NOW_MS + 1000
    # However long nobody trades: it is not today yet.
    assert pace.time_ms(NOW_MS + 10 * SILENCE_MS) == NOW_MS - 3 * DAY_MS + 10 * SILENCE_MS


def test_what_is_hours_late_is_made_up_after_a_minutes_silence() -> None:
    pace = Pace()
    pace.heard(NOW_MS - DAY_MS + 1, NOW_MS)
    silent_ms = NOW_MS + SILENCE_MS
    assert pace.when_ms(NOW_MS - 5, NOW_MS) == silent_ms
    assert pace.when_ms(silent_ms + 5, NOW_MS) == silent_ms + 5
    assert pace.when_ms(NOW_MS - DAY_MS + 100, NOW_MS) == NOW_MS + 99, "before the silence"
    assert pace.time_ms(silent_ms - 1) == silent_ms - DAY_MS
    assert pace.time_ms(silent_ms) == silent_ms
    assert pace.when_ms(silent_ms + 1, silent_ms) == silent_ms + 1


def test_a_late_trade_changes_nothing_and_a_day_late_stays_late() -> None:
    pace = Pace()
    pace.heard(NOW_MS, NOW_MS)
    pace.heard(NOW_MS - 1, NOW_MS + 1)
    assert (pace.newest_ms, pace.behind_ms) == (NOW_MS, 0)
    late = Pace()
    late.heard(NOW_MS - DAY_MS, NOW_MS)
    assert late.time_ms(NOW_MS + SILENCE_MS) == NOW_MS - DAY_MS + SILENCE_MS
    assert late.when_ms(NOW_MS, NOW_MS) == NOW_MS + DAY_MS


@given(st.lists(st.tuples(st.integers(-DAY_MS, DAY_MS), st.integers(0, 2 * SILENCE_MS)), max_size=20))
def test_its_time_never_goes_back(steps: list[tuple[int, int]]) -> None:
    pace, now_ms, told_ms = Pace(), NOW_MS, 0
    for away_ms, passed_ms in steps:
        now_ms += passed_ms
        pace.heard(now_ms + away_ms, now_ms)
        told, before = pace.time_ms(now_ms), told_ms
        assert told >= before
        told_ms = told


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no_symbol"),
        ({"s": ""}, "no_symbol"),
        ({"s": 5}, "no_symbol"),
        ({"s": "X" * (SYMBOL_CHARACTERS_MAX + 1)}, "bad_symbol"),
        ({"s": "X\n"}, "bad_symbol"),
    ],
)
def test_what_is_no_symbol(row: dict[str, object], reason: str) -> None:
    with pytest.raises(BadValue, match=f"^{reason}$"):
        symbol_of(row, "s")


def test_a_symbol_may_be_of_any_letters_up_to_its_limit() -> None:
    for symbol in ("X" * SYMBOL_CHARACTERS_MAX, "BTC/USD ü"):
        assert symbol_of({"s": symbol}, "s") == symbol


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0", "buy"), (True, "sell"), (False, "buy"), ("true", "sell"), ("2", ""), (None, ""), (0, "")],
)
def test_a_side_is_what_the_source_was_said_to_call_it(value: object, expected: str) -> None:
    assert side_told(value, {"0": "buy", "true": "sell", "false": "buy"}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(word, True) for word in ("buy", "BUY", "bid", "b", "Bids")],
        *[(word, False) for word in ("sell", "Ask", "s", "a", "asks", "offer")],
    ],
)
def test_the_usual_words_for_a_side(value: str, expected: bool) -> None:
    assert is_buy(value) == expected
    assert is_buy(value, {}) == expected


def test_a_sources_own_words_replace_the_usual_ones() -> None:
    sides = {"1": "buy", "2": "sell"}
    assert (is_buy("1", sides), is_buy("2", sides)) == (True, False)
    for value, words in (("buy", sides), ("left", None), (True, None), (None, sides)):
        with pytest.raises(BadValue, match=r"^bad_side$"):
            is_buy(value, words)
