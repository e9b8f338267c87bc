"""A server that is being stopped in order is not held up by a feed that is behind, or can't confirm."""

from __future__ import annotations

import pytest
import trio
from attrs import evolve
from support.feeds import Published, Running, running
from support.installed import connect, event_installed
from support.postgres import Cluster

from broker.config.feeds import FeedConfig

pytestmark = pytest.mark.usefixtures("short_pauses")

STOP_S_MAX = 20.0
"""Before, it was half a minute: until the feed looked what is captured, and was let in no more."""


@pytest.fixture
def config(database: str) -> FeedConfig:
    return evolve(event_installed(database), check_interval_s=60.0)


async def stop_and_start(cluster: Cluster) -> None:
    try:
        with trio.fail_after(STOP_S_MAX):
            await trio.to_thread.run_sync(cluster.stop, abandon_on_cancel=True)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(cluster.stop_if_running)
            await trio.to_thread.run_sync(cluster.start)


def write(config: FeedConfig, first: int, last: int) -> None:
    with connect(config.dsn) as connection:
        connection.execute(f"INSERT INTO event SELECT i, 'x' FROM generate_series({first}, {last}) i")


async def all_came_once(feed: Running, last: int) -> None:
    await feed.outlet.until(last)
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, last + 1)]


async def test_feed_whose_disk_does_not_answer(config: FeedConfig, cluster: Cluster) -> None:
    async with running(config) as feed:
        answers = trio.Event()

        async def durable() -> None:
            await answers.wait()

        feed.outlet.durable = durable  # type: ignore[method-assign]
        write(config, 1, 10)
        await feed.outlet.until(10)
        await stop_and_start(cluster)
        answers.set()
        write(config, 11, 11)
        await all_came_once(feed, 11)


async def test_feed_that_is_behind(config: FeedConfig, cluster: Cluster) -> None:
    async with running(config) as feed:
        is_slow = True

        def publish(_: Published) -> None:
            if is_slow:
                spend_a_millisecond()

        feed.outlet.on_publish = publish
        write(config, 1, 60_000)
        await stop_and_start(cluster)
        is_slow = False
        await all_came_once(feed, 60_000)


async def test_feed_that_has_confirmed_all(config: FeedConfig, cluster: Cluster) -> None:
    async with running(config) as feed:
        for last in range(1, 4):
            write(config, last, last)
            await feed.outlet.until(last)
            await stop_and_start(cluster)
        await all_came_once(feed, 3)


async def test_the_session_beside_the_stream_may_be_ended(config: FeedConfig) -> None:
    async with running(config) as feed:
        with connect(config.dsn) as connection:
            ended = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'rowcast' AND backend_type = 'client backend'"
            ).fetchone()
        assert ended == (1,)
        write(config, 1, 10)
        await all_came_once(feed, 10)
        assert feed.status.reconnects == 0


def spend_a_millisecond() -> None:
    until = trio.current_time() + 0.001
    while trio.current_time() < until:
        pass
