"""Notifications that a `wal` or `outbox` feed carries, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio.testing
from attrs import evolve
from support.feeds import Collector, running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.cli.main import main
from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.feed import notices, unheard
from broker.feed.fast.learning import FAST_PATH
from broker.feed.feed_row import NotReady
from broker.feed.kinds import kind_of
from broker.feed.notices import Notices, carried_channels
from broker.feed.outbox import pruning
from broker.feed.setup import doctor, doctor_wal
from broker.feed.setup.install import remove_steps
from broker.feed.status import FeedStatus
from broker.feed.wal import feed as wal

TRIGGER = """
CREATE SCHEMA app;
CREATE TABLE app.part (event_id bigint, note text);
CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ws', json_build_object('channel', tg_argv[0], 'payload', new)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON event FOR EACH ROW EXECUTE FUNCTION app.tell('event');
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON app.part FOR EACH ROW EXECUTE FUNCTION app.tell('part');
CREATE FUNCTION app.say(text) RETURNS void LANGUAGE sql AS $$ SELECT pg_catalog.pg_notify('plain', $1) $$;
"""
SOURCES = (Source("ws", ("ws",), ("channel",), ("payload",)), Source("events", ("event", "plain")))
RECOVERY = Recovery("public.event", ("id",), (("ws", "event"), ("events", "event")))
ROUTES = (
    Route("ws", ("{$kind}",), body="raw", target="econia"),
    Route("events", ("event/{id}",), kind="event"),
    Route("events", ("plain/{id}",), kind="plain"),
)


@pytest.fixture(params=["wal", "outbox"])
def config(request: pytest.FixtureRequest, database: str) -> FeedConfig:
    """A configuration made for `listen`, with triggers, moved by one word."""
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        connection.execute(TRIGGER)
    config = feed_config(database, request.param, sources=SOURCES, routes=ROUTES, recoveries=(RECOVERY,))
    install(config)
    return config


def sql(config: FeedConfig, *statements: str) -> None:
    with connect(config.dsn) as connection, connection.transaction():
        for statement in statements:
            connection.execute(statement)


async def test_notification_takes_its_place_among_rows_and_rows_are_not_told_twice(
    config: FeedConfig,
) -> None:
    async with running(config) as feed:
        sql(
            config,
            "INSERT INTO event VALUES (1, 'a')",
            "INSERT INTO app.part VALUES (1, 'b')",
            """SELECT app.say('{"id":7}')""",
            "INSERT INTO event VALUES (2, 'c')",
        )
        published = await feed.outlet.until(6)
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert [(topic, body) for topic, body, _, _ in published] == [
        (b"$ws/econia/event", b'{"channel" : "event", "payload" : {"id":1,"note":"a"}}'),
        (b"event/1", b'{"id":1,"note":"a"}'),
        (b"$ws/econia/part", b'{"channel" : "part", "payload" : {"event_id":1,"note":"b"}}'),
        (b"plain/7", b'{"id":7}'),
        (b"$ws/econia/event", b'{"channel" : "event", "payload" : {"id":2,"note":"c"}}'),
        (b"event/2", b'{"id":2,"note":"c"}'),
    ]


async def test_notification_sent_while_we_were_away_comes_and_a_rolled_back_one_never(
    config: FeedConfig,
) -> None:
    with connect(config.dsn) as connection, connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO app.part VALUES (1, 'never')")
    sql(config, "INSERT INTO app.part VALUES (2, 'later')")
    async with running(config) as feed:
        published = await feed.outlet.until(1)
    assert b'"note":"later"' in published[0][1]


async def test_what_a_transaction_says_twice_is_said_once_as_by_notify(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, *["UPDATE app.part SET note = note", """SELECT app.say('{"id":1}')"""] * 2)
        sql(config, """SELECT app.say('{"id":1}')""", """SELECT app.say('{"id":2}')""")
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"plain/1", b"plain/1", b"plain/2"]


async def test_notification_for_the_feed_alone_may_be_of_any_size(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(
            config,
            """SELECT rowcast.notify('plain', json_build_object('id', 1, 'x', repeat('é', 100000))::text)""",
        )
        published = await feed.outlet.until(1)
    assert len(published[0][1]) > 200_000


async def test_whoever_listens_still_hears_everything(config: FeedConfig) -> None:
    with connect(config.dsn) as listener:
        listener.execute("LISTEN ws")
        listener.execute("LISTEN plain")
        sql(config, "INSERT INTO event VALUES (1, 'a')", """SELECT app.say('{"id":7}')""")
        heard = [notify.channel for notify in listener.notifies(timeout=60, stop_after=2)]
    assert heard == ["ws", "plain"]


async def test_writer_without_privileges_may_notify(config: FeedConfig) -> None:
    sql(
        config,
        "DROP ROLE IF EXISTS writer_of_notices",
        "CREATE ROLE writer_of_notices",
        "GRANT USAGE ON SCHEMA app TO writer_of_notices",
        "GRANT INSERT ON app.part TO writer_of_notices",
    )
    async with running(config) as feed:
        sql(config, "SET ROLE writer_of_notices", "INSERT INTO app.part VALUES (1, 'a')")
        await feed.outlet.until(1)
    sql(config, "DROP OWNED BY writer_of_notices", "DROP ROLE writer_of_notices")


def test_function_that_was_made_anew_is_named_and_install_brings_it_back(config: FeedConfig) -> None:
    def wrong() -> list[str]:
        with connect(config.dsn) as connection:
            return [f.text for f in doctor.examine(connection, config).findings if f.level == "wrong"]

    assert not wrong()
    sql(
        config,
        "CREATE OR REPLACE FUNCTION app.say(text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('plain', $1) $$",
    )
    assert wrong() == ["app.say(text) calls pg_notify, which only those hear who LISTEN"]
    install(config)
    assert not wrong()


async def test_function_that_is_made_anew_while_live_is_named_in_the_log(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wal, "UNHEARD_INTERVAL_S", 0.05)
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_S", 0.05)
    async with running(config):
        assert "not heard" not in caplog.text
        sql(
            config,
            "CREATE OR REPLACE FUNCTION app.say(text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('plain', $1) $$",
        )
        await until(lambda: "notifications not heard" in caplog.text)
    assert "app.say(text)" in caplog.text


@pytest.mark.parametrize("drop_schema", [False, True])
def test_remove_leaves_functions_as_they_were(config: FeedConfig, drop_schema: bool) -> None:
    with connect(config.dsn) as connection:
        for step in remove_steps(config, drop_schema):
            connection.execute(step.statement)
        bodies = connection.execute("SELECT prosrc FROM pg_proc WHERE pronamespace = 'app'::regnamespace")
        assert not any("rowcast" in body for (body,) in bodies)
    with connect(config.dsn) as listener:
        listener.execute("LISTEN ws")
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        assert len(list(listener.notifies(timeout=60, stop_after=1))) == 1


async def test_feed_that_would_hear_nothing_does_not_start(config: FeedConfig) -> None:
    sql(config, "DROP FUNCTION rowcast.pg_notify(text, text)")
    feed = kind_of(config).feed(config, Collector(), FeedStatus("x"))
    with pytest.raises(NotReady, match=r"rowcast\.pg_notify"):
        await feed.attempt()


async def test_server_without_logical_messages_is_refused(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unheard, "PG_STREAMING", 10**9)
    monkeypatch.setattr(doctor_wal, "PG_STREAMING", 10**9)
    if config.kind == "outbox":
        async with running(config):
            return
    with pytest.raises(NotReady, match="PostgreSQL 14"):
        await kind_of(config).feed(config, Collector(), FeedStatus("x")).attempt()
    with connect(config.dsn) as connection:
        unwise = [f.text for f in doctor.examine(connection, config).findings if f.level == "unwise"]
    assert "before PostgreSQL 14 nothing comes of rowcast.publish() and rowcast.notify()" in unwise


def test_install_says_which_functions_it_has_changed(
    config: FeedConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql(
        config,
        "CREATE OR REPLACE FUNCTION app.say(text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('plain', $1) $$",
    )
    path = tmp_path / "rowcast.toml"
    path.write_text(f"""
