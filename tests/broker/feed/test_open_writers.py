"""Whoever had written before a capture was put right loses what they wrote in no silence, however late they commit."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from support.feeds import Collector, running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig

pytestmark = pytest.mark.usefixtures("short_pauses")

IDLE = (
    "CREATE OR REPLACE FUNCTION rowcast.outbox_capture() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RETURN NULL; END $$"
)
DEFINITION = "SELECT pg_get_functiondef('rowcast.outbox_capture()'::regprocedure)"
MEMBERS = "SELECT pubname FROM pg_publication_tables WHERE tablename = 'event' ORDER BY pubname"


def replace_function(config: FeedConfig) -> Callable[[], None]:
    with connect(config.dsn) as connection:
        (definition,) = connection.execute(DEFINITION).fetchone() or ("",)
        connection.execute(IDLE)
    return lambda: execute(config, definition)


def replace_function_and_install(config: FeedConfig) -> Callable[[], None]:
    execute(config, IDLE)
    return lambda: install(config)


def leave_out(config: FeedConfig) -> Callable[[], None]:
    with connect(config.dsn) as connection:
        names = [name for (name,) in connection.execute(MEMBERS).fetchall()]
        for name in names:
            connection.execute(f"ALTER PUBLICATION {name} DROP TABLE event")
    return lambda: execute(config, *(f"ALTER PUBLICATION {name} ADD TABLE event" for name in names))


def publish_nothing(config: FeedConfig) -> Callable[[], None]:
    with connect(config.dsn) as connection:
        names = [name for (name,) in connection.execute(MEMBERS).fetchall()]
        for name in names:
            connection.execute(f"ALTER PUBLICATION {name} SET (publish = 'truncate')")
    return lambda: install(config)


WAYS = {
    "outbox, by hand": ("outbox", replace_function),
    "outbox, installed": ("outbox", replace_function_and_install),
    "wal, a table": ("wal", leave_out),
    "wal, operations": ("wal", publish_nothing),
}


def execute(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def config(database: str, way: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database, WAYS[way][0])
    install(config)
    return config


class Order:
    """How many gaps had been announced when a row came."""

    def __init__(self, sink: Collector) -> None:
        self.gaps_before: dict[bytes, int] = {}
        self._sink = sink
        sink.on_publish = lambda published: self.note(published[0])

    def note(self, topic: bytes) -> None:
        self.gaps_before.setdefault(topic, sum(one[0].startswith(b"$SYS/") for one in self._sink.announced))

    async def of(self, number: int) -> int:
        topic = b"event/%d" % number
        await until(lambda: topic in self.gaps_before)
        return self.gaps_before[topic]


def insert(connection: psycopg.Connection, number: int) -> None:
    connection.execute("INSERT INTO event VALUES (%s, 'x')", [number])


@pytest.mark.parametrize("end", ["commit", "savepoint", "prepared"])
async def test_what_was_written_before_is_a_gap_when_it_commits(
    config: FeedConfig, way: str, end: str
) -> None:
    async with running(config) as feed:
        order = Order(feed.sink)
        with psycopg.connect(config.dsn) as writer:
            insert(writer, 1)
            if end == "savepoint":
                writer.execute("SAVEPOINT s")
            put_right = WAYS[way][1](config)
            insert(writer, 2)
            put_right()
            execute(config, "INSERT INTO event VALUES (3, 'y')")
            gaps = await order.of(3)
            assert gaps > 0
            execute(config, "INSERT INTO event VALUES (4, 'y')")
            assert await order.of(4) == gaps
            if end == "prepared":
                writer.execute("PREPARE TRANSACTION 'held'")
                execute(config, "INSERT INTO event VALUES (5, 'y')")
                assert await order.of(5) == gaps
                execute(config, "COMMIT PREPARED 'held'")
            else:
                writer.commit()
        execute(config, "INSERT INTO event VALUES (6, 'y')")
        assert await order.of(6) > gaps
        gaps = await order.of(6)
        execute(config, "INSERT INTO event VALUES (7, 'y')")
        assert await order.of(7) == gaps
    assert b"event/2" not in order.gaps_before


async def test_it_is_a_gap_for_the_next_process_too(config: FeedConfig, way: str) -> None:
    with psycopg.connect(config.dsn) as writer:
        async with running(config) as feed:
            order = Order(feed.sink)
            insert(writer, 1)
            put_right = WAYS[way][1](config)
            insert(writer, 2)
            put_right()
            execute(config, "INSERT INTO event VALUES (3, 'y')")
            assert await order.of(3) > 0
        async with running(config) as feed:
            order = Order(feed.sink)
            execute(config, "INSERT INTO event VALUES (4, 'y')")
            assert await order.of(4) == 0
        writer.commit()
    async with running(config) as feed:
        order = Order(feed.sink)
        execute(config, "INSERT INTO event VALUES (5, 'y')")
        assert await order.of(5) > 0


async def test_what_was_lost_before_the_first_row_of_a_connection_is_a_gap_before_it(
    config: FeedConfig, way: str
) -> None:
    async with running(config) as feed:
        order = Order(feed.sink)
        put_right = WAYS[way][1](config)
        execute(config, "INSERT INTO event VALUES (1, 'lost')")
        put_right()
        execute(config, "INSERT INTO event VALUES (2, 'y')")
        assert await order.of(2) > 0
