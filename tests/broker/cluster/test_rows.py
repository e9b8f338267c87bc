"""Rows of one feed over two nodes: every row once and in order on each, whoever reads the feed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support.memory_nats import MemoryNats, refused
from support.nats import Server
from support.node_rows import configured, ids, insert, reader_among
from support.nodes import Client, joined
from support.postgres import Cluster, cluster, database
from trio.testing import MockClock

from broker import Broker, Config
from broker.cluster import lease
from broker.cluster.batch import RETRY_S
from broker.cluster.names import Names
from broker.cluster.rows import RowOutlet
from broker.cluster.status import ClusterStatus
from broker.core.engine import Engine
from broker.feed.outlet import Resumption
from broker.feed.status import FeedStatus
from protocol.nats import jetstream

__all__ = ["cluster", "database"]


@pytest.fixture
def other_database(cluster: Cluster) -> Iterator[str]:
    name = cluster.borrow_database()
    yield cluster.dsn(name)
    cluster.give_back(name)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_every_row_once_and_in_order_on_both_nodes_though_its_reader_leaves(
    nats_server: Server,
    cluster_name: str,
    database: str,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 60)  # a busy machine loses none
    config = configured(tmp_path, database, kind)
    urls = (nats_server.url,)
    async with trio.open_nursery() as nursery:
        leave = trio.Event()
        a: Broker = await nursery.start(stay, urls, cluster_name, config, leave)
        assert await reader_among(a) is a
        async with joined(urls, cluster_name, "b", config) as b:
            client_a, client_b = Client(a), Client(b)
            for client, name in ((client_a, b"ca"), (client_b, b"cb")):
                await client.connect(name)
                await client.subscribe((b"items/#", 1))
            await insert(database, 1, 1000)
            assert await ids(client_b, 1000) == list(range(1, 1001))
            assert await ids(client_a, 1000) == list(range(1, 1001))
            assert b.app.feeds["main"].state == "standby"
            await insert(database, 1001, 3000)
            leave.set()  # in the middle of these
            assert await ids(client_b, 2000) == list(range(1001, 3001))
            assert await reader_among(b) is b
            await insert(database, 3001, 3100)
            assert await ids(client_b, 100) == list(range(3001, 3101))


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_a_successor_with_another_database_goes_on_behind_that_one_s_rows(
    nats_server: Server, cluster_name: str, database: str, other_database: str, tmp_path: Path, kind: str
) -> None:
    """The feed is moved on one node and back on the next; what the first database had meanwhile has earlier places."""
    first, second = (tmp_path / name for name in ("first", "second"))
    configs = []
    for folder, dsn in ((first, database), (second, other_database)):
        folder.mkdir()
        configs.append(configured(folder, dsn, kind))
    urls = (nats_server.url,)
    async with joined(urls, cluster_name, "watch") as watch:
        client = Client(watch)
        await client.connect(b"watch")
        await client.subscribe((b"items/#", 1))
        async with joined(urls, cluster_name, "a", configs[0]) as a:
            await reader_among(a)
            await insert(database, 1, 5)
            assert await ids(client, 5) == list(range(1, 6))
        await insert(database, 6, 8)
        async with joined(urls, cluster_name, "b", configs[1]) as b:
            await reader_among(b)
            for number in range(101, 121):
                await insert(other_database, number, number)
            assert await ids(client, 20) == list(range(101, 121))
        async with joined(urls, cluster_name, "c", configs[0]) as c:
            await reader_among(c)
            await insert(database, 9, 10)
            assert await ids(client, 5) == list(range(6, 11))
        async with joined(urls, cluster_name, "d", configs[1]) as d:
            await reader_among(d)
            await insert(other_database, 121, 121)
            assert await ids(client, 1) == [121]


async def test_a_feed_that_began_anew_with_another_database_goes_on_behind_what_was_published_since() -> None:
    """Not behind the place that was saved, which may be older; the other database counts no longer."""
    link = MemoryNats().connected()
    outlet = RowOutlet(Engine(), link, Names("shop"), FeedStatus("main"), b"a/main.1", ClusterStatus())
    outlet.reads("1/1")
    outlet.resume("", (5, 1))
    outlet.reads("2/2")
    outlet.begin_anew()
    outlet.here = lambda: (900, 1)
    outlet.publish(b"t", b"1", 1, False)
    assert outlet.resume(outlet.log, (890, 1)) == Resumption((900, 1))


async def test_what_the_log_can_not_compare_yet_is_sent_again_at_once(autojump_clock: MockClock) -> None:
    """NATS has not done with what it has just acknowledged."""
    server = MemoryNats()
    server.stream("shop_MSGS", ("shop.MSGS.>",))
    status = ClusterStatus()
    outlet = RowOutlet(Engine(), server.connected(), Names("shop"), FeedStatus("main"), b"a/main.1", status)
    await outlet.begin()
    outlet.here = lambda: (1, 1)
    server.faults += [(b"shop.MSGS.f-main", refused(400, jetstream.WRONG_LAST_SEQUENCE_OF))] * 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        outlet.publish(b"t", b"1", 1, False)
        await outlet.durable()
        assert trio.current_time() - began < RETRY_S
        nursery.cancel_scope.cancel()
    assert server.faults == []
    assert status.retried == 2


async def stay(
    urls: tuple[str, ...],
    name: str,
    config: Config,
    leave: trio.Event,
    task_status: trio.TaskStatus[Broker] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with joined(urls, name, "a", config) as broker:
        task_status.started(broker)
        await leave.wait()
