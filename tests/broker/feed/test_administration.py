"""What administrators do to a server while a feed runs, or is stopped: all that was committed comes, or a gap does."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import running
from support.installed import TELLS_OF_EVENTS, connect, event_config, feed_config, install, sql
from support.polling import until
from support.postgres import Cluster

from broker.config.feeds import FeedConfig
from broker.feed.setup.install import install_steps

pytestmark = pytest.mark.usefixtures("short_pauses")

ROLE = "rowcast_administered"
TABLE = "CREATE TABLE event (id bigint PRIMARY KEY, note text)"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"

END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
)


@pytest.fixture
def renamed(cluster: Cluster, database: str) -> Iterator[tuple[str, str]]:
    """A database's connection string, and that under its name to come; named as before at the end."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    yield database, cluster.dsn(f"{name}_renamed")
    with connect(cluster.dsn()) as connection:
        connection.execute(END_OTHERS, [f"{name}_renamed"])
        connection.execute(f'ALTER DATABASE "{name}_renamed" RENAME TO "{name}"')


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_database_that_is_renamed_loses_nothing_in_silence(
    cluster: Cluster, renamed: tuple[str, str], kind: str
) -> None:
    before, after = renamed
    sql(before, TABLE)
    config = feed_config(before, kind)
    install(config)
    async with running(config) as feed:
        sql(before, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    name = psycopg.conninfo.conninfo_to_dict(before)["dbname"]
    with connect(cluster.dsn()) as connection:
        connection.execute(END_OTHERS, [name])
        connection.execute(f'ALTER DATABASE "{name}" RENAME TO "{name}_renamed"')
    sql(after, "INSERT INTO event VALUES (2, 'b')")
    async with running(evolve(config, dsn=after)) as feed:
        sql(after, "INSERT INTO event VALUES (3, 'c')")
        await until(lambda: b"event/3" in feed.outlet.topics())
    assert b"event/2" in feed.outlet.topics() or feed.status.gaps == 1
    if kind == "outbox":
        assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/2", b"event/3"], 0)


@pytest.fixture(params=["wal", "outbox"])
def of_a_role(request: pytest.FixtureRequest, database: str) -> Iterator[FeedConfig]:
    """An installed feed that connects as a role of its own."""
    sql(database, TABLE)
    config = feed_config(database.replace("user=postgres", f"user={ROLE}"), request.param)
    put_right(config, database)
    yield config
    sql(database, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def put_right(config: FeedConfig, dsn: str) -> None:
    """Install, as somebody who may."""
    sql(dsn, *(step.statement for step in install_steps(config)))


@pytest.mark.parametrize("what", ["schema", "feed", "role"])
async def test_rights_that_are_taken_away_cost_delay_and_nothing_else(
    database: str, of_a_role: FeedConfig, what: str
) -> None:
    revoke = {
        "schema": f"REVOKE USAGE ON SCHEMA rowcast FROM {ROLE}; REVOKE USAGE ON SCHEMA rowcast FROM PUBLIC",
        "feed": f"REVOKE ALL ON ALL TABLES IN SCHEMA rowcast FROM {ROLE}",
        "role": f"ALTER ROLE {ROLE} NOLOGIN NOREPLICATION",
    }[what]
    async with running(of_a_role) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(database, *revoke.split("; "))
        with connect(database) as connection:
            connection.execute(END_SESSIONS, [ROLE])
        sql(database, "INSERT INTO event VALUES (2, 'b')")
        await until(lambda: feed.status.state == "waiting" and bool(feed.status.problem))
        sql(database, f"ALTER ROLE {ROLE} LOGIN")
        put_right(of_a_role, database)
        sql(database, "INSERT INTO event VALUES (3, 'c')")
        await feed.outlet.until(3)
    assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/1", b"event/2", b"event/3"], 0)


TIMEOUTS = (
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "statement_timeout",
    "lock_timeout",
)


MAINTENANCE = ("read_only = on", "isolation = 'serializable'")


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_timeouts_that_are_set_for_programs_are_not_for_feeds(database: str, kind: str) -> None:
    config = event_config(kind, database.replace("user=postgres", f"user={ROLE}"))
    sql(database, TABLE, *([TELLS_OF_EVENTS] if kind == "listen" else []))
    put_right(config, database)
    try:
        sql(database, *(f"ALTER ROLE {ROLE} SET {name} = '150ms'" for name in TIMEOUTS))
        sql(database, *(f"ALTER ROLE {ROLE} SET default_transaction_{what}" for what in MAINTENANCE))
        async with running(config) as feed:
            await trio.sleep(0.4)  # longer than any of them
            sql(database, "INSERT INTO event VALUES (1, 'a')")
            await feed.outlet.until(1)
            assert (feed.status.reconnects, feed.status.gaps) == (0, 0)
    finally:
        sql(database, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_search_path_of_a_role_hides_nothing(database: str, kind: str) -> None:
    config = event_config(kind, database.replace("user=postgres", f"user={ROLE}"))
    sql(
        database,
        TABLE,
        "CREATE SCHEMA elsewhere",
        TABLE.replace("event", "elsewhere.event"),
        *([TELLS_OF_EVENTS] if kind == "listen" else []),
    )
    put_right(config, database)
    try:
        async with running(config):
            pass
        sql(
            database,
            f"ALTER ROLE {ROLE} SET search_path = elsewhere",
            "INSERT INTO event VALUES (1, 'a')",
            "INSERT INTO elsewhere.event VALUES (2, 'b')",
        )
        async with running(config) as feed:
            sql(database, "INSERT INTO event VALUES (3, 'c')")
            await feed.outlet.until(2)
            assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/1", b"event/3"], 0)
    finally:
        sql(database, f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


@pytest.mark.parametrize("jump", ["-3 days", "30 years"])
async def test_clock_that_jumps_changes_no_order(database: str, jump: str) -> None:
    sql(database, TABLE)
    config = feed_config(database, "outbox")
    install(config)
    async with running(config) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    sql(
        database,
        "INSERT INTO event VALUES (2, 'b')",
        f"UPDATE rowcast.outbox_commit SET committed_at = committed_at + interval '{jump}'",
        "INSERT INTO event VALUES (3, 'c')",
    )
    async with running(config) as feed:
        await feed.outlet.until(2)
        assert feed.status.lag_s >= 0.0
    assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/2", b"event/3"], 0)
