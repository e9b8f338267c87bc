"""Rows of one feed over two nodes: every row once and in order on each, whoever reads the feed."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import trio
from attrs import evolve
from support.nats import Server
from support.nodes import Client, joined
from support.postgres import cluster, database

from broker import Broker, Config
from broker.cli.main import main
from broker.cluster import lease
from broker.config.toml import configuration as toml

__all__ = ["cluster", "database"]

CONFIGURATION = """
[[listener]]
port = 0

[database]
dsn = "{dsn}"
kind = "{kind}"

[source.rows]
tables = ["public.items"]

[[mqtt.route]]
from = "rows"
topics = ["items/{{id}}", "copies/{{id}}"]
"""


def configured(folder: Path, dsn: str, kind: str) -> Config:
    path = folder / "rowcast.toml"
    text = CONFIGURATION.format(dsn=dsn, kind=kind)
    if kind == "wal":
        text += "[database.replication]\nallow_unbounded_wal = true\n"
    path.write_text(text)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
    assert main(["feed", "install", "-c", str(path), "--apply"]) == 0
    return evolve(toml.load(path, {}), listeners=())


async def insert(dsn: str, first: int, last: int) -> None:
    def work() -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute("INSERT INTO items SELECT generate_series(%s::int, %s::int)", [first, last])

    await trio.to_thread.run_sync(work)


async def reader_among(*brokers: Broker) -> Broker:
    with trio.fail_after(60):
        while True:
            for broker in brokers:
                if broker.app.feeds["main"].state == "live":
                    return broker
            await trio.sleep(0.05)


async def ids(client: Client, count: int) -> list[int]:
    return [int((await client.message())[0].rpartition(b"/")[2]) for _ in range(count)]


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
