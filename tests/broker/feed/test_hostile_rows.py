"""Rows and notifications that hold the one list of hostile values, from a real Postgres: each costs itself at most."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.feeds import running
from support.hostile_values import JSON_TEXTS, TEXTS
from support.installed import TELLS_OF_EVENTS, connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig, Fetch, Recovery, Route, Source

pytestmark = pytest.mark.usefixtures("short_pauses")

KINDS = ["wal", "outbox", "listen"]
KEPT = [text for text in TEXTS if "\0" not in text]
"""Postgres keeps no zero byte in a text."""

TABLE = """
CREATE TABLE event (
    id bigint PRIMARY KEY, name text, value json, amount numeric, part real, moment timestamptz, names text[]
);
"""
INSERT = "INSERT INTO event VALUES (%s, %s, %s, %s, %s, %s, %s)"
NUMBERS = ["NaN", "1e400", "-1e-400", "9" * 1000, "0.00000010", "-0", None]
REALS = ["NaN", "Infinity", "-Infinity", "1e-40", "-0", None]
MOMENTS = ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31", "0001-01-01 BC", None]


def made(dsn: str, kind: str) -> FeedConfig:
    """A route into topics that name what is hostile, and one that does not."""
    routes = (
        Route("tables", ("named/{name}",)),
        Route("tables", ("inside/{value.a}/{id}",)),
        Route("tables", ("last/{id}",)),
    )
    with connect(dsn) as connection:
        connection.execute(TABLE)
        if kind == "listen":
            connection.execute(TELLS_OF_EVENTS)
    if kind != "listen":
        config = feed_config(dsn, kind, routes=routes)
    else:
        names = (("tables", "event"),)
        config = FeedConfig(
            "test",
            dsn,
            sources=(Source("tables", ("event",)),),
            routes=routes,
            recoveries=(Recovery("public.event", ("id",), names),),
            fetches=(Fetch("public.event", ("id",), names),),
        )
    install(config)
    return config


def rows() -> list[tuple[Any, ...]]:
    made = [
        (text, None, NUMBERS[at % len(NUMBERS)], REALS[at % len(REALS)], MOMENTS[at % len(MOMENTS)], [text])
        for at, text in enumerate(KEPT)
    ]
    return made + [(None, text, None, None, None, []) for text in JSON_TEXTS]


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_of_each_kind_of_feed(database: str, kind: str) -> None:
    config = made(database, kind)
    async with running(config) as feed:
        written = []
        with connect(database) as connection:
            for number, row in enumerate(rows()):
                with suppress(psycopg.Error):  # it is no JSON, or no number, to Postgres itself
                    connection.execute(INSERT, (number, *row))
                    written.append(number)
            connection.execute("INSERT INTO event (id, name) VALUES (-1, 'end')")
        wanted = {b"last/%d" % number for number in written} | {b"last/-1"}
        await until(lambda: wanted <= set(feed.outlet.topics()), 120)
        assert "unexpected" not in feed.status.dropped
        assert len(written) > len(KEPT) // 2


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_topics_and_payloads_of_rowcast_publish(database: str, kind: str) -> None:
    config = made(database, kind)
    config = evolve(config, routes=config.routes[-1:])
    async with running(config) as feed:
        with connect(database) as connection:
            for text in KEPT:
                for topic, payload in ((text, "x"), ("t", text)):
                    with suppress(psycopg.Error):
                        connection.execute("SELECT rowcast.publish(%s, %s)", (topic, payload))
            connection.execute("SELECT rowcast.publish('end', 'x')")
        await until(lambda: b"end" in feed.outlet.topics(), 120)
        assert "unexpected" not in feed.status.dropped
        assert [payload for topic, payload, *_ in feed.outlet.published if topic == b"t"][:5] == [
            text.encode() for text in KEPT[:5]
        ]


async def test_notifications(database: str) -> None:
    config = made(database, "listen")
    async with running(config) as feed:
        with connect(database) as connection:
            for text in KEPT:
                short = text.encode()[:7000].decode(errors="ignore")
                connection.execute("SELECT pg_notify('event', %s)", (short,))
                connection.execute("SELECT pg_notify('event', %s)", ('{"id":' + short[:6000] + "}",))
            connection.execute("INSERT INTO event (id, name) VALUES (-1, 'end')")
        await until(lambda: b"last/-1" in feed.outlet.topics(), 120)
        assert "unexpected" not in feed.status.dropped
