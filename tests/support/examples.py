"""Running one of `examples/` as it is: its SQL in a fresh database, its TOML on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import psycopg
import trio
import trio_websocket
from support.polling import until

from broker import Broker
from broker.config.feeds import Replication
from broker.config.toml.configuration import load
from broker.feed.setup.install import install_steps

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "example_secret_of_32_characters_"


@attrs.frozen
class Example:
    broker: Broker
    database: psycopg.Connection[tuple[object, ...]]
    port: int
    path: str

    async def connect(self, nursery: trio.Nursery) -> trio_websocket.WebSocketConnection:
        return await trio_websocket.connect_websocket(
            nursery, "127.0.0.1", self.port, self.path, use_ssl=False
        )


@asynccontextmanager
async def running_example(name: str, dialect: str, dsn: str) -> AsyncIterator[Example]:
    """The broker of `examples/NAME.toml` reading from a database that `examples/NAME.sql` has made."""
    environment = {"DATABASE_URL": dsn, f"{name.upper()}_JWT_SECRET": SECRET}
    config = load(EXAMPLES / f"{name}.toml", environment)
    config = attrs.evolve(
        config,
        listeners=tuple(attrs.evolve(one, port=0, host="127.0.0.1") for one in config.listeners),
        market=None
        if config.market is None
        else attrs.evolve(
            config.market, intakes=tuple(attrs.evolve(one, port=0) for one in config.market.intakes)
        ),
        admin=None if config.admin is None else attrs.evolve(config.admin, port=0),
    )
    replication = Replication(allow_unbounded_wal=True)
    feeds = tuple(attrs.evolve(feed, replication=replication) for feed in config.feeds)
    config = attrs.evolve(config, feeds=feeds)
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute((EXAMPLES / f"{name}.sql").read_bytes())
        for feed in feeds:
            for step in install_steps(feed):
                database.execute(step.statement)
        async with Broker(config) as broker:
            await until(lambda: all(feed.state == "live" for feed in broker.app.feeds.values()))
            [port] = [port for one, port in broker.app.addresses if dialect in one.dialects]
            path = getattr(config.gateway, dialect).path
            yield Example(broker, database, port, path)
