"""What a feed has in its database is called by its name, and what is wrong with it is said with its cure."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.feeds import Collector
from support.installed import connect, feed_config, install

from broker.config.feeds import FeedConfig, Replication
from broker.feed.status import FeedStatus
from broker.feed.wal.feed import WalFeed
from broker.feed.wal.slots import NotReady


@pytest.fixture
def config(database: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database)
    install(config)
    return config


def sql(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_unbounded_wal_is_refused_unless_allowed(config: FeedConfig) -> None:
    config = evolve(config, replication=Replication())
    with pytest.raises(NotReady, match="max_slot_wal_keep_size is unlimited"):
        await WalFeed(config, Collector(), FeedStatus("test")).attempt()
