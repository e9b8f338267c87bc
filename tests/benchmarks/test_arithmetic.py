import pytest

from benchmarks.arithmetic import latency, median, percentile, ratios, spread


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.01, 1), (0.0, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(list(range(1, 101)), share) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.999) == 7.0


def test_percentile_is_not_moved_by_binary_fractions() -> None:
    """0.07 * 100 is 7.000000000000001: a naive ceiling would answer 8."""
    assert percentile(list(range(1, 101)), 0.07) == 7


def test_latency_sorts_and_counts_its_samples() -> None:
    found = latency([float(i) for i in range(1000, 0, -1)])
    assert found is not None
    assert (found.p50_us, found.p99_us, found.p999_us, found.samples) == (500, 990, 999, 1000)


def test_latency_of_nothing_is_nothing() -> None:
    assert latency([]) is None


def test_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    assert median([4, 1, 3, 2]) == 2.5
    assert median([3, 1, 2]) == 2


def test_spread_keeps_the_extremes() -> None:
    found = spread([3.0, 1.0, 10.0])
    assert found is not None
    assert (found.median, found.lowest, found.highest) == (3.0, 1.0, 10.0)
    assert spread([]) is None


def test_ratios_pair_rounds_and_leave_out_what_one_side_did_not_measure() -> None:
    assert ratios([10.0, None, 30.0, 5.0], [5.0, 2.0, 10.0, None]) == [2.0, 3.0]
