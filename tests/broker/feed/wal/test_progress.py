"""Skipping what is known, when a server sends it again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.feed.wal.progress import Progress


def deliver(progress: Progress, lsn: int, changes: int) -> list[int]:
    """A whole transaction; which of its changes are new."""
    progress.begin(lsn)
    new = [change for change in range(changes) if progress.is_new()]
    progress.commit(lsn + 5)
    return new


def test_each_transaction_is_new_once() -> None:
    progress = Progress()
    assert deliver(progress, 10, 2) == [0, 1]
    assert deliver(progress, 10, 2) == []
    assert deliver(progress, 20, 1) == [0]
    assert progress.safe_lsn == 25


def test_cut_transaction_goes_on_behind_what_was_delivered() -> None:
    progress = Progress()
    progress.begin(10)
    assert progress.is_new()
    assert progress.is_new()
    progress.connected()
    assert not progress.in_transaction
    assert deliver(progress, 10, 4) == [2, 3]


def test_safe_position_covers_only_whole_transactions() -> None:
    progress = Progress()
    deliver(progress, 10, 1)
    progress.begin(20)
    progress.is_new()
    assert progress.safe_lsn == 15
    progress.connected()
    progress.idle_until(18)
    assert progress.safe_lsn == 18


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_place_lets_another_process_go_on_exactly_there(sizes: list[int], data: st.DataObject) -> None:
    """Whatever was delivered before the stop, together with the rest after it, is everything once."""
    stop = data.draw(st.integers(0, sum(sizes)))
    first = Progress()
    delivered: list[tuple[int, int]] = []
    for number, size in enumerate(sizes, 1):
        if len(delivered) == stop:
            break
        first.begin(number * 10)
        for change in range(size):
            if len(delivered) < stop and first.is_new():
                delivered.append((number, change))
        if len(delivered) < stop:
            first.commit(number * 10 + 5)
    second = Progress()
    second.resume(*first.place)
    for number, size in enumerate(sizes, 1):
        delivered += [(number, change) for change in deliver(second, number * 10, size)]
    assert delivered == [(number, change) for number, size in enumerate(sizes, 1) for change in range(size)]
