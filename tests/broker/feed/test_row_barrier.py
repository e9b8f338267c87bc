"""What nobody expected of a row costs that row, and names its place but never its value."""

from __future__ import annotations

import psycopg
import pytest

from broker.core import barrier
from broker.feed.row_barrier import REASON, RowBarrier
from broker.feed.status import FeedStatus


@pytest.fixture(autouse=True)
def goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production."""
    monkeypatch.setattr(barrier, "RERAISE", False)


def test_a_bug_drops_the_row_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    status = FeedStatus("main")
    rows = RowBarrier(status)
    taken = []
    for value in ("1", "secret", "2"):
        with rows.of("table", "public.a", 0.0):
            taken.append(int(value))
    assert taken == [1, 2]
    assert status.dropped == {REASON: 1}
    assert "table public.a: ValueError at test_row_barrier.py:" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"c\xff", "c\N{REPLACEMENT CHARACTER}"), (memoryview(b"channel"), "channel"), (5, "5")],
)
def test_a_name_may_be_bytes(name: object, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    with RowBarrier(FeedStatus("main")).of("channel", name, 0.0):
        raise KeyError
    assert f"channel {shown}: KeyError" in caplog.text


@pytest.mark.parametrize("error", [psycopg.OperationalError("lost"), OSError("lost"), KeyboardInterrupt()])
def test_what_is_no_row_s_fault_passes(error: BaseException) -> None:
    status = FeedStatus("main")
    with pytest.raises(type(error)), RowBarrier(status).of("table", "a", 0.0):
        raise error
    assert status.dropped == {}


def test_in_tests_a_bug_fails_the_test_that_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "RERAISE", True)
    with pytest.raises(KeyError), RowBarrier(FeedStatus("main")).of("table", "a", 0.0):
        raise KeyError
