"""What most tests of this kind of feed begin with."""

from __future__ import annotations

import pytest
from support.installed import event_installed

from broker.config.feeds import FeedConfig


@pytest.fixture
def config(database: str) -> FeedConfig:
    """Of a feed of the table `event` that is installed."""
    return event_installed(database, "outbox")
