"""The sinks of a process: each gets the messages of its topics, and they come, go and change while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ingesting import SINK, TABLE, config_of, ingesting, publish, read, rows_of
from support.installed import sql
from support.peer import connected
from support.polling import until

from broker.core.publication import Publication
from protocol.mqtt.packets import Puback


async def test_what_a_feed_publishes_makes_no_row(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, _):
        with engine.turn:
            engine.publish(Publication(b"telemetry/d/m", b'{"v": 1}', 1))
        peer = connected(engine, b"c")
        peer.send(publish("telemetry/d/m", '{"v": 2}', 1, 1))
        await read(peer)
    assert rows_of(database, "SELECT value FROM telemetry") == [(2,)]


async def test_a_sink_is_changed_while_it_runs(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    async with ingesting(config_of(tmp_path, database, SINK)) as (engine, hub):
        peer = connected(engine, b"c")
        peer.send(publish("telemetry/d/m", '{"v": 1}', 1, 1))
        hub.adopt(config_of(tmp_path, database, SINK.replace("{metric}", "{kind}")).ingest)
        peer.send(publish("telemetry/d/n", '{"v": 2}', 1, 2))
        assert await read(peer, 2) == [Puback(1), Puback(2)]
        hub.adopt(None)
        peer.send(publish("telemetry/d/n", '{"v": 3}', 1, 3))
        assert peer.read() == [Puback(3)]
    assert rows_of(database, "SELECT metric, value FROM telemetry ORDER BY 2") == [("m", 1), ("n", 2)]


async def test_a_corrected_sink_writes_what_the_mistaken_one_could_not(tmp_path: Path, database: str) -> None:
    sql(database, TABLE)
    name = 'name = "one"\n'
    wrong = SINK.replace("public.telemetry", "public.telemetri") + name
    async with ingesting(config_of(tmp_path, database, wrong)) as (engine, hub):
        await until(lambda: "there is no table" in hub.sinks["one"].problem)
        peer = connected(engine, b"c")
        peer.send(publish("telemetry/d/m", '{"v": 1}', 1, 1))
        hub.adopt(config_of(tmp_path, database, SINK + name).ingest)
        peer.send(publish("telemetry/d/m", '{"v": 2}', 1, 2))
        assert await read(peer, 2) == [Puback(1), Puback(2)]
    assert rows_of(database, "SELECT value FROM telemetry") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("sink", "problem"),
    [
        ('table = "nothing"\ncolumns = { v = "$.v" }', "there is no table nothing"),
        ('table = "t"\ncolumns = { w = "$.v" }', "t has no column w"),
        ('table = "t"\ncolumns = { v = "{$now}" }', "which {$now} never is"),
        ('call = "nothing(payload)"', "there is no function nothing with 1 arguments"),
        ('table = "t"\ncolumns = { v = "$.v" }\non_conflict = "update"', "t has no primary key"),
        (
            'table = "t"\ncolumns = { v = "$.v" }\ndead_letters = "gone"',
            "there is no table gone for dead letters",
        ),
    ],
)
async def test_what_does_not_fit_the_catalogue_is_said(
    tmp_path: Path, database: str, sink: str, problem: str
) -> None:
    sql(database, "CREATE TABLE t (v int)")
    config = config_of(tmp_path, database, f'[[mqtt.sink]]\ntopics = "a"\n{sink}\n')
    async with ingesting(config) as (_, hub):
        (one,) = hub.sinks.values()
        await until(lambda: one.problem != "")
        assert problem in one.problem
