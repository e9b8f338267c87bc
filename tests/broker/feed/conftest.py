"""The feed's tests run against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.installed import event_installed
from support.postgres import cluster, database, kept_database, pair

from broker.config.feeds import FeedConfig
from broker.feed import supervise
from broker.feed.driver import failures
from broker.feed.driver.connection import TrioConnection
from broker.feed.fast import shape
from broker.feed.fast.learning import FAST_PATH

__all__ = [
    "cluster",
    "config",
    "connection",
    "database",
    "fast_path",
    "kept_database",
    "pair",
    "short_pauses",
]


@pytest.fixture
def config(database: str) -> FeedConfig:
    """Of a feed of the table `event` that is installed, of the kind `wal`."""
    return event_installed(database)


@pytest.fixture
async def connection(config: FeedConfig) -> AsyncIterator[TrioConnection]:
    """To its database, each statement a transaction."""
    async with await TrioConnection.connect(config.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that is stopped says how far it is, also on a busy machine; else its next run would repeat rows."""
    monkeypatch.setattr(failures, "STOP_S_MAX", 10.0)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that failed begins again soon."""
    monkeypatch.setattr(supervise, "PAUSE_S_MIN", 0.05)
    monkeypatch.setattr(supervise, "PAUSE_S_MAX", 0.2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where it is compiled, a quick run leaves the careful path out: it is not compiled, and tested interpreted."""
    if str(shape.__file__).endswith(".py") or config.option.markexpr != "not slow":
        return
    left_out = [one for one in items if takes_careful_path(one)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [one for one in items if not takes_careful_path(one)]


def takes_careful_path(item: pytest.Item) -> bool:
    drawn = getattr(item, "callspec", None)
    return drawn is not None and drawn.params.get("fast_path") is False


@pytest.fixture(params=[True, False], ids=["fast", "careful"])
def fast_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rows go the way they go in production, where they are recognised by those before them; and the other."""
    monkeypatch.setattr(FAST_PATH, "is_on", request.param)
    return bool(request.param)
