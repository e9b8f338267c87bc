"""What waits in a sink becomes rows of a real Postgres, and is acknowledged once they are committed, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from support.ingesting import SINK, TABLE, config_of, ingesting, publish, read, rows_of
from support.installed import sql
from support.peer import connected
from support.peer5 import connected5
from support.polling import until
from support.postgres import Cluster

from protocol.mqtt.packets import Puback, Pubcomp, Pubrec, Pubrel
from protocol.mqtt.v5.reasons import ReasonCode


async def test_a_puback_comes_after_the_row_is_committed(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        peer = connected(engine, b"meter-1")
        payload = '{"v": 12345.678901234567890, "ts": 1700000000123}'
        peer.send(publish("telemetry/d1/temp", payload, 1, 7))
        assert peer.read() == []
        assert await read(peer) == [Puback(7)]
        query = "SELECT device, metric, value::text, at::text, raw->>'v', qos, client FROM telemetry"
        assert rows_of(database, query) == [
            (
                "d1",
                "temp",
                "12345.678901234567890",
                "2023-11-14 22:13:20.123+00",
                "12345.678901234567890",
                1,
                "meter-1",
            )
        ]


async def test_one_refused_row_costs_no_other(tmp_path: Path, database: str) -> None:
    """Goal: of 100 messages in a batch 4 are refused, for four reasons; each in the dead letters with its reason."""
    sql(database, TABLE)
    sinks = SINK + 'dead_letters = "dead"\n'
    bad = {10: '{"v": "x"}', 20: '{"v": 1000000}', 30: "no json", 40: '{"v": 1, "n": "\\u0000"}'}
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, _):
        peer = connected5(engine, b"c")
        peer.send(*[publish("telemetry/d/m", bad.get(n, f'{{"v": {n}}}'), 1, n) for n in range(1, 101)])
        acks = await read(peer, 100)
    assert [ack.packet_id for ack in acks] == list(range(1, 101))
    assert {ack.packet_id for ack in acks if ack.reason_code == ReasonCode.PAYLOAD_FORMAT_INVALID} == set(bad)
    assert rows_of(database, "SELECT count(*) FROM telemetry") == [(96,)]
    letters = rows_of(database, "SELECT convert_from(payload, 'UTF8'), reason FROM dead ORDER BY received")
    assert {text for text, _ in letters} == set(bad.values())
    assert all(reason for _, reason in letters)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("tsvector", '"a b"', '"\'a"'),
        ("tsquery", '"a & b"', '"(("'),
        ("jsonpath", '"$.a"', '"(("'),
        ("regclass", '"pg_class"', '"no_such_table"'),
        ("regtype", '"text"', '"no_such.text"'),
        ("tsvector[]", '["a", "b"]', '["a", "\'b"]'),
    ],
)
async def test_a_value_that_is_none_of_its_type_costs_its_row_whatever_code_the_type_has_for_it(
    tmp_path: Path, database: str, kind: str, good: str, bad: str
) -> None:
    """Goal: two such values, which Postgres calls errors of syntax or missing tables, keep nobody waiting."""
    sql(database, f"CREATE TABLE odd (v {kind}); {TABLE}")
    columns = 'columns = { v = "$.v" }\ndead_letters = "dead"\n'
    sinks = f'[[mqtt.sink]]\ntopics = "odd"\ntable = "public.odd"\n{columns}'
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, _):
        peer = connected5(engine, b"c")
        payloads = [good, bad, good, bad, good]
        peer.send(*[publish("odd", f'{{"v": {one}}}', 1, n) for n, one in enumerate(payloads, 1)])
        acks = await read(peer, 5)
    refused = {ack.packet_id for ack in acks if ack.reason_code == ReasonCode.PAYLOAD_FORMAT_INVALID}
    assert refused == {2, 4}
    assert rows_of(database, "SELECT count(*) FROM odd") == [(3,)]
    assert rows_of(database, "SELECT count(*) FROM dead WHERE reason ~ '^(42|3F)'") == [(2,)]


async def test_so_does_one_that_a_function_makes_of_a_message(tmp_path: Path, database: str) -> None:
    function = "AS $$ BEGIN INSERT INTO odd VALUES (t::tsvector); END $$"
    sql(database, "CREATE TABLE odd (v tsvector)")
    sql(database, f"CREATE FUNCTION took(t text) RETURNS void LANGUAGE plpgsql {function}")
    sinks = '[[mqtt.sink]]\ntopics = "odd"\ncall = "public.took(payload)"\n'
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, _):
        peer = connected5(engine, b"c")
        peer.send(publish("odd", "a b", 1, 1), publish("odd", "'a", 1, 2), publish("odd", "c", 1, 3))
        acks = await read(peer, 3)
    assert [ack.reason_code for ack in acks] == [0, ReasonCode.PAYLOAD_FORMAT_INVALID, 0]
    assert rows_of(database, "SELECT count(*) FROM odd") == [(2,)]


async def test_a_check_that_can_look_nowhere_is_no_fault_of_the_value(tmp_path: Path, database: str) -> None:
    """The table that a domain's own function asks is away, as any value would find: the rows wait for it."""
    body = "AS $$ BEGIN RETURN EXISTS (SELECT FROM allowed WHERE v = t); END $$"
    sql(database, f"CREATE FUNCTION is_known(t text) RETURNS boolean LANGUAGE plpgsql {body}")
    sql(database, "CREATE DOMAIN known AS text CHECK (is_known(VALUE)); CREATE TABLE odd (v known)")
    sinks = '[[mqtt.sink]]\ntopics = "odd"\ntable = "public.odd"\ncolumns = { v = "{$payload}" }\n'
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, hub):
        sink = hub.sinks["public.odd"]
        peer = connected5(engine, b"c")
        await until(lambda: sink.state == "live")
        peer.send(publish("odd", "a", 1, 1))
        await until(lambda: sink.state == "waiting" or sink.refused > 0)
        assert sink.refused == 0
        sql(database, "CREATE TABLE allowed (v text); INSERT INTO allowed VALUES ('a')")
        acks = await read(peer)
    assert [ack.reason_code for ack in acks] == [0]
    assert rows_of(database, "SELECT v FROM odd") == [("a",)]


