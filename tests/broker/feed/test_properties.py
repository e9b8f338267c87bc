"""Properties of MQTT 5.0 from the database: of rows by every kind of feed, and of rowcast.publish()."""

from __future__ import annotations

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import running
from support.installed import connect, feed_config, install, sql
from support.polling import until

from broker import Broker
from broker.config.feeds import Route, Source
from broker.config.model import Config, Listener, Security
from broker.config.properties import PropertyTemplates
from broker.core.added import Added
from broker.embed import Message
from broker.feed.setup import doctor
from protocol.mqtt.framing import encode_variable
from protocol.mqtt.v5.properties import Properties, read_properties

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

TABLE = (
    "CREATE TABLE event (id bigint PRIMARY KEY, who text, reply bytea, valid_for interval,"
    " until timestamptz, member jsonb)"
)
NOTIFIED = '{"id":1,"who":"ada","reply":null,"until":"2100-01-01T00:00:00+00:00","member":{"a":"x"}}'
INSERT = r"""INSERT INTO event VALUES (1, 'ada', '\x00ff', '5 minutes', NULL, '{"a": 1.50}')"""
PROPERTIES = PropertyTemplates(
    None,
    "valid_for",
    "application/json",
    "answers/{who}",
    "{reply}",
    (("op", "{$operation}"), ("at", "{$position}"), ("table", "{$kind}"), ("deep", "{member.a}")),
)
ROUTE = Route(
    "tables",
    ("event/{id}",),
    kind="public.event",
    operations=("insert", "update", "delete"),
    properties=PROPERTIES,
)


def read(added: Added | None) -> Properties:
    assert added is not None
    data = encode_variable(len(added.properties)) + added.properties
    return read_properties(data, 0, len(data), 3)[0]


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_a_row_has_the_properties_of_its_columns(database: str, kind: str) -> None:
    config = feed_config(database, kind, routes=(ROUTE,))
    sql(config, TABLE)
    install(config)
    async with running(config) as feed:
        sql(
            config,
            INSERT,
            "INSERT INTO event (id) VALUES (2)",
            "UPDATE event SET who = 'bob' WHERE id = 1",
            "DELETE FROM event WHERE id = 1",
        )
        published = await feed.outlet.until(4)
    first, second, third, fourth = feed.outlet.added
    assert first is not None
    assert first.expiry_s == 300.0
    found = read(first)
    assert found.texts == {3: b"application/json", 8: b"answers/ada", 9: b"\x00\xff"}
    assert dict(found.user)[b"op"] == b"insert"
    assert dict(found.user)[b"table"] == b"public.event"
    assert dict(found.user)[b"deep"] == b"1.50"
    places = [dict(read(added).user)[b"at"] for added in feed.outlet.added]
    assert len(set(places)) == 4
    assert all(b"/" in place for place in places)
    assert second is not None
    assert second.expiry_s is None
    assert read(second).texts == {3: b"application/json"}
    assert read(third).texts[8] == b"answers/bob"
    assert dict(read(fourth).user)[b"op"] == b"delete"
    assert (8 in read(fourth).texts) == (kind == "outbox")  # the WAL has only the key of a deleted row
    assert published[0][1].startswith(b'{"id":1,"who":"ada","reply":"\\\\x00ff"')


async def test_notified_rows_and_snapshots_have_them_too(database: str) -> None:
    listening = evolve(
        PROPERTIES, expiry_column="until", user_properties=(("table", "{$kind}"), ("deep", "{member.a}"))
    )
    config = feed_config(
        database,
        "listen",
        sources=(Source("tables", ("public.event",)),),
        routes=(evolve(ROUTE, operations=("insert",), properties=listening),),
    )
    sql(config, TABLE)
    async with running(config) as feed:
        sql(config, f"SELECT pg_notify('public.event', '{NOTIFIED}')")
        await feed.outlet.until(1)
    (added,) = feed.outlet.added
    assert added is not None
    assert added.expires_unix_s == 4102444800.0
    assert read(added).user == [(b"table", b"public.event"), (b"deep", b"x")]
    assert read(added).texts == {3: b"application/json", 8: b"answers/ada"}

    config = feed_config(database, "wal", routes=(evolve(ROUTE, snapshot="table"),))
    sql(config, "INSERT INTO event (id, who) VALUES (7, 'eve')")
    install(config)
    async with running(config) as feed:
        await feed.outlet.until(1)
    assert read(feed.outlet.added[0]).user == [(b"op", b"snapshot"), (b"table", b"public.event")]


def test_a_column_that_is_not_there_is_named(database: str) -> None:
    route = evolve(ROUTE, where="rowcast.toml:12", properties=PropertyTemplates(expiry_column="valid_fro"))
    config = feed_config(database, routes=(route,))
    sql(config, TABLE)
    install(config)
    with connect(config.dsn) as connection:
        texts = [one.text for one in doctor.examine(connection, config).findings if one.level == "wrong"]
    assert texts == ["rowcast.toml:12: public.event has no column valid_fro; did you mean valid_for?"]


