"""What a slot may forget: by age, not above a size, and never what is not durable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.feed.wal.retention import KEPT_BYTES_MAX, MARKS, Retention

steps = st.lists(st.tuples(st.floats(0, 100), st.integers(0, KEPT_BYTES_MAX // 2)), max_size=60)


@given(steps, st.sampled_from([0.0, 1.0, 150.0]))
def test_what_is_young_stays_unless_it_is_too_much(steps: list[tuple[float, int]], keep_s: float) -> None:
    retention = Retention(keep_s)
    now, lsn, before = 0.0, 1, 0
    became: list[tuple[float, int]] = []
    for pause_s, grown in steps:
        now, lsn = now + pause_s, lsn + grown
        retention.durable(lsn, now)
        became.append((now, lsn))
        found = retention.confirmable(now)
        assert before <= found <= lsn
        old = max((one for at, one in became if at <= now - keep_s), default=0)
        assert found <= max(old, lsn - KEPT_BYTES_MAX)
        settled = max((one for at, one in became if at <= now - keep_s - keep_s / MARKS), default=0)
        assert found >= max(settled, lsn - KEPT_BYTES_MAX)
        before = found


def test_positions_that_begin_anew() -> None:
    retention = Retention(0.0)
    retention.durable(1000, 1.0)
    retention.begin_anew()
    retention.durable(10, 2.0)
    assert retention.confirmable(2.0) == 10
