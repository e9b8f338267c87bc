"""Rows of one feed over two nodes: every row once and in order on each, whoever reads the feed."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.nats import Server
from support.node_rows import configured, ids, insert, reader_among
from support.nodes import Client, joined
from support.postgres import cluster, database

from broker import Broker, Config
from broker.cluster import lease

__all__ = ["cluster", "database"]


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
