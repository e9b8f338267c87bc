"""What people do to a database while a feed runs, or while none does: nothing is lost in silence.

Each case commits a row that can't come, and one that can: before the second a gap has been announced.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from support.feeds import Published, Running, running
from support.installed import connect, drop_slots, event_installed, feed_config, install, sql
from support.polling import until

from broker.config.feeds import FeedConfig, Route
from broker.feed.outbox.pruning import OURS
from broker.feed.setup.install import remove_steps
from broker.feed.supervise import supervise
from broker.feed.wal import slots
from protocol.pgoutput import parse_lsn

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(params=["wal", "outbox"])
def config(request: pytest.FixtureRequest, database: str) -> FeedConfig:
    return event_installed(database, request.param)


def trigger_or_publication(config: FeedConfig, off: bool) -> str:
    if config.kind == "wal":
        return f"ALTER PUBLICATION rowcast_test {'DROP' if off else 'ADD'} TABLE event"
    return f"ALTER TABLE event {'DISABLE' if off else 'ENABLE ALWAYS'} TRIGGER rowcast_capture"


ACTS = {
    "dropped and created": "DROP TABLE event; CREATE TABLE event (id bigint PRIMARY KEY, note text)",
    "renamed": "ALTER TABLE event RENAME TO event_1; CREATE TABLE event (id bigint PRIMARY KEY, note text)",
    "left out": "",
}


def act(config: FeedConfig, name: str) -> None:
    sql(config, *(ACTS[name] or trigger_or_publication(config, off=True)).split("; "))


def put_right(config: FeedConfig, name: str) -> None:
    if name == "left out":
        sql(config, trigger_or_publication(config, off=False))
    else:
        install(config)


def announced_before(feed: Running, topic: bytes) -> list[str]:
    """Watch: the reasons of gaps that were announced when the topic was published first."""
    reasons: list[str] = []

    def take(published: Published) -> None:
        if published[0] == topic and not reasons:
            reasons.extend(
                json.loads(body)["reason"] for t, body, *_ in feed.outlet.announced if t.endswith(b"/gap")
            )

    feed.outlet.on_publish = take
    return reasons


@pytest.mark.parametrize("name", ACTS)
async def test_gap_is_announced_before_the_next_row_while_live(config: FeedConfig, name: str) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        reasons = announced_before(feed, b"event/3")
        act(config, name)
        sql(config, "INSERT INTO event VALUES (2, 'lost')")
        put_right(config, name)
        sql(config, "INSERT INTO event VALUES (3, 'c')")
        await feed.outlet.until(2)
    assert feed.outlet.topics() == [b"event/1", b"event/3"]
    assert "public.event" in "".join(reasons)


async def test_publication_dropped_while_live_is_a_gap_before_the_cure(database: str) -> None:
    """PostgreSQL 18 only warns in its own log; those before end the stream, and the feed is not live until the cure."""
    with connect(database) as connection:
        if connection.info.server_version < 180000:
            pytest.skip("the server ends the stream")
    sql(config := feed_config(database), "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
        sql(config, "DROP PUBLICATION rowcast_test", "INSERT INTO event VALUES (2, 'lost')")
        reason = await feed.outlet.gap()
        install(config)
        sql(config, "INSERT INTO event VALUES (3, 'c')")
        await feed.outlet.until(2)
    assert "public.event" in reason
    assert feed.outlet.topics() == [b"event/1", b"event/3"]


@pytest.mark.parametrize("name", ACTS)
async def test_gap_is_announced_before_the_next_row_after_a_restart(config: FeedConfig, name: str) -> None:
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    act(config, name)
    sql(config, "INSERT INTO event VALUES (2, 'lost')")
    put_right(config, name)
    sql(config, "INSERT INTO event VALUES (3, 'c')")
    async with running(config) as feed:
        await feed.outlet.until(1)
        reason = await feed.outlet.gap()
        gap = json.loads(feed.outlet.announced[0][1])
    assert feed.outlet.topics() == [b"event/3"]
    assert "public.event" in reason
    assert gap["from"]  # the place is known


@pytest.mark.parametrize("name", ACTS)
async def test_what_is_not_captured_is_a_trouble_with_its_cure(config: FeedConfig, name: str) -> None:
    async with running(config):
        pass
    act(config, name)
    async with running(config) as feed:
        await feed.outlet.gap()
        trouble = feed.status.troubles["table public.event"]
    assert "rowcast feed install" in trouble


async def test_idle_feed_notices_by_itself(config: FeedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"broker.feed.{config.kind}.feed.LOOK_INTERVAL_S"
    monkeypatch.setattr(module, 0.1)
    async with running(config) as feed:
        act(config, "left out")
        await feed.outlet.gap()
        put_right(config, "left out")
        await until(lambda: not feed.status.troubles)


async def test_message_behind_a_rename_comes_behind_the_gap(outbox: FeedConfig) -> None:
    async with running(outbox) as feed:
        reasons = announced_before(feed, b"said")
        act(outbox, "renamed")
        sql(outbox, "INSERT INTO event VALUES (2, 'lost')", "SELECT rowcast.publish('said', 'x'::text)")
        await feed.outlet.until(1)
    assert "public.event" in "".join(reasons)


async def test_gaps_of_a_table_follow_upon_each_other_whatever_else_comes_over_restarts(
    config: FeedConfig,
) -> None:
    said = "SELECT rowcast.publish('said', 'x'::text)"
    told: list[dict[str, Any]] = []

    def keep(feed: Running) -> None:
        told.extend(json.loads(body) for topic, body, *_ in feed.outlet.announced if topic.endswith(b"/gap"))

    async with running(config) as feed:
        sql(config, said)
        await feed.outlet.until(1)
    act(config, "left out")
    for _ in range(2):
        async with running(config) as feed:
            sql(config, "INSERT INTO event SELECT 2 WHERE NOT EXISTS (SELECT FROM event)", said, said)
            await feed.outlet.until(2)
        keep(feed)
    put_right(config, "left out")
    async with running(config) as feed:
        await feed.outlet.gap()
    keep(feed)
    assert [gap["tables"] for gap in told] == [["public.event"]] * 3
    assert [gap["uncaptured"] for gap in told] == [["public.event"], ["public.event"], []]
    starts = [parse_lsn(gap["from"]) if config.kind == "wal" else int(gap["from"]) for gap in told]
    if config.kind == "wal":
        ends = [parse_lsn(gap["to"]) for gap in told]
        assert all(start <= end for start, end in zip(starts[1:], ends, strict=False))
    else:
        assert starts == [0, 1, 3]


@pytest.mark.parametrize("name", [*ACTS, "slot"])
async def test_gap_that_was_not_yet_durable_is_announced_by_the_next_process(
    config: FeedConfig, name: str
) -> None:
    async with running(config):
        pass
    if name != "slot":
        act(config, name)
        put_right(config, name)
    elif config.kind == "wal":
        await drop_slots(config.dsn)
    else:
        sql(config, "UPDATE rowcast.feed SET timeline = timeline - 1")
    ended = Running(config)
    ended.outlet.durable = trio.sleep_forever  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, config, ended.outlet, ended.status)
        await ended.outlet.gap()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with running(config) as feed:
        # It may say more: a slot that the killed one had made is none that this one knows.
        assert (await feed.outlet.gap()).startswith(json.loads(ended.outlet.announced[0][1])["reason"])
    async with running(config) as feed:
        pass
    assert feed.status.gaps == 0


async def test_table_whose_route_was_added_without_an_installation_is_a_gap(config: FeedConfig) -> None:
    route = Route("tables", ("changed/{id}",), kind="public.event", operations=("insert", "update"))
    async with running(evolve(config, routes=(route,))) as feed:
        reason = await feed.outlet.gap()
    assert reason.startswith("update of public.event is not captured")


async def test_misspelt_column_is_a_trouble_until_there_is_one(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"broker.feed.{config.kind}.feed.LOOK_INTERVAL_S", 0.1)
    route = Route("tables", ("event/{nte}",), kind="public.event", where="rowcast.toml:9")
    async with running(evolve(config, routes=(route,))) as feed:
        said = "rowcast.toml:9: public.event has no column nte; did you mean note?"
        assert feed.status.troubles == {"column nte of public.event": said}
        sql(config, "ALTER TABLE event RENAME note TO nte")
        await until(lambda: not feed.status.troubles)
    assert feed.status.gaps == 0


async def test_untouched_database_has_no_gap_however_often_it_is_installed(config: FeedConfig) -> None:
    async with running(config) as feed:
        for number in range(3):
            sql(
                config,
                f"INSERT INTO event VALUES ({number}, 'a')",
                "ALTER TABLE event ADD IF NOT EXISTS more int",
            )
            install(config)
        await feed.outlet.until(3)
    async with running(config) as again:
        sql(config, "INSERT INTO event VALUES (9, 'a')")
        await again.outlet.until(1)
    assert feed.status.gaps == again.status.gaps == 0


@pytest.mark.parametrize(("before", "after"), [("wal", "outbox"), ("outbox", "wal")])
async def test_feed_moves_to_another_kind(database: str, before: str, after: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    old, new = feed_config(database, before), feed_config(database, after)
    install(old)
    async with running(old) as feed:
        sql(old, "INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)
    sql(old, "INSERT INTO event VALUES (2, 'lost')")
    install(new)
    sql(new, "INSERT INTO event VALUES (3, 'c')")
    async with running(new) as feed:
        await feed.outlet.until(1)
        reason = await feed.outlet.gap()
    async with running(new) as again:
        sql(new, "INSERT INTO event VALUES (4, 'd')")
        await again.outlet.until(1)
    assert (feed.outlet.topics(), again.outlet.topics()) == ([b"event/3"], [b"event/4"])
    assert f"moved from the kind {before}" in reason
    assert again.status.gaps == 0
    with connect(database) as connection:
        left = (
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),"
            " (SELECT count(*) FROM pg_trigger WHERE tgname = 'rowcast_capture')"
        )
        assert connection.execute(left).fetchone() == ((0, 1) if after == "outbox" else (1, 0))


async def test_kind_changed_without_an_installation_is_refused_in_words(config: FeedConfig) -> None:
    async with running(config):
        pass
    other = evolve(config, kind="outbox" if config.kind == "wal" else "wal")
    feed = Running(other)
    async with trio.open_nursery() as nursery:
        from broker.feed.supervise import supervise

        nursery.start_soon(supervise, other, feed.outlet, feed.status)
        await until(lambda: "rowcast feed install" in feed.status.problem)
        nursery.cancel_scope.cancel()


async def test_databases_of_one_server_do_not_touch_each_others_slots(database: str, cluster: Any) -> None:
    second = cluster.create_database()
    try:
        configs = [feed_config(database), feed_config(cluster.dsn(second))]
        for config in configs:
            sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
            install(config)
        with connect(configs[1].dsn) as connection:
            for step in remove_steps(configs[1]):
                connection.execute(step.statement)
        async with running(configs[0]) as feed:
            sql(configs[0], "INSERT INTO event VALUES (1, 'a')")
            await feed.outlet.until(1)
        assert feed.status.gaps == 0
    finally:
        cluster.drop_database(second)


async def test_slot_of_an_earlier_default_name_goes_on(database: str) -> None:
    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    sql(config, "SELECT pg_create_logical_replication_slot('rowcast_test', 'pgoutput')")
    install(config)
    sql(config, "INSERT INTO event VALUES (1, 'a')")
    async with running(config) as feed:
        await feed.outlet.until(1)
    assert feed.status.gaps == 0
    with connect(database) as connection:
        query = (
            "SELECT array_agg(slot_name::text) FROM pg_replication_slots WHERE database = current_database()"
        )
        assert connection.execute(query).fetchone() == (["rowcast_test"],)


async def test_row_security_refuses_instead_of_showing_nothing(database: str) -> None:
    route = Route("tables", ("event/{id}",), kind="public.event", snapshot="table")
    config = feed_config(database, routes=(route,))
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)", "INSERT INTO event VALUES (1, 'a')")
    role = f"reader_{slots.slot_name(config)}"
    as_role = evolve(config, dsn=config.dsn.replace("user=postgres", f"user={role}"))
    install_as = evolve(as_role, dsn=as_role.dsn)
    try:
        with connect(config.dsn) as connection:
            from broker.feed.setup.install import install_steps

            for step in install_steps(install_as):
                connection.execute(step.statement)
            connection.execute("ALTER TABLE event ENABLE ROW LEVEL SECURITY")
        feed = Running(as_role)
        async with trio.open_nursery() as nursery:
            from broker.feed.supervise import supervise

            nursery.start_soon(supervise, as_role, feed.outlet, feed.status)
            await until(
                lambda: "row-level security" in feed.status.problem or "row security" in feed.status.problem
            )
            nursery.cancel_scope.cancel()
        assert feed.outlet.published == []
    finally:
        sql(config, f'DROP OWNED BY "{role}" CASCADE', f'DROP ROLE "{role}"')


async def test_rows_of_a_replica_session_are_captured(config: FeedConfig) -> None:
    async with running(config) as feed:
        sql(config, "SET session_replication_role = replica; INSERT INTO event VALUES (1, 'a')")
        await feed.outlet.until(1)


async def test_second_process_that_waited_for_the_slot_announces_no_gap(database: str) -> None:
    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    second = Running(config)
    async with trio.open_nursery() as nursery:
        from broker.feed.supervise import supervise

        async with running(config) as first:
            nursery.start_soon(supervise, config, second.outlet, second.status)
            await until(lambda: "active" in second.status.problem)
            sql(config, "INSERT INTO event VALUES (1, 'a')")
            await first.outlet.until(1)
            await trio.sleep(0.3)
        await second.until_live()
        sql(config, "INSERT INTO event VALUES (2, 'b')")
        await second.outlet.until(1)
        nursery.cancel_scope.cancel()
    assert second.outlet.topics() == [b"event/2"]
    assert second.status.gaps == 0


def test_insert_only_table_without_a_key_stays_writable(database: str) -> None:
    config = feed_config(
        database,
        routes=(
            Route("tables", ("event/{id}",), kind="public.event"),
            Route("tables", ("keyed/{id}",), kind="public.keyed", operations=("insert", "update", "delete")),
        ),
    )
    source = evolve(config.sources[0], tables=("public.event", "public.keyed"))
    config = evolve(config, sources=(source,))
    sql(config, "CREATE TABLE event (id bigint)", "CREATE TABLE keyed (id bigint PRIMARY KEY)")
    install(config)
    sql(config, "INSERT INTO event VALUES (1)", "UPDATE event SET id = 2", "DELETE FROM event")


def test_column_list_and_row_filter_given_by_hand_survive_an_installation(database: str) -> None:
    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text, password_hash text)")
    install(config)
    sql(config, "ALTER PUBLICATION rowcast_test SET TABLE event (id, note) WHERE (id > 5)")
    route = Route("tables", ("event/{id}",), kind="public.event", operations=("insert", "update"))
    install(config)
    install(evolve(config, routes=(route,)))
    with connect(database) as connection:
        query = "SELECT pubname, attnames::text, rowfilter FROM pg_publication_tables ORDER BY 1"
        assert connection.execute(query).fetchall() == [
            ("rowcast_test", "{id,note}", "(id > 5)"),
            ("rowcast_test_update", "{id,note}", "(id > 5)"),
        ]


def test_installing_again_waits_for_no_writer_and_lets_none_wait(config: FeedConfig) -> None:
    with connect(config.dsn) as writer, connect(config.dsn) as pruner:
        writer.execute("BEGIN; INSERT INTO event VALUES (1, 'open')")
        if config.kind == "outbox":
            pruner.execute(f"BEGIN; {OURS}; DELETE FROM rowcast.outbox")
            pruner.execute("UPDATE rowcast.outbox_pruned SET seq = seq")
        in_time = evolve(config, dsn=f"{config.dsn} options='-c statement_timeout=60s'")
        install(in_time)
        sql(in_time, "INSERT INTO event VALUES (2, 'other')")


@pytest.fixture
def outbox(database: str) -> FeedConfig:
    config = feed_config(database, "outbox")
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    return config


async def test_prepared_transaction_comes_once_it_is_committed_and_holds_nobody_up(
    outbox: FeedConfig,
) -> None:
    async with running(outbox) as feed:
        with connect(outbox.dsn) as writer:
            writer.execute("BEGIN")
            writer.execute("INSERT INTO event VALUES (1, 'prepared')")
            writer.execute("PREPARE TRANSACTION 'one'")
            writer.execute("INSERT INTO event VALUES (2, 'other')")
            await feed.outlet.until(1)
            writer.execute("COMMIT PREPARED 'one'")
            writer.execute("INSERT INTO event VALUES (3, 'behind')")
        await feed.outlet.until(3)
    assert feed.outlet.topics() == [b"event/2", b"event/1", b"event/3"]


def test_immediate_constraints_beside_another_writer_do_not_deadlock(outbox: FeedConfig) -> None:
    sql(outbox, "CREATE TABLE plain (id int PRIMARY KEY, n int)", "INSERT INTO plain VALUES (1, 0)")
    with connect(outbox.dsn) as one, connect(outbox.dsn) as other:
        one.execute("BEGIN")
        other.execute("BEGIN")
        other.execute("INSERT INTO event VALUES (2, 'b')")
        one.execute("INSERT INTO event VALUES (1, 'a')")
        one.execute("SET CONSTRAINTS ALL IMMEDIATE")
        one.execute("INSERT INTO event VALUES (3, 'c')")
        other.execute("SET LOCAL lock_timeout = '2s'")
        other.execute("COMMIT")  # would wait for the lock that the first took too early
        one.execute("COMMIT")
        rows = one.execute(
            "SELECT c.seq, count(*) FROM rowcast.outbox_commit c JOIN rowcast.outbox USING (xid)"
            " GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert rows == [(1, 1), (2, 2)]


async def test_outbox_bodies_do_not_follow_the_writer(outbox: FeedConfig) -> None:
    sql(outbox, "ALTER TABLE event ADD at timestamptz, ADD f float8")
    async with running(outbox) as feed:
        sql(
            outbox,
            "SET extra_float_digits = -5; SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo';"
            " INSERT INTO event VALUES (1, 'a', '2024-02-13T15:53:50.5Z', 0.1::float8 + 0.2)",
        )
        published = await feed.outlet.until(1)
    assert published[0][1] == (
        b'{"id":1,"note":"a","at":"2024-02-13T15:53:50.5+00:00","f":0.30000000000000004}'
    )


async def test_outbox_gives_a_partitions_columns_in_the_order_of_its_table(database: str) -> None:
    config = feed_config(database, "outbox")
    sql(
        config,
        "CREATE TABLE event (id bigint, note text) PARTITION BY LIST (id)",
        'CREATE TABLE "Leaf" (note text, gone int, id bigint)',
        'ALTER TABLE "Leaf" DROP gone',
        'ALTER TABLE event ATTACH PARTITION "Leaf" DEFAULT',
    )
    install(config)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1, 'a')")
        published = await feed.outlet.until(1)
    assert published[0][:2] == (b"event/1", b'{"id":1,"note":"a"}')


async def test_names_that_want_quotes_work_everywhere(database: str) -> None:
    for kind in ("wal", "outbox"):
        config = feed_config(database, kind, routes=(Route("tables", ("event/{Id}",)),))
        config = evolve(config, sources=(evolve(config.sources[0], tables=('public.My "Event"',)),))
        sql(config, 'CREATE TABLE IF NOT EXISTS "My ""Event""" ("Id" bigint PRIMARY KEY)')
        install(config)
        from broker.feed.setup import doctor

        with connect(database) as connection:
            report = doctor.examine(connection, config)
        assert report.is_healthy, report.findings
        async with running(config) as feed:
            sql(config, f'INSERT INTO "My ""Event""" VALUES ({len(kind)})')
            await feed.outlet.until(1)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_text_that_is_not_utf8_costs_its_row_and_no_other(cluster: Any, kind: str) -> None:
    name = f"ascii_{kind}"
    with connect(cluster.dsn()) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    try:
        config = feed_config(cluster.dsn(name), kind)
        sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        install(config)
        async with running(config) as feed:
            with connect(config.dsn) as writer:
                writer.execute("SET client_encoding = SQL_ASCII")
                writer.execute("INSERT INTO event VALUES (1, 'a')")
                writer.execute(b"INSERT INTO event VALUES (2, '\xe4\xff')")
                writer.execute(b"INSERT INTO event VALUES (3, '\xc3\xa4')")
            published = await feed.outlet.until(2)
        assert [row[:2] for row in published] == [
            (b"event/1", b'{"id":1,"note":"a"}'),
            (b"event/3", '{"id":3,"note":"ä"}'.encode()),
        ]
        assert feed.status.dropped == {"not_utf8": 1}
    finally:
        cluster.drop_database(name)


