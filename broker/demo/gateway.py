"""The Rowcast that the demo runs: the example configuration for Econia, with this run's database and ports."""

from __future__ import annotations

import os
import secrets
import socket
from importlib.resources import as_file, files
from typing import Final

import attrs

from broker import Broker
from broker.cli import sinks
from broker.config.model import Config, Listener
from broker.config.toml.configuration import load
from broker.feed.driver.connection import TrioConnection
from broker.feed.setup.install import install_steps

HOST: Final = "127.0.0.1"
CONFIGURATION: Final = "econia.toml"


def configuration(dsn: str, secret: str, kind: str) -> Config:
    """The packaged example, on free ports of 127.0.0.1.

    Args:
        dsn: of the demo's Postgres.
        secret: what WebSocket tokens are signed with.
        kind: of the feed: the one line of the example that may be another.
    """
    environment = {**os.environ, "DATABASE_URL": dsn, "PGWS_JWT_SECRET": secret}
    with as_file(files("broker.demo") / CONFIGURATION) as path:
        config = with_feeds(load(path, environment), kind)
    return attrs.evolve(config, listeners=tuple(local(listener) for listener in config.listeners))


def with_feeds(config: Config, kind: str) -> Config:
    """The same with feeds of that kind."""
    return attrs.evolve(config, feeds=tuple(attrs.evolve(feed, kind=kind) for feed in config.feeds))


async def install_feeds(connection: TrioConnection, config: Config) -> None:
    """What `rowcast feed install --apply` does, for sinks, too."""
    steps = [step for feed in config.feeds for step in install_steps(feed)]
    if config.ingest is not None:
        steps += sinks.install_steps(config.ingest)
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


def local(listener: Listener) -> Listener:
    """The listener on 127.0.0.1, on its own port if that is free, otherwise on any."""
    port = listener.port if is_free(listener.port) else 0  # 0: any
    return attrs.evolve(listener, host=HOST, port=port)


def is_free(port: int) -> bool:
    """Whether a port of 127.0.0.1 can be had now."""
    with socket.socket() as probe:
        # Without it a port would count as taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
