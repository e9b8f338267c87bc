"""A table whose rows every node of a cluster gets: its configuration, its writer, and its reader."""

from __future__ import annotations

from pathlib import Path

import psycopg
import trio
from attrs import evolve
from support.nodes import Client

from broker import Broker, Config
from broker.cli.main import main
from broker.config.toml import configuration as toml

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
