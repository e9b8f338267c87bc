"""A promise is kept once, by the last of those who took it on, with the worst of what they say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.core.promise import Promise


@given(st.lists(st.sampled_from([0, 0x10, 0x87, 0x97]), min_size=1, max_size=5))
def test_it_is_kept_when_the_last_one_has(codes: list[int]) -> None:
    promise = Promise()
    kept: list[int] = []
    promise.on_kept = lambda: kept.append(promise.code)
    for _ in codes:
        promise.join()
    for number, code in enumerate(codes):
        assert kept == []
        assert not promise.is_kept
        promise.keep(code)
        assert promise.is_kept is (number == len(codes) - 1)
    assert kept == [max(codes)]


def test_nobody_has_to_wait_for_one_that_nobody_took_on() -> None:
    assert Promise().is_kept
