"""How far a `listen` feed got outlives its process, where it may be kept."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve
from psycopg.types.json import Jsonb
from support.feeds import Running, running
from support.installed import connect, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed.listen import feed as listen_feed
from broker.feed.listen import kept_marks
from broker.feed.setup.install import install_steps
from broker.feed.supervise import supervise


@pytest.fixture
def config(database: str) -> FeedConfig:
    with connect(database) as connection:
        connection.execute("""
            CREATE TABLE event (at timestamptz NOT NULL, id numeric(39) NOT NULL, PRIMARY KEY (at, id));
            CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('event', row_to_json(NEW)::text); RETURN NULL; END $$;
            CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell();
        """)
    return FeedConfig(
        name="test",
        dsn=database,
        sources=(Source("events", ("event",)),),
        routes=(Route("events", ("event/{id}",)),),
        recoveries=(Recovery("public.event", ("at", "id"), (("events", "event"),)),),
    )


def insert(config: FeedConfig, *numbers: int) -> None:
    with connect(config.dsn) as connection:
        for number in numbers:
            connection.execute(f"INSERT INTO event VALUES ('2026-01-01 00:00:00.5Z', {number})")


async def test_rows_committed_between_two_processes_are_read_again_once(config: FeedConfig) -> None:
    install(config)
    insert(config, 1)
    async with running(config) as feed:
        insert(config, 2, 10**38)
        await feed.outlet.until(2)
    insert(config, 10**38 + 1, 10**38 + 2)
    async with running(config) as again:
        insert(config, 10**38 + 3)
        await again.outlet.until(3)
    assert feed.outlet.topics() == [b"event/2", b"event/%d" % 10**38]
    assert again.outlet.topics() == [b"event/%d" % (10**38 + number) for number in (1, 2, 3)]


async def test_table_that_was_empty_is_read_again_from_its_first_row(config: FeedConfig) -> None:
    install(config)
    async with running(config):
        pass
    insert(config, 1, 2)
    async with running(config) as feed:
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/1", b"event/2"]


async def test_marks_are_kept_while_live(config: FeedConfig) -> None:
    install(config)
    async with running(config) as feed:
        insert(config, 7)
        await feed.outlet.until(1)
        with connect(config.dsn) as connection:
            query = "SELECT marks->0->2->>1 FROM rowcast.feed WHERE name = 'test'"
            await until(lambda: connection.execute(query).fetchone() == ("7",))


async def test_without_an_installation_the_feed_begins_at_now(config: FeedConfig) -> None:
    async with running(config) as feed:
        insert(config, 1)
        await feed.outlet.until(1)
    insert(config, 2)
    async with running(config) as again:
        insert(config, 3)
        await again.outlet.until(1)
    assert again.outlet.topics() == [b"event/3"]


async def test_feed_that_is_installed_while_it_runs_keeps_its_place_from_then_on(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_marks, "LOOK_AGAIN_S", 0.0)
    async with running(config) as feed:
        install(config)
        insert(config, 1)
        await feed.outlet.until(1)
    insert(config, 2)
    async with running(config) as again:
        await again.outlet.until(1)
    assert again.outlet.topics() == [b"event/2"]


async def test_what_was_installed_a_moment_before_the_process_ends_keeps_its_place(
    config: FeedConfig,
) -> None:
    async with running(config) as feed:
        insert(config, 1)
        await feed.outlet.until(1)
        install(config)
    insert(config, 2)
    async with running(config) as again:
        await again.outlet.until(1)
    assert again.outlet.topics() == [b"event/2"]


TELLS = "CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell()"
MADE_ANEW = {
    "dropped": "CREATE TABLE other (LIKE event INCLUDING ALL); DROP TABLE event;"
    f" ALTER TABLE other RENAME TO event; {TELLS}",
    "renamed": f"ALTER TABLE event RENAME TO other; CREATE TABLE event (LIKE other INCLUDING ALL); {TELLS}",
    "emptied": "TRUNCATE event",
    "key of another type": "ALTER TABLE event ALTER id TYPE text",
}


def change(config: FeedConfig, statements: str) -> None:
    with connect(config.dsn) as connection:
        connection.execute(statements)


END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'rowcast'"
)


@pytest.mark.parametrize("act", MADE_ANEW.values(), ids=MADE_ANEW)
async def test_table_whose_keys_begin_anew_while_the_feed_is_away_is_a_gap_before_its_next_row(
    config: FeedConfig, act: str, short_pauses: None
) -> None:
    """The rows behind a mark of before can't be told from those that were there before it."""
    install(config)
    async with running(config) as feed:
        insert(config, 10)
        await feed.outlet.until(1)
    change(config, act)
    insert(config, 2)
    async with running(config) as again:
        assert "no place is known" in await again.outlet.gap()
        insert(config, 3)
        await again.outlet.until(1)
        change(config, END_BACKENDS)
        insert(config, 4)
        await again.outlet.until(2)
    assert again.outlet.topics() == [b"event/3", b"event/4"]
    assert again.status.gaps == 1


