"""The last lines of the log: each once to whoever asks on, and no more than are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.reports.log_tail import LINES_MAX, LogTail


@given(st.lists(st.integers(0, 700), max_size=6))
def test_who_asks_on_gets_each_line_once_or_the_newest_that_are_kept(batches: list[int]) -> None:
    tail = LogTail()
    seen, written = 0, 0
    for batch in batches:
        for _ in range(batch):
            written += 1
            tail.add("notice", str(written))
        seen, lines = tail.since(seen)
        first = max(written - batch, written - LINES_MAX) + 1
        assert lines == [("notice", str(number)) for number in range(first, written + 1)]
        assert tail.since(seen) == (seen, [])


def test_before_the_first_line_there_is_nothing_to_ask_on_with() -> None:
    assert LogTail().since(0) == (0, [])
    assert LogTail().since(7) == (7, [])
