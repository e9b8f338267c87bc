"""What nobody needs any more goes from the outbox, and nothing else."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.feeds import running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig, Replication
from broker.feed.outbox import pruning


@pytest.fixture
def config(database: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database, "outbox")
    install(config)
    return config


def sql(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_rows_read_by_all_are_pruned(config: FeedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_S", 0.05)
    config = evolve(config, replication=Replication(keep_s=0.0, poll_s=0.05))
    with connect(config.dsn) as connection:
        async with running(config) as feed:
            sql(config, *[f"INSERT INTO event VALUES ({number}, 'x')" for number in range(1, 11)])
            await feed.sink.until(10)
            count = (
                "SELECT (SELECT count(*) FROM rowcast.outbox), (SELECT count(*) FROM rowcast.outbox_commit)"
            )
            await until(lambda: connection.execute(count).fetchone() == (1, 1))
    assert feed.status.gaps == 0
