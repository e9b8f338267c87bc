"""For all tests of the broker: a machine that stood still says nothing about the broker that ran on it."""

from __future__ import annotations

import math

import pytest

from broker.reports import pulse


@pytest.fixture(autouse=True)
def loop_counts_as_turning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers in this process are ready and healthy however late the machine lets their loops turn."""
    monkeypatch.setattr(pulse, "STUCK_S", math.inf)
