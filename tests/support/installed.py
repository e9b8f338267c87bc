"""Databases with what a feed needs in them, and rows in their tables."""

from __future__ import annotations

from typing import Any

import psycopg
from attrs import evolve
from support.polling import until

from broker.config.feeds import FeedConfig, Recovery, Replication, Route, Source
from broker.feed.setup.install import install_steps

EVENT = "CREATE TABLE event (id bigint PRIMARY KEY, note text)"

TELLS_OF_EVENTS = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    message text := row_to_json(NEW);
BEGIN
    IF octet_length(message) >= 8000 THEN
        message := json_build_object('id', NEW.id);
    END IF;
    PERFORM pg_notify('event', message);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell();
"""
"""What notifies a feed of the kind `listen` of each new row of `event`; of a long one by its key alone."""


def feed_config(dsn: str, kind: str = "wal", **changes: Any) -> FeedConfig:
    """A feed of `public.event`: inserts to `event/ID`, QoS 1."""
    config = FeedConfig(
        name="test",
        dsn=dsn,
        kind=kind,
        sources=(Source("tables", (), tables=("public.event",)),),
        routes=(Route("tables", ("event/{id}",), kind="public.event"),),
        replication=Replication(allow_unbounded_wal=True, poll_s=0.2),
        check_interval_s=1.0,
        check_timeout_s=1.0,
    )
    return evolve(config, **changes)


def event_config(kind: str, dsn: str) -> FeedConfig:
    """The same to whoever receives; of the kind `listen` it hears `TELLS_OF_EVENTS`, and reads the table again."""
    config = feed_config(dsn, kind)
    if kind != "listen":
        return config
    return evolve(
        config,
        sources=(Source("events", ("event",)),),
        routes=(Route("events", ("event/{id}",)),),
        recoveries=(Recovery("public.event", ("id",), (("events", "event"),)),),
    )


def connect(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, autocommit=True)


def sql(where: FeedConfig | str, *statements: str) -> None:
    """Run statements, each by itself, in a feed's database or in that of a connection string."""
    with connect(where if isinstance(where, str) else where.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


def install(config: FeedConfig, widen: bool = False) -> None:
    """Run what `rowcast feed install --apply` runs."""
    with connect(config.dsn) as connection:
        for step in install_steps(config, widen=widen):
            connection.execute(step.statement)


def event_installed(dsn: str, kind: str = "wal") -> FeedConfig:
    """A feed of `public.event`, which is made, and for which it is installed."""
    sql(dsn, EVENT)
    config = feed_config(dsn, kind)
    install(config)
    return config


async def slots_released(dsn: str) -> None:
    """No replication slot of the server is in use: each ends to be a little later than the client that used it."""

    def is_any_in_use() -> bool:
        with connect(dsn) as connection:
            return bool(connection.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchall())

    await until(lambda: not is_any_in_use())


async def drop_slots(dsn: str) -> None:
    """Every replication slot of the server, as soon as none is in use."""
    await slots_released(dsn)
    with connect(dsn) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