async def test_envelopes_say_what_was_done_where_a_route_asks(config: FeedConfig, fast_path: bool) -> None:
    wanted = Route(
        "tables",
        ("e",),
        body="envelope",
        target="econia",
        operations=("insert", "update", "delete"),
        operation=True,
    )
    config = evolve(config, routes=(wanted, evolve(wanted, position=True)))
    install(config)
    async with running(config) as feed:
        sql(
            config,
            "INSERT INTO event VALUES (1, 'a')",
            "UPDATE event SET note = 'b'",
            "DELETE FROM event",
        )
        published = await feed.outlet.until(6)
    bodies = [json.loads(body) for _, body, *_ in published]
    assert [body["operation"] for body in bodies] == [
        "insert",
        "insert",
        "update",
        "update",
        "delete",
        "delete",
    ]
    assert [list(body)[-1] for body in bodies[:2]] == ["operation", "position"]


def written(config: FeedConfig, path: Any, operations: str) -> str:
    file = path / "rowcast.toml"
    file.write_text(
        f"""
[[listener]]
port = 1883
[database]
dsn = "{config.dsn}"
kind = "wal"
name = "test"
[source.tables]
tables = ["public.event"]
[[mqtt.route]]
from = "tables"
kind = "public.event"
operations = {operations}
topics = ["event/{{id}}"]
"""
    )
    return str(file)


