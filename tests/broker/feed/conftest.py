"""The feed's tests run against a real PostgreSQL."""

from __future__ import annotations

import pytest
from support.postgres import cluster, database

from broker.feed import supervise

__all__ = ["cluster", "database", "short_pauses"]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that failed begins again soon."""
    monkeypatch.setattr(supervise, "PAUSE_S_MIN", 0.05)
    monkeypatch.setattr(supervise, "PAUSE_S_MAX", 0.2)
