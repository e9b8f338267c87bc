"""What people do to a table while a sink writes to it: nothing acknowledged is lost, and it is said in words."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from support.ingesting import config_of, ingesting, rows_of
from support.installed import sql
from support.peer import Peer, connected
from support.peer5 import connected5
from support.polling import until
from support.postgres import Cluster

from broker.ingest import writer
from protocol.mqtt.packets import Puback, Publish
from protocol.mqtt.v5.reasons import ReasonCode

TABLE = "CREATE TABLE t (k text PRIMARY KEY, v int4)"
SINK = """
[[mqtt.sink]]
topics = "t/{k}"
table = "t"
columns = { k = "{k}", v = "$.v" }
on_conflict = "nothing"
dead_letters = "dead"
"""
ROLE = "ingester"
OTHER = '[[mqtt.sink]]\nname = "other"\ntopics = "#"\ntable = "o.others"\ncolumns = { topic = "{$topic}" }\n'
OTHERS = f"CREATE SCHEMA o; GRANT USAGE ON SCHEMA o TO {ROLE}; CREATE TABLE o.others (topic text)"
DEAD = (
    "CREATE TABLE dead (received timestamptz, sink text, topic text, payload bytea, client text, qos smallint,"
    " reason text)"
)


def publish(n: int, value: str = "1") -> Publish:
    return Publish(b"t/k%d" % n, b'{"v": %s}' % value.encode(), 1, False, False, n)


def hears(peer: Peer, heard: list[Any], count: int) -> bool:
    """Take what has come; whether it is that much."""
    heard.extend(peer.read())
    return len(heard) >= count


# What is done, what `problem` says of it, and what undoes it.
STOPPING = {
    "the table is renamed": ("ALTER TABLE t RENAME TO u", "no table t", "ALTER TABLE u RENAME TO t"),
    "the table is dropped": ("DROP TABLE t", "no table t", f"{TABLE}; GRANT INSERT ON t TO {ROLE}"),
    "a column is renamed": ("ALTER TABLE t RENAME v TO w", "no column v", "ALTER TABLE t RENAME w TO v"),
    "a column is dropped": ("ALTER TABLE t DROP v", "no column v", "ALTER TABLE t ADD v int4"),
    "a column that is not written must be": (
        "ALTER TABLE t ADD w int; UPDATE t SET w = 1; ALTER TABLE t ALTER w SET NOT NULL",
        "column w is NOT NULL",
        "ALTER TABLE t DROP w",
    ),
    "a column is generated": (
        "ALTER TABLE t DROP v; ALTER TABLE t ADD v int4 GENERATED ALWAYS AS (1) STORED",
        "column v is generated",
        "ALTER TABLE t DROP v; ALTER TABLE t ADD v int4",
    ),
    "the right is revoked": (
        f"REVOKE INSERT ON t FROM {ROLE}",
        "may not be written",
        f"GRANT INSERT ON t TO {ROLE}",
    ),
    "the schema is closed": (
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "t",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
    ),
    "a sequence may not be used": (
        "CREATE SEQUENCE s; ALTER TABLE t ADD n int DEFAULT nextval('s')",
        "permission denied for sequence s",
        f"GRANT USAGE ON SEQUENCE s TO {ROLE}",
    ),
    "a trigger reads a table that is not there": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM FROM nowhere; RETURN NEW; END $$;"
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        'relation "nowhere" does not exist',
        "DROP TRIGGER f ON t",
    ),
    "a view stands in its place": (
        "ALTER TABLE t RENAME TO u; CREATE VIEW t AS SELECT DISTINCT k, v FROM u;"
        f" GRANT INSERT ON t TO {ROLE}",
        "nothing can be inserted into t",
        "DROP VIEW t; ALTER TABLE u RENAME TO t",
    ),
    "the dead letters' table is dropped": (
        "DROP TABLE dead",
        "no table dead",
        f"{DEAD}; GRANT INSERT ON dead TO {ROLE}",
    ),
}


@pytest.fixture
def role(database: str) -> str:
    """The database as a role that may insert and nothing else."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    sql(database, TABLE, OTHERS, DEAD, f"GRANT INSERT ON t, o.others, dead TO {ROLE}")
    return database.replace("user=postgres", f"user={ROLE}")