async def test_qos_2_waits_with_its_pubrec_and_is_written_once(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        peer = connected(engine, b"c")
        peer.send(publish("telemetry/d/m", '{"v": 1}', 2, 5))
        assert await read(peer) == [Pubrec(5)]
        peer.send(publish("telemetry/d/m", '{"v": 1}', 2, 5, dup=True))
        assert await read(peer) == [Pubrec(5)]
        peer.send(Pubrel(5))
        assert await read(peer) == [Pubcomp(5)]
        assert rows_of(database, "SELECT value FROM telemetry") == [(1,)]


async def test_acknowledgements_keep_the_order_of_their_messages(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        peer = connected(engine, b"c")
        peer.send(publish("telemetry/d/m", '{"v": 1}', 1, 1), publish("elsewhere", "x", 1, 2))
        peer.send(publish("telemetry/d/m", '{"v": 2}', 1, 3))
        assert await read(peer, 3) == [Puback(1), Puback(2), Puback(3)]


async def test_a_repeated_message_conflicts_with_itself(tmp_path: Path, database: str) -> None:
    """Goal: a DUP makes no second row, nor does one after a restart; a new message with the same id and text does."""
    sql(database, TABLE)
    sinks = """
[[mqtt.sink]]
topics = "telemetry/{device}"
table = "telemetry"
columns = { device = "{device}", value = "$.v", id = "{$message_id}" }
on_conflict = "nothing"
"""
    config = config_of(tmp_path, database, sinks)
    for _ in range(2):  # a process each
        async with ingesting(config) as (engine, _hub):
            peer = connected(engine, b"c:1")
            for _ in range(2):
                peer.send(publish("telemetry/d", '{"v": 1}', 1, 9, dup=True))
                assert await read(peer) == [Puback(9)]
    assert rows_of(database, "SELECT count(*) FROM telemetry") == [(1,)]
    async with ingesting(config) as (engine, _hub):
        peer = connected(engine, b"c:1")
        peer.send(publish("telemetry/d", '{"v": 1}', 1, 9))
        assert await read(peer) == [Puback(9)]
        peer.send(publish("telemetry/d", '{"v": 1}', 1, 9, dup=True))
        assert await read(peer) == [Puback(9)]
        other = connected(engine, b"c")
        other.send(publish("telemetry/d", '{"v": 1}', 1, 1, dup=True))
        assert await read(other) == [Puback(1)]
    assert rows_of(database, "SELECT count(*) FROM telemetry") == [(3,)]


async def test_update_keeps_the_last_value_of_each_key(tmp_path: Path, database: str) -> None:
    sql(database, 'CREATE TABLE "state%" (device text, n int, value int, PRIMARY KEY (device, n))')
    sinks = """
[[mqtt.sink]]
topics = "s/{device}"
table = "state%"
columns = { device = "{device}", n = "$.n", value = "$.v" }
on_conflict = "update"
"""
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, _):
        peer = connected(engine, b"c")
        for first in (0, 50):
            values = range(first, first + 50)
            peer.send(*[publish(f"s/{v % 3}", f'{{"n": 1, "v": {v}}}', 1, v + 1) for v in values])
        await read(peer, 100)
    assert rows_of(database, 'SELECT device, value FROM "state%" ORDER BY 1') == [
        ("0", 99),
        ("1", 97),
        ("2", 98),
    ]


async def test_a_function_is_called(tmp_path: Path, database: str) -> None:
    sql(
        database,
        "CREATE SCHEMA app; CREATE TABLE app.got (topic text, payload bytea)",
        "CREATE FUNCTION app.ingest(t text, p bytea) RETURNS void LANGUAGE sql AS"
        " 'INSERT INTO app.got VALUES (t, p)'",
    )
    sinks = '[[mqtt.sink]]\ntopics = "a/#"\ncall = "app.ingest(topic, payload)"\n'
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, _):
        peer = connected(engine, b"c")
        peer.send(publish("a", b"\x00\xff\\", 1, 1), publish("a/b/c", '"', 1, 2))
        assert await read(peer, 2) == [Puback(1), Puback(2)]
    assert rows_of(database, "SELECT topic, payload FROM app.got") == [("a", b"\x00\xff\\"), ("a/b/c", b'"')]