def test_installation_that_would_break_writers_is_refused_before_it_changes_anything(
    database: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from broker.cli.main import main

    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint)")
    file = written(config, tmp_path, '["insert", "update"]')
    assert main(["feed", "install", "-c", file, "--apply"]) == 1
    said = capsys.readouterr().err
    assert "public.event has no replica identity" in said
    assert "nothing was changed" in said
    with connect(database) as connection:
        assert connection.execute("SELECT to_regnamespace('rowcast')").fetchone() == (None,)
    sql(config, "INSERT INTO event VALUES (1)", "UPDATE event SET id = 2")


def test_installation_names_the_session_that_it_waits_for(
    database: str, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from broker.cli.main import main
    from broker.feed.driver.blockers import blocker_words

    monkeypatch.setattr("broker.cli.feed.BLOCKED_FIRST_S", 0.1)
    monkeypatch.setattr("broker.cli.feed.BLOCKED_AGAIN_S", 0.1)
    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY)")
    file = written(config, tmp_path, '["insert"]')
    with connect(database) as writer:
        named = []

        def name(row: Any) -> str:
            named.append(blocker_words(row))
            writer.execute("COMMIT")
            return named[-1]

        monkeypatch.setattr("broker.cli.feed.blocker_words", name)
        writer.execute("BEGIN; INSERT INTO event VALUES (1)")
        assert main(["feed", "install", "-c", file, "--apply"]) == 0
        assert f"session {writer.info.backend_pid} of postgres" in named[0]
    assert f"waits for {named[0]}" in capsys.readouterr().err


