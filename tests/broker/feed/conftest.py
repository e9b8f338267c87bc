"""The feed's tests run against a real PostgreSQL."""

from __future__ import annotations

import pytest
from support.postgres import cluster, database, pair

from broker.feed import supervise
from broker.feed.fast.learning import FAST_PATH

__all__ = ["cluster", "database", "fast_path", "pair", "short_pauses"]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that failed begins again soon."""
    monkeypatch.setattr(supervise, "PAUSE_S_MIN", 0.05)
    monkeypatch.setattr(supervise, "PAUSE_S_MAX", 0.2)


@pytest.fixture(params=[True, False], ids=["fast", "careful"])
def fast_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rows go the way they go in production, where they are recognised by those before them; and the other."""
    monkeypatch.setattr(FAST_PATH, "is_on", request.param)
    return bool(request.param)