async def test_nothing_is_acknowledged_while_the_database_is_away(
    tmp_path: Path, database: str, cluster: Cluster
) -> None:
    sql(database, TABLE)
    sinks = SINK + "max_messages = 10\n"
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, hub):
        sink = hub.sinks["public.telemetry"]
        await until(lambda: sink.state == "live")
        await trio.to_thread.run_sync(cluster.stop)
        try:
            peer = connected(engine, b"c")
            peer.send(*[publish("telemetry/d/m", f'{{"v": {n}}}', 1, n) for n in range(1, 21)])
            assert peer.outbox.holds_reading
            assert not peer.link.silent_too_long()
            peer.send(*[publish("telemetry/d/m", '{"v": 99}', 0, 0) for _ in range(5)])
            await until(lambda: sink.state == "waiting")
            assert sink.dropped == 5
            assert peer.read() == []
        finally:
            await trio.to_thread.run_sync(cluster.start)
        assert await read(peer, 20) == [Puback(n) for n in range(1, 21)]
        assert not peer.outbox.holds_reading
        assert rows_of(database, "SELECT value FROM telemetry") == [(n,) for n in range(1, 21)]


async def test_a_deadlock_is_tried_again(tmp_path: Path, database: str) -> None:
    sql(
        database,
        "CREATE TABLE t (v int); CREATE SEQUENCE tries",
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') < 3 THEN RAISE EXCEPTION 'x' USING ERRCODE = 'deadlock_detected'; END IF;"
        " RETURN NEW; END $$",
        "CREATE TRIGGER fail BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION fail()",
    )
    sinks = '[[mqtt.sink]]\ntopics = "a"\ntable = "t"\ncolumns = { v = "{$payload}" }\n'
    async with ingesting(config_of(tmp_path, database, sinks)) as (engine, hub):
        peer = connected(engine, b"c")
        peer.send(publish("a", "1", 1, 1), publish("a", "2", 1, 2))
        assert await read(peer, 2) == [Puback(1), Puback(2)]
        assert hub.sinks["t"].retried == 2
    assert rows_of(database, "SELECT v FROM t") == [(1,), (2,)]


async def test_a_client_that_a_mistaken_sink_held_up_is_read_again_by_the_corrected_one(
    tmp_path: Path, database: str
) -> None:
    sql(database, TABLE)
    name = 'name = "one"\nmax_messages = 1\n'
    wrong = SINK.replace("public.telemetry", "public.telemetri") + name
    async with ingesting(config_of(tmp_path, database, wrong)) as (engine, hub):
        await until(lambda: hub.sinks["one"].state == "waiting")
        peer = connected(engine, b"c")
        peer.send(*[publish("telemetry/d/m", f'{{"v": {n}}}', 1, n) for n in (1, 2)])
        assert peer.outbox.holds_reading
        hub.adopt(config_of(tmp_path, database, SINK + name).ingest)
        assert await read(peer, 2) == [Puback(1), Puback(2)]
        assert not peer.outbox.holds_reading