@pytest.mark.parametrize("act", MADE_ANEW.values(), ids=MADE_ANEW)
async def test_table_whose_keys_begin_anew_while_the_feed_listens_is_a_gap_once_its_connection_is_lost(
    config: FeedConfig, act: str, short_pauses: None
) -> None:
    install(config)
    async with running(config) as feed:
        insert(config, 10)
        await feed.outlet.until(1)
        change(config, act)
        insert(config, 2)
        await feed.outlet.until(2)
        change(config, END_BACKENDS)
        await feed.until_live(reconnects=1)
        assert "no place is known" in await feed.outlet.gap()
        insert(config, 3)
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/10", b"event/2", b"event/3"]
    async with running(config) as again:
        insert(config, 4)
        await again.outlet.until(1)
        assert (again.outlet.topics(), again.status.gaps) == ([b"event/4"], 0)


async def test_rewritten_table_is_a_gap_and_read_again_nevertheless(config: FeedConfig) -> None:
    install(config)
    async with running(config) as feed:
        insert(config, 1)
        await feed.outlet.until(1)
    change(config, "VACUUM FULL event")
    insert(config, 2)
    async with running(config) as again:
        await again.outlet.until(1)
    assert again.outlet.topics() == [b"event/2"]
    assert again.status.gaps == 1


async def test_kind_that_nobody_reads_again_is_a_gap_when_the_next_process_starts(config: FeedConfig) -> None:
    routes = (*config.routes, Route("events", ("other/{id}",), kind="other"))
    sources = (Source("events", ("event", "other")),)
    config = evolve(config, sources=sources, routes=routes)
    install(config)
    async with running(config) as feed:
        assert feed.status.gaps == 0
    async with running(config) as again:
        assert (
            "Rowcast was not running, and no [[recover]] reads again other of events"
            in await again.outlet.gap()
        )
        assert (again.status.gaps, again.status.reconnects) == (1, 0)


async def test_recover_that_is_new_has_no_place_yet_and_that_is_a_gap(config: FeedConfig) -> None:
    install(config)
    async with running(config):
        pass
    change(config, f"CREATE TABLE more (LIKE event INCLUDING ALL); {TELLS.replace('ON event', 'ON more')}")
    more = evolve(
        config, recoveries=(*config.recoveries, Recovery("public.more", ("id",), (("events", "more"),)))
    )
    async with running(more) as feed:
        assert "public.more" in await feed.outlet.gap()
    async with running(more) as again:
        assert again.status.gaps == 0


@pytest.mark.parametrize(
    "kept", [[["events", "event", ["2026-01-01 00:00:00.5Z", "1"]]], [["events"]], [[1, 2, 3]]]
)
async def test_what_another_version_kept_is_understood_or_a_gap(config: FeedConfig, kept: list[Any]) -> None:
    install(config)
    insert(config, 1, 2)
    with connect(config.dsn) as connection:
        connection.execute("UPDATE rowcast.feed SET marks = %s WHERE name = 'test'", [Jsonb(kept)])
    async with running(config) as feed:
        insert(config, 3)
        is_understood = len(kept[0]) == 3 and kept[0][0] == "events"
        await feed.outlet.until(2 if is_understood else 1)
    assert feed.outlet.topics() == [b"event/2", b"event/3"][0 if is_understood else 1 :]
    assert feed.status.gaps == (0 if is_understood else 1)


