"""The Rowcast that the demo runs: the example configuration for Econia, with this run's database and ports."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import as_file, files
from typing import Final

import attrs

from broker import Broker
from broker.config.model import Config
from broker.config.toml.configuration import load
from broker.feed.driver.connection import TrioConnection
from broker.feed.setup.install import install_steps
from broker.ingest import setup as sink_setup
from broker.links.listening.accept import ListenError

HOST: Final = "127.0.0.1"
CONFIGURATION: Final = "econia.toml"


def configuration(dsn: str, secret: str, kind: str) -> Config:
    """The packaged example, on 127.0.0.1.

    Args:
        dsn: of the demo's Postgres.
        secret: what WebSocket tokens are signed with.
        kind: of the feed: the one line of the example that may be another.
    """
    environment = {**os.environ, "DATABASE_URL": dsn, "PGWS_JWT_SECRET": secret}
    with as_file(files("broker.demo") / CONFIGURATION) as path:
        config = with_feeds(load(path, environment), kind)
    return local(config)


def with_feeds(config: Config, kind: str) -> Config:
    """The same with feeds of that kind."""
    return attrs.evolve(config, feeds=tuple(attrs.evolve(feed, kind=kind) for feed in config.feeds))


async def install_feeds(connection: TrioConnection, config: Config) -> None:
    """What `rowcast feed install --apply` does, for sinks, too."""
    steps = [step for feed in config.feeds for step in install_steps(feed)]
    if config.ingest is not None:
        steps += sink_setup.install_steps(config.ingest)
    for step in steps:
        await connection.execute(step.statement.encode())


def port_of(broker: Broker, protocol: str, dialect: str = "mqtt") -> int:
    """The open port that speaks that."""
    return next(
        port
        for listener, port in broker.app.addresses
        if listener.protocol == protocol and dialect in listener.dialects
    )


def new_secret() -> str:
    """A secret for this run alone."""
    return secrets.token_hex(16)


def local(config: Config) -> Config:
    """The same on 127.0.0.1."""
    return attrs.evolve(config, listeners=tuple(attrs.evolve(one, host=HOST) for one in config.listeners))


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Broker]:
    """A broker on the configuration's ports; where somebody has one of them, on any that are free.

    Raises: ListenError, if not even these can be had.
    """
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(Broker(config))
        except ListenError:
            broker = await stack.enter_async_context(Broker(_on_any_ports(config)))
        yield broker


def _on_any_ports(config: Config) -> Config:
    listeners = tuple(attrs.evolve(one, port=0) for one in config.listeners)
    admin = None if config.admin is None else attrs.evolve(config.admin, port=0)
    return attrs.evolve(config, listeners=listeners, admin=admin)