async def test_operation_and_members_of_json_make_topics_and_a_delete_clears_what_was_retained(
    config: FeedConfig,
) -> None:
    sql(config, "ALTER TABLE event ADD payload jsonb", "ALTER TABLE event REPLICA IDENTITY FULL")
    route = Route(
        "tables",
        ("event/{id}/{payload.at.temp}/{$operation}",),
        operations=("insert", "update", "delete"),
        retain=True,
        delete_clears=True,
    )
    config = evolve(config, routes=(route,))
    install(config)
    async with running(config) as feed:
        sql(
            config,
            """INSERT INTO event VALUES (1, 'a', '{"at": {"temp": 21.50}}')""",
            "UPDATE event SET note = 'b'",
            "DELETE FROM event",
            "INSERT INTO event VALUES (2, 'a', '{}')",
            """INSERT INTO event VALUES (3, 'a', '{"at": {"temp": 3}}')""",
        )
        published = await feed.outlet.until(4)
    assert feed.outlet.topics() == [
        b"event/1/21.50/insert",
        b"event/1/21.50/update",
        b"event/1/21.50/delete",
        b"event/3/3/insert",
    ]
    assert [bool(body) for _, body, *_ in published] == [True, True, False, True]
    assert feed.status.dropped == {"missing_column": 1}