async def test_place_in_a_table_that_is_away_at_the_start_is_kept_until_it_is_back(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch, short_pauses: None
) -> None:
    """Also by a process that never sees the table."""
    monkeypatch.setattr(listen_feed, "LOOK_INTERVAL_S", 0.1)
    install(config)
    async with running(config) as feed:
        insert(config, 1)
        await feed.outlet.until(1)
    insert(config, 2)
    change(config, "ALTER TABLE event RENAME TO elsewhere")
    async with running(config) as unseen:
        assert "a table that is not there" in await unseen.outlet.gap()
    async with running(config) as again:
        change(config, "ALTER TABLE elsewhere RENAME TO event")
        await again.outlet.until(1)
    assert again.outlet.topics() == [b"event/2"]
    assert not any(b"no place is known" in payload for _, payload, _, _ in again.outlet.announced)


async def test_dropped_schema_is_waited_for_and_a_gap_once_it_is_there(
    config: FeedConfig, short_pauses: None
) -> None:
    install(config)
    async with running(config):
        pass
    change(config, "DROP SCHEMA rowcast CASCADE")
    insert(config, 1)
    feed = Running(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, config, feed.outlet, feed.status)
        await until(lambda: "rowcast.feed is missing" in feed.status.problem)
        install(config)
        await feed.until_live()
        assert "the schema rowcast was dropped" in await feed.outlet.gap()
        nursery.cancel_scope.cancel()
    async with running(config) as again:
        assert again.status.gaps == 0


async def test_rights_that_are_taken_cost_delay_only(config: FeedConfig, short_pauses: None) -> None:
    dsn = config.dsn.replace("user=postgres", "user=kept_marks_reader")
    config = evolve(config, dsn=dsn)
    with connect(dsn.replace("user=kept_marks_reader", "user=postgres")) as connection:
        for step in install_steps(config):
            connection.execute(step.statement)
        try:
            async with running(config):
                pass
            connection.execute("REVOKE USAGE ON SCHEMA rowcast FROM kept_marks_reader")
            connection.execute("INSERT INTO event VALUES ('2026-01-01 00:00:00.5Z', 1)")
            feed = Running(config)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervise, config, feed.outlet, feed.status)
                await until(lambda: "permission denied" in feed.status.problem)
                connection.execute("GRANT USAGE ON SCHEMA rowcast TO kept_marks_reader")
                await feed.outlet.until(1)
                nursery.cancel_scope.cancel()
            assert feed.status.gaps == 0
        finally:
            connection.execute("DROP OWNED BY kept_marks_reader")
            connection.execute("DROP ROLE kept_marks_reader")


SILENT = "CREATE OR REPLACE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
ANOTHER = (
    "CREATE FUNCTION tell_again() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN PERFORM pg_notify(''event'', row_to_json(NEW)::text); RETURN NULL; END'",
    "CREATE TRIGGER another AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION tell_again()",
)
OFF = "ALTER TABLE event DISABLE TRIGGER tell"
ON = "ALTER TABLE event ENABLE TRIGGER tell"


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    "acts",
    [(OFF,), ("DROP TRIGGER tell ON event",), ("ALTER TABLE event DISABLE TRIGGER ALL",), (SILENT,)],
    ids=["off", "dropped", "all off", "another function"],
)
async def test_rows_that_no_trigger_tells_of_are_read_by_key_and_may_be_missing(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch, acts: tuple[str, ...]
) -> None:
    monkeypatch.setattr(listen_feed, "LOOK_INTERVAL_S", 0.1)
    install(config)
    async with running(config) as feed:
        insert(config, 1)
        await feed.outlet.until(1)
        sql(config, *acts)
        insert(config, 2)
        await feed.outlet.until(2)
        assert "a trigger was taken away" in await feed.outlet.gap()
        sql(config, *ANOTHER)
        await feed.until_live(reconnects=1)
        insert(config, 3)
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/1", b"event/2", b"event/3"]
    assert feed.status.gaps == 1


async def test_trigger_that_was_off_before_a_crash_is_a_gap_at_the_next_start(config: FeedConfig) -> None:
    install(config)
    async with running(config) as feed:
        sql(config, OFF)
        insert(config, 1)  # told by nobody
        sql(config, ON)
        insert(config, 2)
        await feed.outlet.until(1)
    async with running(config) as again:
        assert "a trigger was taken away" in await again.outlet.gap()
    async with running(config) as again:
        assert again.status.gaps == 0