[[listener]]
port = 0
[database]
dsn = "{config.dsn}"
kind = "{config.kind}"
name = "test"
[source.events]
listen = "plain"
[[mqtt.route]]
from = "events"
topics = "plain/{{id}}"
""")
    assert main(["feed", "install", "-c", str(path), "--apply"]) == 0
    assert "app.say(text) now calls rowcast.pg_notify\n" in capsys.readouterr().out


def test_channels_are_carried_on_which_more_than_recovered_rows_may_come() -> None:
    config = FeedConfig("x", "", "wal", SOURCES, ROUTES, (RECOVERY,))
    assert carried_channels(config) == ("ws", "plain")
    assert carried_channels(evolve(config, routes=ROUTES[1:])) == ("plain",)
    assert carried_channels(evolve(config, routes=ROUTES[1:2])) == ()
    assert carried_channels(evolve(config, kind="listen")) == ()


def test_notifications_recognised_by_their_looks_become_what_the_others_become(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = (*ROUTES[:2], Route("events", ("plain/{id}",), kind="plain", once_per=("id",)))
    config = FeedConfig("x", "", "wal", SOURCES, routes, (RECOVERY,))
    careful, by_looks = FeedStatus("x"), FeedStatus("x")
    monkeypatch.setattr(FAST_PATH, "is_on", False)
    one = Notices(config, careful)
    monkeypatch.setattr(FAST_PATH, "is_on", True)
    other = Notices(config, by_looks)
    said = [
        (b"ws", b'{"channel" : "%b", "payload" : {"id":%b,"note":%b}}' % (kind, value, note))
        for kind in (b"event", b"part", b"part")
        for value in (b"1", b"null")
        for note in (b'"a"', b'"\\u00e9/"', b"{}")
    ]
    said += [(b"plain", b'{"id":%b}' % value) for value in (b"7", b"7", b'"a/b"', b"{}", b"8")]
    said += [(b"plain", b"no JSON"), (b"event", b'{"id":1}'), (b"elsewhere", b"{}")]
    for channel, text in said * 2:
        assert one.publications(channel, text, 0.0, b"") == other.publications(channel, text, 0.0, b"")
    counts = [(status.repeated, status.dropped) for status in (careful, by_looks)]
    assert counts[0] == counts[1]
    monkeypatch.setattr(other, "_router", None)  # who reads with care
    told = [len(other.publications(*said[place], 0.0, b"")) for place in (0, 6, -4)]
    assert told == [0, 1, 0], "a row of the table; no row of it; one that was told before"


def test_memory_of_what_was_said_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "SAID_MAX", 2)
    said = Notices(FeedConfig("x", ""), FeedStatus("x"))
    assert [said.is_repeated(b"c", text) for text in (b"1", b"2", b"3", b"1", b"3")] == [
        False, False, False, True, False,
    ]  # fmt: skip
    said.begin()
    assert not said.is_repeated(b"c", b"1")
