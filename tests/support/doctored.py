"""What tests of the doctor share: a table, feeds of it of each kind, and what the doctor says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from attrs import evolve, frozen
from support.installed import connect, feed_config

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.setup import doctor
from broker.feed.setup.findings import Check, Examination, Finding
from broker.feed.setup.steps import Step


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


def config_of_both(dsn: str, kind: str = "outbox") -> FeedConfig:
    """A feed of `event` and of `parted`, a partitioned table: inserts and deletes."""
    return feed_config(
        dsn,
        kind,
        sources=(Source("tables", (), tables=("public.event", "public.parted")),),
        routes=(Route("tables", ("t/{id}",), operations=("insert", "delete")),),
    )


@contextmanager
def undone(dsn: str, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction in which these have run, and of which nothing stays."""
    with connect(dsn) as connection, connection.transaction(force_rollback=True):
        for statement in statements:
            connection.execute(statement)
        yield connection


def run_steps(connection: psycopg.Connection[Any], steps: list[Step]) -> None:
    for step in steps:
        connection.execute(step.statement)


def said(check: Check, examination: Examination) -> list[tuple[str, str, str]]:
    """Level, text and cure of what a check finds."""
    return [(found.level, found.text, found.cure) for found in check(examination)]


@frozen
class _Info:
    server_version: int
    dsn: str


@frozen
class _Connection:
    info: _Info


class Told(Examination):
    """A database that answers as it is told: each question by a part of its text, all others with no row."""

    def __init__(
        self, config: FeedConfig, answers: Mapping[str, list[tuple[Any, ...]]], version: int = 150000
    ) -> None:
        stands_in = _Connection(_Info(version, config.dsn))
        super().__init__(cast("psycopg.Connection[Any]", stands_in), config)
        self._answers = answers

    def all(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        asked = f"{query} {parameters}"
        return next((rows for part, rows in self._answers.items() if part in asked), [])
