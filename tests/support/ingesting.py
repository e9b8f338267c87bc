"""Sinks of an engine in this process, and what they need of a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import trio
from support.peer import Peer
from support.polling import until

from broker.app import engine_for
from broker.config.model import Config
from broker.config.toml.configuration import load
from broker.core.engine import Engine
from broker.ingest.hub import Hub
from protocol.mqtt.packets import Publish

TABLE = """
CREATE TABLE telemetry (id text COLLATE "C" UNIQUE, device text, metric text, value numeric CHECK (value < 1000000),
    at timestamptz, raw jsonb, qos smallint, client text, received timestamptz);
CREATE TABLE dead (received timestamptz NOT NULL, sink text NOT NULL, topic text NOT NULL, payload bytea NOT NULL,
    client text NOT NULL, qos smallint NOT NULL, reason text NOT NULL);
"""
SINK = """
[[mqtt.sink]]
topics = "telemetry/{device}/{metric}"
table = "public.telemetry"
columns = { device = "{device}", metric = "{metric}", value = "$.v", at = "$.ts", raw = "{$payload}", qos = "{$qos}", \
client = "{$client}", received = "{$now}" }
batch = { rows = 100, every = "1ms" }
"""
WITHIN_S = 120.0


def config_of(tmp_path: Path, dsn: str, sinks: str) -> Config:
    file = tmp_path / "rowcast.toml"
    file.write_text(f'[[listener]]\nport = 1883\n[database]\ndsn = "{dsn}"\n{sinks}')
    return load(file, {})


def rows_of(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query).fetchall()


@asynccontextmanager
async def ingesting(config: Config) -> AsyncIterator[tuple[Engine, Hub]]:
    engine = engine_for(config)
    engine.turn.clock = trio.current_time
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            hub = Hub(engine, nursery)
            hub.adopt(config.ingest)
            yield engine, hub
            nursery.cancel_scope.cancel()


async def read(peer: Peer, count: int = 1) -> list[Any]:
    """What a peer is answered, as soon as it is so much."""
    found: list[Any] = []

    def has_come() -> bool:
        found.extend(peer.read())
        return len(found) >= count

    await until(has_come)
    return found


def publish(topic: str, payload: str | bytes, qos: int, packet_id: int, dup: bool = False) -> Publish:
    body = payload.encode() if isinstance(payload, str) else payload
    return Publish(topic.encode(), body, qos, False, dup, packet_id)
