"""Histograms: every value is counted once, below the first bound that is not smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.core.histogram import LATENCY_S, Histogram


@given(st.lists(st.floats(0, 100)))
def test_every_value_is_counted_once_and_cumulatively_below_its_bounds(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert histogram.count() == len(values)
    total = 0
    for bound, count in zip(LATENCY_S, histogram.counts[:-1], strict=True):
        total += count
        assert total == sum(value <= bound for value in values)


@given(st.lists(st.floats(0, 50), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_no_smaller_than_that_part_of_the_values(values: list[float], part: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    bound = histogram.quantile(part)
    assert sum(value <= bound for value in values) >= part * len(values) - 1e-9


def test_many_alike_are_counted_in_one_go() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.5, 10)
    assert (histogram.counts, histogram.sum, histogram.quantile(0.5)) == ([0, 10, 0], 15.0, 2.0)
    assert Histogram().quantile(0.99) == 0.0
