"""A promoted standby is another timeline: the gap is announced, and the feed goes on.  With a real promotion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.feeds import running
from support.installed import TELLS_OF_EVENTS, connect, event_config, feed_config, install
from support.polling import until
from support.postgres import Cluster, Standby

from broker import Broker
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.feeds import FeedConfig
from broker.config.history import HistoryRule
from broker.config.model import Config, Listener, Security
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady
from broker.feed.wal.slots import (
    identify,
)

sys.path.insert(0, str(Path(__file__).parents[4] / "clients/python"))
from rowcast_client import Gap, Message
from rowcast_client.trio import connect as connect_client


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


def restart_as_standby(cluster: Cluster) -> None:
    """Of nobody."""
    cluster.stop()
    (cluster.data / "standby.signal").touch()
    cluster.start()


def promote(cluster: Cluster) -> None:
    """The standby goes on as timeline 2."""
    with connect(cluster.dsn()) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
@pytest.mark.usefixtures("short_pauses")
async def test_promotion_is_a_gap_and_the_feed_goes_on(own_cluster: Cluster, kind: str) -> None:
    dsn = own_cluster.dsn(own_cluster.create_database())
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(dsn, kind)
    install(config)
    async with running(config) as feed:
        with connect(dsn) as connection:
            connection.execute("INSERT INTO event VALUES (1, 'before')")
        await feed.outlet.until(1)
        await trio.to_thread.run_sync(restart_as_standby, own_cluster)
        await until(lambda: "the server is a standby" in feed.status.problem)
        await trio.to_thread.run_sync(promote, own_cluster)
        await feed.until_live(reconnects=1)
        with connect(dsn) as connection:
            connection.execute("INSERT INTO event VALUES (2, 'after')")
        await until(lambda: b"event/2" in feed.outlet.topics())
    assert await feed.outlet.gap() == "failover or restore: timeline 2, no longer 1"
    assert feed.status.gaps == 1


def config_with_history(feed: FeedConfig) -> Config:
    listener = Listener(
        0,
        host="127.0.0.1",
        protocol="websockets",
        dialects=("rowcast",),
        security=Security(allow_anonymous=True),
    )
    return Config(
        listeners=(listener,),
        feeds=(feed,),
        gateway=GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("#",))),
        history=(HistoryRule(("event/#",)),),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wal", "outbox"])
@pytest.mark.usefixtures("short_pauses")
async def test_a_rowcast_client_is_told_of_a_failover_and_nothing_from_before_is_recovered(
    own_cluster: Cluster, kind: str
) -> None:
    dsn = own_cluster.dsn(own_cluster.create_database())
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    feed = feed_config(dsn, kind)
    install(feed)
    with trio.fail_after(100):
        async with Broker(config_with_history(feed)) as broker:
            await until(lambda: broker.app.feeds["test"].state == "live")
            url = f"ws://127.0.0.1:{broker.ports[0]}/rowcast"
            async with connect_client(url) as client:
                subscription = client.subscribe("event/#", "now")
                await until(lambda: subscription.subscription.phase == "live")
                with connect(dsn) as connection:
                    connection.execute("INSERT INTO event VALUES (1, 'before')")
                before = await anext(subscription)
                await trio.to_thread.run_sync(restart_as_standby, own_cluster)
                await until(lambda: "the server is a standby" in broker.app.feeds["test"].problem)
                await trio.to_thread.run_sync(promote, own_cluster)
                gap = await anext(subscription)
                await until(lambda: broker.app.feeds["test"].state == "live")
                with connect(dsn) as connection:
                    connection.execute("INSERT INTO event VALUES (2, 'after')")
                after = await anext(subscription)
                assert isinstance(before, Message)
                assert isinstance(after, Message)
                if after.data == before.data:  # behind a gap a row may come again
                    after = await anext(subscription)
                    assert isinstance(after, Message)
            assert [before.data["id"], after.data["id"]] == [1, 2]
            assert gap == Gap("failover or restore: timeline 2, no longer 1")
            async with connect_client(url) as client:
                refused = await anext(client.subscribe("event/#", before.at))
                assert refused == Gap("rows may be missing: failover or restore: timeline 2, no longer 1")


async def test_a_standby_is_not_taken_for_the_server_that_it_is_a_copy_of(own_cluster: Cluster) -> None:
    """Promoted behind the question for its timeline, it would be read on as the old one, without a gap."""
    dsn = own_cluster.dsn(own_cluster.create_database())
    restart_as_standby(own_cluster)
    async with await TrioConnection.connect(f"{dsn} replication=database", autocommit=True) as replication:
        with pytest.raises(NotReady, match="the server is a standby"):
            await identify(replication)
        promote(own_cluster)
        assert (await identify(replication)).timeline == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
@pytest.mark.usefixtures("short_pauses")
async def test_a_standby_takes_over(pair: tuple[Cluster, Standby], kind: str) -> None:
    """What was committed comes, or the gap is announced before the next row: the slot stays on the old server."""
    primary, standby = pair
    with connect(primary.dsn()) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        if kind == "listen":
            connection.execute(TELLS_OF_EVENTS)
    install(event_config(kind, primary.dsn()))
    told: list[bool] = []
    async with running(event_config(kind, standby.dsn_of_both())) as feed:
        with connect(primary.dsn()) as connection:
            connection.execute("INSERT INTO event VALUES (1, 'before')")
        await feed.outlet.until(1)
        await trio.to_thread.run_sync(primary.stop, "immediate")
        await until(lambda: feed.status.state == "waiting")
        feed.outlet.on_publish = lambda published: told.append(bool(feed.outlet.announced))
        await trio.to_thread.run_sync(standby.promote)
        with connect(standby.dsn()) as connection:
            connection.execute("INSERT INTO event VALUES (2, 'meanwhile')")
        await feed.until_live(reconnects=1)
        with connect(standby.dsn()) as connection:
            connection.execute("INSERT INTO event VALUES (3, 'after')")
        await until(lambda: b"event/3" in feed.outlet.topics())
    came = [topic for topic in feed.outlet.topics() if topic != b"event/2" or kind != "wal"]
    assert came == [b"event/1", *([b"event/2"] if kind != "wal" else []), b"event/3"]
    if kind != "listen":
        assert all(told)
