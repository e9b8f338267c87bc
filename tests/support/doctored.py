"""What tests of the doctor share: a table, feeds of it of each kind, and what the doctor says of them."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from support.installed import connect, feed_config

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.setup import doctor
from broker.feed.setup.findings import Finding

EVENT = "CREATE TABLE event (id bigint PRIMARY KEY, note text)"


def sql(dsn: str, *statements: str) -> None:
    with connect(dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def findings(config: FeedConfig, level: str = "wrong") -> list[Finding]:
    with connect(config.dsn) as connection:
        return [found for found in doctor.examine(connection, config).findings if found.level == level]


def texts(config: FeedConfig, level: str = "wrong") -> str:
    """Each with its cure, a line each."""
    return "\n".join(f"{found.text} -> {found.cure}" for found in findings(config, level))


def listen_config(dsn: str, **changes: Any) -> FeedConfig:
    """A feed that hears of `event` on the channel `fill`, and reads it again by its key."""
    config = FeedConfig(
        name="test",
        dsn=dsn,
        sources=(Source("events", ("fill",)),),
        routes=(Route("events", ("fill/{id}",)),),
        recoveries=(Recovery("public.event", ("id",), (("events", "fill"),)),),
    )
    return evolve(config, **changes)


def as_kind(dsn: str, kind: str) -> FeedConfig:
    """A feed of `event` in a source `tables`, whatever its kind."""
    if kind != "listen":
        return feed_config(dsn, kind)
    source = Source("tables", ("event",))
    recovery = Recovery("public.event", ("id",), (("tables", "event"),))
    return FeedConfig(
        "test", dsn, sources=(source,), routes=(Route("tables", ("event/{id}",)),), recoveries=(recovery,)
    )
