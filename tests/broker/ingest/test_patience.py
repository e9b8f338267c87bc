"""Rows that are to be tried again: how many together, and for how long one alone."""

from __future__ import annotations

from broker.ingest.patience import ALONE_S_MIN, ALONE_TRIES_MIN, WHOLE_TRIES, Patience


def test_the_same_rows_are_tried_a_few_times_and_then_fewer_until_some_work() -> None:
    patience = Patience()
    tried = []
    for _ in range(WHOLE_TRIES + 4):
        tried.append(patience.together(10))
        patience.failed(tried[-1])
    assert tried == [10] * WHOLE_TRIES + [5, 2, 1, 1]
    for expected in (1, 2, 4, 8, 10, 10):
        assert patience.together(10) == expected
        patience.worked(expected)


def test_one_alone_is_tried_often_and_long() -> None:
    patience = Patience()
    assert not any(patience.is_over(1.0) for _ in range(2 * ALONE_TRIES_MIN)), "not long"
    assert patience.is_over(1.0 + ALONE_S_MIN)
    patience.worked(1)
    assert not patience.is_over(2.0 + ALONE_S_MIN), "it is another one"
    assert not patience.is_over(9.0 + 3 * ALONE_S_MIN), "not often"


def test_how_often_one_failed_is_not_held_against_another() -> None:
    patience = Patience()
    for _ in range(ALONE_TRIES_MIN):
        patience.is_over(1.0)
    patience.moved_on()
    assert not patience.is_over(2.0 + ALONE_S_MIN)