EVERY = """{"expiry": 60, "content_type": "text/plain", "response_topic": "answers/é", "correlation_data": "\\\\x00ff",
 "user_properties": {"a": "1", "b": ["2", "3"], "n": 12345678901234567890.10, "t": true, "none": null}}"""


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_publish_takes_properties(database: str, kind: str) -> None:
    config = feed_config(database, kind)
    sql(config, TABLE)
    install(config)
    async with running(config) as feed:
        with connect(config.dsn) as connection:
            connection.execute("SELECT rowcast.publish('a', 'text', properties => %s::jsonb)", [EVERY])
            connection.execute("SELECT rowcast.publish('b', '\\x00ff'::bytea, 2, true, %s::jsonb)", [EVERY])
            connection.execute("SELECT rowcast.publish('c', 'plain', 0, true)")
            connection.execute("SELECT rowcast.publish('d', NULL::text, properties => '{}')")
            connection.execute("SELECT rowcast.publish('e', 'x', properties => NULL)")
            connection.execute(
                "SELECT rowcast.publish('f', 'x', properties => jsonb_build_object('correlation_data', '\\x01'::bytea))"
            )
        published = await feed.outlet.until(6)
    assert published == [
        (b"a", b"text", 1, False),
        (b"b", b"\x00\xff", 2, True),
        (b"c", b"plain", 0, True),
        (b"d", b"", 1, False),
        (b"e", b"x", 1, False),
        (b"f", b"x", 1, False),
    ]
    for added in feed.outlet.added[:2]:
        assert added is not None
        assert added.expiry_s == 60.0
        assert read(added).texts == {3: b"text/plain", 8: "answers/é".encode(), 9: b"\x00\xff"}
        assert sorted(read(added).user) == [
            (b"a", b"1"), (b"b", b"2"), (b"b", b"3"), (b"n", b"12345678901234567890.10"), (b"t", b"true"),
        ]  # fmt: skip
    assert feed.outlet.added[2] is None
    assert feed.outlet.added[3] == Added()
    assert feed.outlet.added[4] is None
    assert read(feed.outlet.added[5]).texts == {9: b"\x01"}
    assert feed.status.dropped == {}


REFUSED = [
    ("[1]", "properties are an object"),
    ('{"expiry": -1}', "expiry is a number of seconds from 0 to 4294967295"),
    ('{"expiry": 4294967296}', "expiry is a number of seconds"),
    ('{"expiry": "30s"}', "expiry is a number of seconds"),
    ('{"content_type": 1}', "content_type is a text of 65535 bytes at most"),
    ('{"content_type": "a\\u0001"}', "content_type has a character that MQTT forbids"),
    ('{"response_topic": "a/#"}', "response_topic is a topic"),
    ('{"response_topic": ""}', "response_topic is a topic"),
    ('{"response_topic": "$SYS/a"}', "response_topic is a topic"),
    ('{"user_properties": "x"}', "user_properties is an object of texts"),
    ('{"user_properties": {"a": {}}}', "the user property a is a text"),
    ('{"user_properties": {"a": "\\n"}}', "the user property a has a character that MQTT forbids"),
    ('{"user_properties": {"\\u007f": "x"}}', "has a character that MQTT forbids"),
    ('{"content-type": "x"}', "unknown property content-type: known are expiry"),
]


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_what_no_packet_can_carry_is_an_error_in_the_callers_transaction(
    database: str, kind: str
) -> None:
    config = feed_config(database, kind)
    sql(config, TABLE)
    install(config)
    with connect(config.dsn) as connection:
        for properties, why in REFUSED:
            with pytest.raises(psycopg.errors.RaiseException, match=why.replace("{", r"\{")):
                connection.execute("SELECT rowcast.publish('a', 'x', properties => %s::jsonb)", [properties])
        long = '{"correlation_data": "' + "x" * 65_536 + '"}'
        with pytest.raises(psycopg.errors.RaiseException, match="65535 bytes at most"):
            connection.execute("SELECT rowcast.publish('a', 'x', properties => %s::jsonb)", [long])


