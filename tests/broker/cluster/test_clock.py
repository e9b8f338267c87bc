"""What time it is in a cluster."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from broker.cluster.clock import ServerClock


def said(unix: float) -> str:
    """As NATS says it."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0, 2.0])
def test_a_clock_that_is_wrong_is_corrected(ahead_s: float) -> None:
    clock = ServerClock()
    clock.told(said(1_800_000_000.1 - ahead_s), 1_800_000_000.0, 1_800_000_000.2)
    assert clock.ahead_s == pytest.approx(ahead_s, abs=0.001)
    assert clock.now() == pytest.approx(time.time() - ahead_s, abs=60)


def test_one_that_is_right_again_is_left_alone() -> None:
    clock = ServerClock()
    clock.told(said(1_800_003_600.0), 1_800_000_000.0, 1_800_000_000.0)
    assert clock.ahead_s == -3600.0
    clock.told(said(1_800_000_010.3), 1_800_000_010.0, 1_800_000_010.0)
    assert clock.ahead_s == 0.0


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_between_two_answers_counts_with_the_next_one(
    step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = ServerClock(), time.time
    unix = real()
    clock.told(said(unix), unix, unix)
    monkeypatch.setattr(time, "time", lambda: real() + step_s)
    assert clock.now() == pytest.approx(real(), abs=60)
    clock.told(said(real()), time.time(), time.time())
    assert clock.ahead_s == pytest.approx(step_s, abs=60)
    assert clock.now() == pytest.approx(real(), abs=60)


@pytest.mark.parametrize(
    ("words", "taken_s"),
    [(None, 0.0), (7, 0.0), ("noon", 0.0), ("2026-01-01T00:00:00", 0.0), (said(0.0), 1.5), (said(0.0), -0.1)],
    ids=["nothing", "number", "text", "no zone", "slow", "stepped"],
)
def test_what_says_nothing_for_certain_changes_nothing(words: object, taken_s: float) -> None:
    clock = ServerClock()
    clock.told(said(1_799_999_000.0), 1_800_000_000.0, 1_800_000_000.0)
    clock.told(words, 1_800_000_000.0, 1_800_000_000.0 + taken_s)
    assert clock.ahead_s == 1000.0


def test_it_is_said_once_as_long_as_it_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    clock = ServerClock()
    for ahead_s in (3600.0, 3601.0, 0.0, 2.0, -60.0):
        clock.told(said(1_800_000_000.0 - ahead_s), 1_800_000_000.0, 1_800_000_000.0)
    assert [one.message for one in caplog.records] == [
        "This machine's clock is 3600 s ahead of that of NATS, which counts for what expires.",
        "This machine's clock is 60 s behind that of NATS, which counts for what expires.",
    ]
