"""A route that is added while rows come: none is lost or repeated, and from then on the new route is used."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg
import pytest
import trio
from support.installed import install
from support.polling import until
from support.ports import free_port
from support.postgres import cluster, database

from broker import Broker
from broker.config.model import Config, ConfigError
from broker.config.reload import reloaded
from broker.config.toml import configuration as toml
from broker.core.local import LocalSubscriber
from broker.links.listening.accept import ListenError

__all__ = ["cluster", "database"]

ROWS = 3000
HEAD = """
[[listener]]
port = 0
host = "127.0.0.1"
[security]
allow_anonymous = true
[database]
dsn = "{dsn}"
kind = "{kind}"
replication = {{ allow_unbounded_wal = true }}
[source.events]
{source}
[[mqtt.route]]
from = "events"
topics = "old/{{id}}"
"""
MORE = """
[[mqtt.route]]
from = "events"
topics = "new/{id}"
"""
CALCULATED = """
[[market.trades]]
from = "events"
symbol = "symbol"
id = "id"
price = "price"
size = "size"
time = "time"
[[mqtt.route]]
from = "market.trades"
topics = "trades/{symbol}"
"""
SOURCES = {"listen": 'listen = "event"', "wal": 'tables = "public.event"'}


def configuration(folder: Path, dsn: str, kind: str, more: str = "") -> Config:
    path = folder / "rowcast.toml"
    path.write_text(HEAD.format(dsn=dsn, kind=kind, source=SOURCES[kind]) + more)
    return toml.load(path, {})


async def write_rows(dsn: str, kind: str, first: int, count: int) -> None:
    def write() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for number in range(first, first + count):
                if kind == "listen":
                    connection.execute(
                        "SELECT pg_notify('event', json_build_object('id', %s::int)::text)", [number]
                    )
                else:
                    connection.execute("INSERT INTO event VALUES (%s)", [number])

    await trio.to_thread.run_sync(write)


@pytest.mark.parametrize("kind", ["listen", "wal"])
async def test_a_route_is_added_under_load(kind: str, database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE event (id int PRIMARY KEY)")
    config = configuration(tmp_path, database, kind)
    if kind == "wal":
        install(config.feeds[0])
    async with Broker(config) as broker:
        heard: list[str] = []
        news = trio.Event()

        def take() -> None:
            while (publication := subscriber.take()) is not None:
                heard.append(publication.topic.decode())
            news.set()

        subscriber = LocalSubscriber(broker.app.engine.counters, lambda: take())
        broker.app.engine.subscribe(subscriber, b"+/+", 2)
        with trio.fail_after(50):
            await until(lambda: broker.app.feeds["main"].state == "live")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_rows, database, kind, 0, ROWS)
                while len(heard) < ROWS // 3:
                    news = trio.Event()
                    await news.wait()
                more = configuration(tmp_path, database, kind, MORE)
                broker.app.reload(reloaded(config, more))
            await write_rows(database, kind, ROWS, 1)
            while f"new/{ROWS}" not in heard:
                news = trio.Event()
                await news.wait()
    counts = Counter(heard)
    assert [topic for topic, count in counts.items() if count > 1] == []
    assert [number for number in range(ROWS + 1) if f"old/{number}" not in counts] == []
    new = sorted(int(topic[4:]) for topic in counts if topic.startswith("new/"))
    assert new == list(range(new[0], ROWS + 1))


def test_what_would_lose_rows_is_refused_by_name(tmp_path: Path) -> None:
    old = configuration(tmp_path, "host=a", "listen")
    other = configuration(tmp_path, "host=b", "listen")
    with pytest.raises(
        ConfigError, match=r"^\[database\] another dsn takes a restart while the kind is listen"
    ):
        reloaded(old, other)
    assert reloaded(configuration(tmp_path, "host=a", "wal"), configuration(tmp_path, "host=b", "wal")).feeds


def test_what_only_a_restart_changes_is_named(tmp_path: Path) -> None:
    old = configuration(tmp_path, "host=a", "listen")
    new = configuration(tmp_path, "host=a", "listen", '[broker]\nuser = "other"\n')
    assert reloaded(old, new).warnings == ("user was changed; that takes a restart, and stays as it was.",)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ('[[history]]\ntopics = ["old/#"]\n', "[[history]]"),
        ('[persistence]\npersistence = true\npersistence_location = "."\n', "[persistence]"),
    ],
)
def test_a_table_that_only_a_restart_changes_is_named_as_the_file_does(
    tmp_path: Path, changed: str, named: str
) -> None:
    old = configuration(tmp_path, "host=a", "wal")
    new = configuration(tmp_path, "host=a", "wal", changed)
    assert f"{named} was changed; that takes a restart, and stays as it was." in reloaded(old, new).warnings


def test_calculators_where_none_were_take_a_restart_and_other_routes_do_not(tmp_path: Path) -> None:
    plain = configuration(tmp_path, "host=a", "wal")
    old = configuration(tmp_path, "host=a", "wal", CALCULATED)
    more = configuration(tmp_path, "host=a", "wal", CALCULATED + MORE)
    other = configuration(tmp_path, "host=a", "wal", CALCULATED.replace("trades/", "fills/"))
    taken = reloaded(old, more)
    assert taken.feeds == more.feeds
    assert reloaded(old, other).market == other.market
    for before, new in ((old, plain), (plain, old)):
        with pytest.raises(ConfigError, match=r"^\[market\]: .* takes a restart\.$"):
            reloaded(before, new)


async def test_the_admin_port_moves_and_one_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    def settings(text: str) -> Config:
        path = tmp_path / "rowcast.toml"
        path.write_text(
            "[[listener]]\nport = 0\nhost = '127.0.0.1'\n[security]\nallow_anonymous = true\n" + text
        )
        return toml.load(path, {})

    async def answers(port: int) -> bool:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            return False
        async with stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b" 200 " in await stream.receive_some(1000)

    config = settings("")
    async with Broker(config) as broker:
        app = broker.app
        first = free_port()  # one of the kernel's choice is soon another process's, which answers there
        config = reloaded(config, settings(f"[admin]\nport = {first}\n"))
        app.reload(config)
        assert await answers(first)
        taken = settings(f"[admin]\nport = {first}\n[metrics]\nport = {broker.ports[0]}\n")
        with pytest.raises(ListenError):
            app.reload(reloaded(config, taken))
        assert (app.admin_port, app.operation.metrics_port) == (first, 0)
        config = reloaded(config, settings("[metrics]\nport = 0\n"))
        app.reload(config)
        assert not await answers(first)
        assert await answers(app.operation.metrics_port)