EARLIER = {
    "wal": """CREATE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1,
        retain boolean DEFAULT false)
        RETURNS pg_lsn LANGUAGE sql AS $$ SELECT pg_logical_emit_message(true, 'rowcast',
        int4send((qos + CASE WHEN retain THEN 4 ELSE 0 END) << 24 | octet_length(convert_to(topic, 'UTF8')))
        || convert_to(topic, 'UTF8') || coalesce(payload, '')) $$""",
    "outbox": """CREATE FUNCTION rowcast.publish(topic text, payload bytea, qos integer DEFAULT 1,
        retain boolean DEFAULT false)
        RETURNS pg_lsn LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM rowcast.outbox_mark();
        INSERT INTO rowcast.outbox (topic, payload, qos, retain) VALUES ($1, coalesce($2, ''), $3, $4);
        RETURN pg_current_wal_insert_lsn(); END $$""",
}
EARLIER_TEXT = """CREATE FUNCTION rowcast.publish(topic text, payload text, qos integer DEFAULT 1,
        retain boolean DEFAULT false)
    RETURNS pg_lsn LANGUAGE sql AS $$ SELECT rowcast.publish(topic, convert_to(payload, 'UTF8'), qos, retain) $$"""


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_an_earlier_installation_is_upgraded_under_those_who_use_it(database: str, kind: str) -> None:
    config = feed_config(database, kind)
    sql(config, TABLE)
    install(config)
    sql(
        config,
        "DROP FUNCTION rowcast.publish(text, text, integer, boolean, jsonb)",
        "DROP FUNCTION rowcast.publish(text, bytea, integer, boolean, jsonb)",
        "DROP FUNCTION rowcast.publish_properties",
        EARLIER[kind],
        EARLIER_TEXT,
        "CREATE VIEW publisher AS SELECT rowcast.publish('view', 'x')",
        "CREATE FUNCTION shout() RETURNS void LANGUAGE sql AS $$ SELECT rowcast.publish('function', 'x', 1, false) $$",
    )
    with connect(config.dsn) as connection:
        said = [one.text for one in doctor.examine(connection, config).findings if one.level == "unwise"]
        assert any("takes no properties" in text for text in said)
    async with running(config) as feed:
        with connect(config.dsn) as user:
            user.execute("PREPARE by_number AS SELECT rowcast.publish($1, $2, $3, $4)")
            user.execute("EXECUTE by_number('prepared', 'x', 1, false)")
            install(config)
            install(config)  # again, without harm
            for statement in (
                "EXECUTE by_number('prepared', 'x', 1, false)",
                "TABLE publisher",
                "SELECT shout()",
                "SELECT rowcast.publish('two', 'x')",
                "SELECT rowcast.publish('named', 'x', retain => true)",
                "SELECT rowcast.publish('quoted', 'x', '1', 'false')",
                "SELECT rowcast.publish('with', 'x', properties => '{}')",
            ):
                user.execute(statement)
        published = await feed.outlet.until(8)
    assert [topic for topic, *_ in published] == [
        b"prepared", b"prepared", b"view", b"function", b"two", b"named", b"quoted", b"with",
    ]  # fmt: skip


async def test_to_the_last_byte_over_a_socket(database: str) -> None:
    """A client of 5.0, one of 3.1.1 and a subscriber inside, of one row, and of one that has expired."""
    properties = evolve(PROPERTIES, expiry_column="until")
    feed = feed_config(database, "wal", routes=(evolve(ROUTE, properties=properties, retain=True),))
    sql(feed, TABLE)
    install(feed)
    listener = Listener(port=0, host="127.0.0.1", security=Security(allow_anonymous=True))
    async with Broker(Config(listeners=(listener,), feeds=(feed,))) as broker, trio.open_nursery() as nursery:
        got: list[Message] = []

        async def subscribe() -> None:
            async for message in broker.subscribe("event/#"):
                got.append(message)

        nursery.start_soon(subscribe)
        await until(lambda: broker.app.feeds["test"].state == "live")
        sql(
            feed,
            "INSERT INTO event (id, who, until) VALUES (1, 'late', now() - interval '1 hour')",
            "INSERT INTO event (id, who, until) VALUES (2, 'ada', now() + interval '1 hour')",
        )
        await until(lambda: bool(got))
        port = broker.ports[0]
        new = await said(port, "5", "%t|%A|%C|%R|%D|%E|%P")
        old = await said(port, "311", "%t|%A|%C|%R|%D|%E|%P")
        nursery.cancel_scope.cancel()
    (message,) = got
    assert message.topic == "event/2"
    assert message.properties.content_type == "application/json"
    assert message.properties.response_topic == "answers/ada"
    assert message.properties.expiry_s is not None
    assert 3590 <= message.properties.expiry_s <= 3600
    topic, _, content_type, response, _, expiry, user = new.split("|")
    assert (topic, content_type, response) == ("event/2", "application/json", "answers/ada")
    assert 3500 <= int(expiry) <= 3600
    assert "op:insert" in user
    assert "table:public.event" in user
    assert old.split("|")[0] == "event/2"
    assert not any(old.split("|")[1:])


async def said(port: int, version: str, form: str) -> str:
    done = await trio.run_process(
        ["mosquitto_sub", "-V", version, "-p", str(port), "-t", "event/#", "-C", "1", "-W", "20", "-F", form],
        capture_stdout=True,
    )
    return done.stdout.decode().strip()
