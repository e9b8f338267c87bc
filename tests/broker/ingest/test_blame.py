"""Which rows are refused that a real Postgres says are to be tried again, and which are waited for."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from support.ingesting import TABLE, config_of, ingesting, publish, read, rows_of
from support.installed import sql
from support.peer5 import connected5
from support.polling import until

from broker.ingest import patience
from protocol.mqtt.v5.reasons import ReasonCode

FAILS = (
    "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " RAISE EXCEPTION 'never in time' USING ERRCODE = '{code}'; END $$"
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row need not fail for a minute before it may be to blame."""
    monkeypatch.setattr(patience, "ALONE_S_MIN", 0.0)
    monkeypatch.setattr(patience, "ALONE_TRIES_MIN", 2)
    monkeypatch.setattr(patience, "WHOLE_TRIES", 1)


LETTERED = (
    '[[mqtt.sink]]\ntopics = "a"\ntable = "t"\ncolumns = { v = "{$payload}" }\ndead_letters = "dead"\n'
    'batch = { rows = 8, every = "1ms" }\n'
)


@pytest.mark.parametrize("code", ["57014", "55P03", "40001"])
async def test_a_row_that_is_to_be_tried_again_each_time_is_refused_in_the_end(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Goal: its trigger is cancelled however often it is called; all others are written, and in order."""
    monkeypatch.setattr(patience, "ALONE_S_MIN", 0.0)
    trigger = "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.v % 6 = 5) EXECUTE FUNCTION fail()"
    sql(database, TABLE, "CREATE TABLE t (n serial, v int)", FAILS.format(code=code), trigger)
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        peer = connected5(engine, b"c")
        peer.send(*[publish("a", f"{number}", 1, number) for number in range(1, 13)])
        acks = await read(peer, 12)
        assert hub.sinks["t"].refused == 2
    assert [ack.packet_id for ack in acks if ack.reason_code == ReasonCode.PAYLOAD_FORMAT_INVALID] == [5, 11]
    assert rows_of(database, "SELECT v FROM t ORDER BY n") == [(n,) for n in range(1, 13) if n % 6 != 5]
    letters = rows_of(database, "SELECT convert_from(payload, 'UTF8'), reason FROM dead ORDER BY 1")
    assert letters == [("11", f"{code}: never in time"), ("5", f"{code}: never in time")]


async def test_no_row_is_to_blame_where_the_table_takes_none(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ALONE_S_MIN", 0.0)
    trigger = "CREATE TRIGGER f BEFORE INSERT ON t EXECUTE FUNCTION fail()"
    sql(database, TABLE, "CREATE TABLE t (v int)", FAILS.format(code="57014"), trigger)
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        sink = hub.sinks["t"]
        peer = connected5(engine, b"c")
        peer.send(publish("a", "1", 1, 1))
        await until(lambda: sink.retried > 2 * patience.ALONE_TRIES_MIN or sink.refused > 0)
        assert sink.refused == 0
        sql(database, "DROP TRIGGER f ON t")
        assert [ack.reason_code for ack in await read(peer)] == [0]


CANCEL = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
    " AND application_name LIKE 'rowcast sink%' AND query_start < clock_timestamp() - interval '0.5 s'"
)
"""As whoever lets no statement take long."""


async def test_a_lock_that_somebody_has_is_waited_for_however_often_that_is_cancelled(
    tmp_path: Path, database: str, impatient: None
) -> None:
    """Goal: while a partition is altered no row is refused, though the table would take others."""
    partitions = (
        "CREATE TABLE t5 PARTITION OF t FOR VALUES IN (5); CREATE TABLE others PARTITION OF t DEFAULT"
    )
    sql(database, TABLE, f"CREATE TABLE t (v int) PARTITION BY LIST (v); {partitions}")
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        sink = hub.sinks["t"]
        await until(lambda: sink.state == "live")
        peer = connected5(engine, b"c")
        with psycopg.connect(database) as owner, psycopg.connect(database, autocommit=True) as canceller:
            owner.execute("LOCK TABLE t5")
            peer.send(*[publish("a", f"{number}", 1, number) for number in (5, 6, 7)])
            await until(lambda: bool(canceller.execute(CANCEL)) and sink.retried + sink.refused > 6)
            assert sink.refused == 0
        assert [ack.reason_code for ack in await read(peer, 3)] == [0, 0, 0]
    assert rows_of(database, "SELECT v FROM t ORDER BY v") == [(5,), (6,), (7,)]


@pytest.mark.parametrize(("table", "refused"), [("t", 0), ("dead", 1)])
async def test_what_a_trigger_has_no_lock_of_is_waited_for(
    tmp_path: Path, database: str, impatient: None, table: str, refused: int
) -> None:
    sql(
        database,
        TABLE,
        "CREATE TABLE t (v int CHECK (v <> 5)); CREATE TABLE devices (v int)",
        "INSERT INTO devices VALUES (5)",
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM 1 FROM devices FOR UPDATE NOWAIT; RETURN NEW; END $$",
        f"CREATE TRIGGER l BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION look()",
    )
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        sink = hub.sinks["t"]
        peer = connected5(engine, b"c")
        with psycopg.connect(database) as owner:
            owner.execute("UPDATE devices SET v = 5")
            first = "4" if table == "t" else "5"
            peer.send(publish("a", first, 1, 1), publish("a", "6", 1, 2))
            await until(lambda: sink.retried + sink.refused > 6)
            assert sink.refused == 0
        await read(peer, 2)
        assert (sink.refused, sink.dead_letters) == (refused, refused)
    assert rows_of(database, "SELECT count(*) FROM t") == [(2 - refused,)]


async def test_a_row_that_takes_too_long_each_time_is_refused_once_another_waits_for_it(
    tmp_path: Path, database: str, impatient: None
) -> None:
    sql(
        database,
        TABLE,
        "CREATE TABLE t (v int)",
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$",
        "CREATE CONSTRAINT TRIGGER l AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.v = 5) EXECUTE FUNCTION linger()",
    )
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        sink = hub.sinks["t"]
        peer = connected5(engine, b"c")
        with psycopg.connect(database, autocommit=True) as canceller:
            peer.send(publish("a", "5", 1, 1))
            await until(lambda: bool(canceller.execute(CANCEL)) and sink.retried + sink.refused > 5)
            assert sink.refused == 0
            peer.send(publish("a", "6", 1, 2))
            await until(lambda: bool(canceller.execute(CANCEL)) and sink.written == 1)
        acks = await read(peer, 2)
    assert [ack.reason_code for ack in acks] == [ReasonCode.PAYLOAD_FORMAT_INVALID, 0]
    assert rows_of(database, "SELECT v FROM t") == [(6,)]
    assert "57014" in rows_of(database, "SELECT reason FROM dead")[0][0]


async def test_a_row_is_dropped_and_counted_where_its_letter_is_to_be_tried_again_each_time(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "ALONE_S_MIN", 0.0)
    trigger = "CREATE TRIGGER f BEFORE INSERT ON dead FOR EACH ROW EXECUTE FUNCTION fail()"
    sql(database, TABLE, "CREATE TABLE t (v int)", FAILS.format(code="57014"), trigger)
    async with ingesting(config_of(tmp_path, database, LETTERED)) as (engine, hub):
        peer = connected5(engine, b"c")
        peer.send(publish("a", "x", 1, 1), publish("a", "2", 1, 2))
        acks = await read(peer, 2)
        sink = hub.sinks["t"]
        assert (sink.refused, sink.dead_letters) == (1, 0)
    assert [ack.reason_code for ack in acks] == [ReasonCode.PAYLOAD_FORMAT_INVALID, 0]
