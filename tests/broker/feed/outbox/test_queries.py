"""What the outbox is asked: transactions by their numbers, in parts, and whose database it is."""

from __future__ import annotations

import re

import psycopg
import pytest
from support.installed import connect, feed_config, install

from broker.config.feeds import FeedConfig
from broker.feed.outbox import feed as outbox
from broker.feed.outbox.queries import NEXT, REST


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


def test_large_transaction_is_read_in_parts_without_looking_at_it_whole(config: FeedConfig) -> None:
    sql(
        config,
        "BEGIN; INSERT INTO event SELECT n, 'a' FROM generate_series(1, 5000) n; COMMIT",
        "INSERT INTO event VALUES (0, 'small')",
    )
    parameters = {"seq": 1, "id": 2500, "limit": 500, "rows": 100, "awaited": ["1", "2"]}
    for query, seq in ((NEXT, 0), (REST, 1)):
        with psycopg.connect(config.dsn) as connection:
            connection.execute(outbox.SETTINGS.encode())
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {query}".encode()
            plan = connection.execute(explain, {**parameters, "seq": seq}).fetchall()
        looked_at = re.findall(r"'Actual Rows': (\d+)", str(plan))
        assert looked_at
        assert max(map(int, looked_at)) <= 102