@pytest.mark.parametrize("act", STOPPING)
async def test_a_table_that_takes_nothing_more_is_waited_for(
    tmp_path: Path, database: str, role: str, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: nothing is acknowledged or refused meanwhile, others go on, `problem` says why, and all is written then."""
    monkeypatch.setattr(writer, "PAUSE_S_MAX", 0.2)
    done, problem, undone = STOPPING[act]
    async with ingesting(config_of(tmp_path, role, SINK + OTHER)) as (engine, hub):
        peer = connected(engine, b"c")
        heard: list[Any] = []
        peer.send(publish(1))
        await until(lambda: hears(peer, heard, 1))
        sql(database, done)
        peer.send(*[publish(n, "no number" if "dead" in act and n == 2 else str(n)) for n in range(2, 6)])
        sink = hub.sinks["t"]
        await until(lambda: problem in sink.problem)
        assert sink.state == "waiting"
        await until(lambda: hub.sinks["other"].written == 5)
        heard.extend(peer.read())
        assert heard == [Puback(1)]
        sql(database, undone)
        await until(lambda: hears(peer, heard, 5))
        assert heard == [Puback(n) for n in range(1, 6)]
        assert sink.state == "live"
    expected = {f"k{n}" for n in range(2, 6)} - ({"k2"} if "dead" in act else set())
    assert {k for (k,) in rows_of(database, "SELECT k FROM t")} - {"k1"} == expected
    assert len(rows_of(database, "SELECT FROM dead")) == 4 - len(expected)


# What is done, and which of two messages, {"v": 3000000000} and {"v": null}, the table takes then.
REFUSING = {
    "nothing": ("SELECT 1", {"k3"}),
    "a column is longer": ("ALTER TABLE t ALTER v TYPE int8", {"k2", "k3"}),
    "a column is text": ("ALTER TABLE t ALTER v TYPE text", {"k2", "k3"}),
    "a column must be there": ("ALTER TABLE t ALTER v SET NOT NULL", set[str]()),
    "a check": ("ALTER TABLE t ALTER v TYPE int8; ALTER TABLE t ADD CHECK (v < 10)", {"k3"}),
    "row level security without a policy": ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", set[str]()),
    "a policy": (
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t FOR INSERT WITH CHECK (k <> 'k3')",
        set[str](),
    ),
    "an enum": (
        "CREATE TYPE big AS ENUM ('1', '3000000000'); ALTER TABLE t ALTER v TYPE big USING v::text::big",
        {"k2", "k3"},
    ),
    "no partition": (
        "DROP TABLE t; CREATE TABLE t (k text PRIMARY KEY, v int8) PARTITION BY LIST (k);"
        f" CREATE TABLE t2 PARTITION OF t FOR VALUES IN ('k2'); GRANT INSERT ON t TO {ROLE}",
        {"k2"},
    ),
    "a trigger with a code of its own": (
        "ALTER TABLE t ALTER v TYPE int8; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.k = 'k3' THEN RAISE 'no' USING ERRCODE = 'MY001'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        {"k2"},
    ),
    "a foreign key": (
        "ALTER TABLE t ALTER v TYPE int8; CREATE TABLE o (v int8 PRIMARY KEY);"
        " ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES o NOT VALID",
        {"k3"},
    ),
}


@pytest.mark.parametrize("act", REFUSING)
async def test_only_what_the_table_refuses_as_it_is_now_is_refused(
    tmp_path: Path, database: str, role: str, act: str
) -> None:
    done, taken = REFUSING[act]
    async with ingesting(config_of(tmp_path, role, SINK)) as (engine, hub):
        peer = connected5(engine, b"c")
        heard: list[Any] = []
        peer.send(publish(1))
        await until(lambda: hears(peer, heard, 1))
        heard.clear()
        sql(database, done)
        peer.send(publish(2, "3000000000"), publish(3, "null"))
        await until(lambda: hears(peer, heard, 2))
        codes = {ack.packet_id: ack.reason_code for ack in heard}
        refused = {"k2", "k3"} - taken
        assert codes == {n: ReasonCode.PAYLOAD_FORMAT_INVALID if f"k{n}" in refused else 0 for n in (2, 3)}
        assert hub.sinks["t"].dead_letters == len(refused)
    assert {k for (k,) in rows_of(database, "SELECT k FROM t WHERE k <> 'k1'")} == taken
    letters = rows_of(database, "SELECT topic, reason FROM dead")
    assert {f"t/{k}" for k in refused} == {topic for topic, _ in letters}
    assert all(reason for _, reason in letters)


async def test_a_type_that_changes_without_any_error_is_noticed(
    tmp_path: Path, database: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else 12.5 would become 12 or 13, rounded on its way from the old type to the new one."""
    monkeypatch.setattr(writer, "LOOK_AGAIN_S", 0.0)
    sql(database, "ALTER TABLE t ALTER v TYPE numeric")
    async with ingesting(config_of(tmp_path, role, SINK)) as (engine, hub):
        peer = connected(engine, b"c")
        heard: list[Any] = []
        peer.send(publish(1, "0.5"))
        await until(lambda: hears(peer, heard, 1))
        sql(database, "ALTER TABLE t ALTER v TYPE int4")
        peer.send(publish(2, "12.5"))
        await until(lambda: hears(peer, heard, 2))
        assert hub.sinks["t"].dead_letters == 1
    assert rows_of(database, "SELECT k FROM t") == [("k1",)]


async def test_a_key_that_is_dropped_is_missed(
    tmp_path: Path,
    database: str,
    role: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(writer, "LOOK_AGAIN_S", 0.0)
    caplog.set_level(logging.WARNING)
    sql(database, f"GRANT SELECT, UPDATE ON t TO {ROLE}")
    sinks = SINK + SINK.replace("nothing", "update") + 'name = "update"\n'
    async with ingesting(config_of(tmp_path, role, sinks)) as (engine, hub):
        await until(lambda: all(one.state == "live" for one in hub.sinks.values()))
        sql(database, "ALTER TABLE t DROP CONSTRAINT t_pkey")
        peer = connected(engine, b"c")
        peer.send(publish(1))
        await until(lambda: hub.sinks["update"].state == "waiting" and hub.sinks["t"].written == 1)
        assert "t has no primary key for on_conflict" in hub.sinks["update"].problem
        assert peer.read() == []
        assert "no row of t ever conflicts with another" in caplog.text
        sql(database, "ALTER TABLE t ADD PRIMARY KEY (k)")
        heard: list[Any] = []
        await until(lambda: hears(peer, heard, 1))
    assert rows_of(database, "SELECT k, v FROM t") == [("k1", 1)]


async def test_a_database_that_is_renamed_is_waited_for(tmp_path: Path, cluster: Cluster) -> None:
    name = cluster.create_database()
    sql(cluster.dsn(name), TABLE, DEAD)
    async with ingesting(config_of(tmp_path, cluster.dsn(name), SINK)) as (engine, hub):
        await until(lambda: hub.sinks["t"].state == "live")
        sql(
            cluster.dsn(),
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'",
            f"ALTER DATABASE {name} RENAME TO {name}_old",
        )
        peer = connected(engine, b"c")
        peer.send(publish(1))
        await until(lambda: f'database "{name}" does not exist' in hub.sinks["t"].problem)
        assert peer.read() == []
        sql(cluster.dsn(), f"ALTER DATABASE {name}_old RENAME TO {name}")
        heard: list[Any] = []
        await until(lambda: hears(peer, heard, 1))
    assert rows_of(cluster.dsn(name), "SELECT k FROM t") == [("k1",)]
    await trio.to_thread.run_sync(cluster.drop_database, name)


async def test_a_removed_sink_whose_table_is_gone_tells_its_publishers(
    tmp_path: Path, database: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else they would wait for ever: nobody mends the table of a sink that was given up."""
    async with ingesting(config_of(tmp_path, role, SINK + "max_messages = 2\n")) as (engine, hub):
        await until(lambda: hub.sinks["t"].state == "live")
        sql(database, "DROP TABLE t")
        peer = connected5(engine, b"c")
        peer.send(*[publish(n) for n in (1, 2, 3)])
        await until(lambda: hub.sinks["t"].state == "waiting")
        assert peer.read() == []
        assert peer.outbox.holds_reading
        hub.adopt(None)
        heard: list[Any] = []
        await until(lambda: hears(peer, heard, 3))
        assert {ack.reason_code for ack in heard} == {ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR}
        assert not peer.outbox.holds_reading
    assert "3 messages were never written: the sink was removed" in caplog.text


async def test_a_removed_sink_writes_what_it_has_when_the_database_is_back(
    tmp_path: Path, database: str, role: str, cluster: Cluster
) -> None:
    async with ingesting(config_of(tmp_path, role, SINK)) as (engine, hub):
        await until(lambda: hub.sinks["t"].state == "live")
        await trio.to_thread.run_sync(cluster.stop)
        try:
            peer = connected(engine, b"c")
            peer.send(publish(1))
            hub.adopt(None)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert peer.read() == []
        finally:
            await trio.to_thread.run_sync(cluster.start)
        heard: list[Any] = []
        await until(lambda: hears(peer, heard, 1))
    assert rows_of(database, "SELECT k FROM t") == [("k1",)]
