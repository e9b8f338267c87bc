"""What comes over a replication connection is delivered, whole transactions and streamed ones."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from support.feeds import running
from support.installed import connect, feed_config, install
from support.polling import until
from support.tcp_proxy import tcp_proxy

from broker.config.feeds import FeedConfig
from broker.feed.wal import slots

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")


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


async def test_streamed_transaction_is_delivered_at_its_commit_without_aborted_parts(
    config: FeedConfig, cluster: Any
) -> None:
    sql(config, "ALTER SYSTEM SET logical_decoding_work_mem = '64kB'", "SELECT pg_reload_conf()")
    try:
        async with running(config) as feed:
            with connect(config.dsn) as large, connect(config.dsn) as small:
                large.execute(
                    "BEGIN; INSERT INTO event SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i"
                )
                large.execute(
                    "SAVEPOINT s; INSERT INTO event SELECT i, repeat('y', 100) FROM generate_series(10000, 13000) i"
                )
                small.execute("INSERT INTO event VALUES (0, 'small')")
                await feed.sink.until(1)
                await until(lambda: feed.status.spooled_bytes > 0)
                large.execute("ROLLBACK TO s; INSERT INTO event VALUES (3001, 'last'); COMMIT")
            await feed.sink.until(3002)
            await until(lambda: feed.status.spooled_bytes == 0)
            sql(
                config,
                "BEGIN; INSERT INTO event SELECT i, repeat('z', 100) FROM generate_series(20000, 23000) i; ROLLBACK",
            )
            sql(config, "INSERT INTO event VALUES (5000, 'after')")
            await feed.sink.until(3003)
    finally:
        sql(config, "ALTER SYSTEM RESET logical_decoding_work_mem", "SELECT pg_reload_conf()")
    numbers = [int(topic[6:]) for topic in feed.sink.topics()]
    assert numbers == [0, *range(1, 3002), 5000]


async def test_silent_server_is_noticed(config: FeedConfig, cluster: Any) -> None:
    async with tcp_proxy(cluster.port) as proxy:
        dsn = config.dsn.replace(f"port={cluster.port}", f"port={proxy.port}")
        async with running(evolve(config, dsn=dsn, check_interval_s=0.3, check_timeout_s=0.5)) as feed:
            sql(config, "INSERT INTO event VALUES (1, 'a')")
            await feed.sink.until(1)
            proxy.freeze()
            sql(config, "INSERT INTO event VALUES (2, 'b')")
            await until(lambda: feed.status.state != "live")
            assert "silent" in feed.status.problem
            proxy.thaw()
            await feed.sink.until(2)
            sql(config, "INSERT INTO event VALUES (3, 'c')")
            await feed.sink.until(3)
    assert feed.sink.topics() == [b"event/1", b"event/2", b"event/3"]


async def test_server_that_can_not_stream_is_read_with_protocol_1(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before PostgreSQL 14 there are neither streamed transactions nor logical messages."""
    monkeypatch.setattr(slots, "PG_STREAMING", 10**9)
    async with running(config) as feed:
        sql(config, "INSERT INTO event SELECT i, 'x' FROM generate_series(1, 1000) i")
        sql(config, "SELECT rowcast.publish('a', 'unseen')", "INSERT INTO event VALUES (1001, 'x')")
        await feed.sink.until(1001)
    assert feed.sink.topics() == [b"event/%d" % number for number in range(1, 1002)]
