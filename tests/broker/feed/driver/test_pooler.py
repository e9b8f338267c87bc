"""Poolers: in session mode everything works that they pass on, in transaction mode feeds refuse with words."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve
from support.feeds import Running, running
from support.installed import connect, feed_config, install
from support.pgbouncer import pgbouncer
from support.polling import until
from support.postgres import Cluster

from broker.cli.main import main
from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.setup import doctor
from broker.feed.supervise import supervise

pytestmark = pytest.mark.usefixtures("short_pauses")


def through(config: FeedConfig, port: int) -> FeedConfig:
    words = [f"port={port}" if word.startswith("port=") else word for word in config.dsn.split()]
    return evolve(config, dsn=" ".join(words))


def config_of(kind: str, dsn: str) -> FeedConfig:
    with connect(dsn) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    if kind == "listen":
        return FeedConfig(
            "test", dsn, sources=(Source("said", ("said",)),), routes=(Route("said", ("said/{id}",)),)
        )
    config = feed_config(dsn, kind)
    install(config)
    return config


@pytest.mark.parametrize("kind", ["listen", "outbox", "wal"])
async def test_transaction_mode_is_refused_in_words_and_no_session_is_changed(
    cluster: Cluster, database: str, kind: str
) -> None:
    direct = config_of(kind, database)
    with pgbouncer(cluster, "transaction") as port:
        config = through(direct, port)
        feed = Running(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, config, feed.outlet, feed.status)
            await until(lambda: "transaction mode" in feed.status.problem)
            nursery.cancel_scope.cancel()
        with connect(config.dsn) as other:
            assert other.execute("SHOW row_security").fetchone() == ("on",)
            report = doctor.examine(other, config)
    assert any("transaction mode" in found.text and found.level == "wrong" for found in report.findings)


@pytest.mark.parametrize("kind", ["listen", "outbox"])
async def test_session_mode_is_as_good_as_none(cluster: Cluster, database: str, kind: str) -> None:
    direct = config_of(kind, database)
    with pgbouncer(cluster, "session") as port:
        config = through(direct, port)
        async with running(config) as feed:
            with connect(config.dsn) as writer:
                if kind == "listen":
                    writer.execute("""SELECT pg_notify('said', '{"id":1}')""")
                else:
                    writer.execute("INSERT INTO event VALUES (1, 'a')")
                report = doctor.examine(writer, config)
            await feed.outlet.until(1)
    assert report.is_healthy, report.findings


async def test_replication_through_a_pooler_is_refused_in_words(cluster: Cluster, database: str) -> None:
    direct = config_of("wal", database)
    with pgbouncer(cluster, "session") as port:
        config = through(direct, port)
        feed = Running(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, config, feed.outlet, feed.status)
            await until(lambda: "let the dsn name the server itself" in feed.status.problem)
            nursery.cancel_scope.cancel()


def test_check_says_what_to_do_about_options(
    cluster: Cluster, database: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pgbouncer(cluster, "session") as port:
        config = through(config_of("outbox", database), port)
        file = tmp_path / "rowcast.toml"
        file.write_text(f"""
[[listener]]
port = 1883
[database]
dsn = "{config.dsn} options='-c statement_timeout=0'"
kind = "outbox"
[source.tables]
tables = ["public.event"]
[[mqtt.route]]
from = "tables"
topics = ["event/{{id}}"]
""")
        assert main(["feed", "check", "-c", str(file)]) == 1
    assert "leave options out of the dsn" in capsys.readouterr().out
