"""What Rowcast has installed and somebody alters by hand loses no row in silence."""

from __future__ import annotations

import pytest
from support.feeds import running
from support.installed import connect, feed_config, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig
from broker.feed.outbox import feed as outbox_feed
from broker.feed.setup.doctor import examine
from broker.feed.wal import feed as wal_feed

pytestmark = pytest.mark.usefixtures("short_pauses")

IDLE = "CREATE OR REPLACE FUNCTION rowcast.{} RETURNS {} LANGUAGE plpgsql AS $$ BEGIN {} END $$"
TRIGGER = "CREATE TRIGGER rowcast_capture AFTER INSERT ON event FOR EACH ROW"
ALWAYS = "ALTER TABLE event ENABLE ALWAYS TRIGGER rowcast_capture"

ACTS = {
    "capture": [IDLE.format("outbox_capture()", "trigger", "RETURN NULL;")],
    "mark": [IDLE.format("outbox_mark()", "void", "NULL;")],
    "number": [IDLE.format("outbox_number()", "trigger", "RETURN NULL;")],
    "settings": ["ALTER FUNCTION rowcast.outbox_capture() SECURITY INVOKER"],
    "rule": ["CREATE RULE away AS ON INSERT TO rowcast.outbox DO INSTEAD NOTHING"],
    "trigger of the outbox": [
        "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "CREATE TRIGGER away BEFORE INSERT ON rowcast.outbox FOR EACH ROW EXECUTE FUNCTION away()",
    ],
    "condition": [
        "DROP TRIGGER rowcast_capture ON event",
        f"{TRIGGER} WHEN (NEW.id > 1000) EXECUTE FUNCTION rowcast.outbox_capture('public.event')",
        ALWAYS,
    ],
    "another table's name": [
        "DROP TRIGGER rowcast_capture ON event",
        f"{TRIGGER} EXECUTE FUNCTION rowcast.outbox_capture('public.other')",
        ALWAYS,
    ],
}
UNDONE = ("DROP RULE IF EXISTS away ON rowcast.outbox", "DROP TRIGGER IF EXISTS away ON rowcast.outbox")


@pytest.fixture
def config(database: str, monkeypatch: pytest.MonkeyPatch) -> FeedConfig:
    monkeypatch.setattr(outbox_feed, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.1)
    sql(database, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    config = feed_config(database, "outbox")
    install(config)
    return config


def wrongs(config: FeedConfig) -> list[str]:
    with connect(config.dsn) as connection:
        return [finding.text for finding in examine(connection, config).findings if finding.level == "wrong"]


@pytest.mark.parametrize("name", ACTS)
async def test_alteration_is_a_gap_and_a_trouble_until_it_is_installed_again(
    config: FeedConfig, name: str
) -> None:
    async with running(config) as feed:
        sql(config.dsn, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(config.dsn, *ACTS[name], "INSERT INTO event VALUES (2, 'lost')")
        await feed.outlet.gap()
        assert feed.status.troubles
        assert any("as Rowcast has made it" in text for text in wrongs(config))
        sql(config.dsn, *UNDONE)
        install(config)
        sql(config.dsn, "INSERT INTO event VALUES (3, 'c')")
        await until(lambda: b"event/3" in feed.outlet.topics())
        await until(lambda: not feed.status.troubles)
    gaps = feed.status.gaps
    install(config)
    async with running(config) as feed:
        assert (feed.status.gaps, wrongs(config), gaps > 0) == (0, [], True)


@pytest.mark.parametrize("back", ["installed", "by hand"])
async def test_alteration_that_is_put_back_while_nobody_looks_is_a_gap(config: FeedConfig, back: str) -> None:
    function = "SELECT pg_get_functiondef('rowcast.outbox_mark()'::regprocedure)"
    async with running(config):
        pass
    with connect(config.dsn) as connection:
        (definition,) = connection.execute(function).fetchone() or ("",)
        connection.execute(ACTS["mark"][0])
        connection.execute("INSERT INTO event VALUES (1, 'lost')")
        if back == "installed":
            install(config)
        else:
            connection.execute(definition)
    async with running(config) as feed:
        await feed.outlet.gap()
        sql(config.dsn, "INSERT INTO event VALUES (2, 'b')")
        await feed.outlet.until(1)
    async with running(config) as feed:
        assert feed.status.gaps == 0


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_function_that_publishes_is_a_trouble(config: FeedConfig, kind: str, database: str) -> None:
    config = feed_config(database, kind)
    install(config)
    publish = (
        "publish(topic text, payload text, qos integer DEFAULT 1, retain boolean DEFAULT false,"
        " properties jsonb DEFAULT NULL)"
    )
    async with running(config) as feed:
        sql(database, IDLE.format(publish, "pg_lsn", "RETURN NULL;"))
        await until(lambda: "rowcast.publish" in feed.status.troubles.get("functions", ""))
        assert any("rowcast.publish" in text for text in wrongs(config))
        install(config)
        await until(lambda: not feed.status.troubles)


async def test_installation_of_an_earlier_version_is_not_taken_for_altered(config: FeedConfig) -> None:
    """It has no word of what its functions were made, and they may be others."""
    async with running(config):
        pass
    with connect(config.dsn) as connection:
        names = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'rowcast'::regnamespace"
        for (name,) in connection.execute(names).fetchall():
            connection.execute(f"COMMENT ON FUNCTION {name} IS NULL")
        (definition,) = connection.execute(
            "SELECT pg_get_functiondef('rowcast.outbox_capture()'::regprocedure)"
        ).fetchone() or ("",)
        connection.execute(definition.replace("RETURN NULL;", "RETURN NULL; -- as it was"))
    assert wrongs(config) == []
    async with running(config) as feed:
        sql(config.dsn, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        install(config)
        sql(config.dsn, "INSERT INTO event VALUES (2, 'b')")
        await feed.outlet.until(2)
    assert (feed.status.gaps, feed.status.troubles) == (0, {})


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_extension_that_is_dropped_costs_its_column_and_no_row(database: str, kind: str) -> None:
    sql(
        database,
        "CREATE EXTENSION IF NOT EXISTS hstore",
        "CREATE TABLE event (id bigint PRIMARY KEY, note text, more hstore)",
    )
    config = feed_config(database, kind)
    install(config)
    async with running(config) as feed:
        sql(database, "INSERT INTO event VALUES (1, 'a', 'a=>b')")
        await feed.outlet.until(1)
        sql(database, "DROP EXTENSION hstore CASCADE", "INSERT INTO event VALUES (2, 'b')")
        await feed.outlet.until(2)
    assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/1", b"event/2"], 0)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_money_is_as_the_database_writes_it(database: str, kind: str) -> None:
    sql(database, "CREATE TABLE event (id bigint PRIMARY KEY, price money)")
    config = feed_config(database, kind)
    install(config)
    async with running(config) as feed:
        sql(database, "SET lc_monetary = 'POSIX'; INSERT INTO event VALUES (1, 1.5)")
        (_, body, _, _), *_ = await feed.outlet.until(1)
    with connect(database) as connection:
        assert connection.execute("SELECT row_to_json(event)::text FROM event").fetchone() == (body.decode(),)
        setting = "SELECT proconfig FROM pg_proc WHERE oid = to_regprocedure('rowcast.outbox_capture()')"
        (settings,) = connection.execute(setting).fetchone() or ([],)
        default = connection.execute("SELECT 'lc_monetary=' || current_setting('lc_monetary')").fetchone()
    assert kind == "wal" or (default is not None and default[0] in settings)
