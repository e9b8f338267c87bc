"""A feed's connections: what each session sets, whatever a database has set, and how long anything may take."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from support.installed import connect
from support.postgres import Cluster
from trio.testing import MockClock

from broker.config.feeds import FeedConfig
from broker.feed.driver import connect as connect_module
from broker.feed.driver.connect import AnyText, AnyTextBinary, connected, open_connection, session_sql, within
from broker.feed.driver.connection import TrioConnection


@pytest.mark.parametrize(
    ("version", "absent"),
    [
        (130000, {"idle_session_timeout", "transaction_timeout"}),
        (139999, {"idle_session_timeout", "transaction_timeout"}),
        (140000, {"transaction_timeout"}),
        (169999, {"transaction_timeout"}),
        (170000, set[str]()),
    ],
)
def test_a_version_s_session_sets_what_it_knows(version: int, absent: set[str]) -> None:
    given = [statement.split()[:2] for statement in session_sql(version).decode().split("; ")]
    assert all(word == "SET" for word, _ in given)
    assert {name for _, name in given} == connect_module._SESSION.keys() - absent


async def one(connection: TrioConnection, query: str) -> Any:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row[0]


async def test_what_a_database_sets_is_meant_for_programs(database: str) -> None:
    with connect(database) as admin:
        name = admin.info.dbname
        for setting in (
            "statement_timeout = 3600000",
            "lock_timeout = 3600000",
            "idle_in_transaction_session_timeout = 3600000",
            "default_transaction_read_only = on",
            "default_transaction_isolation = 'serializable'",
        ):
            admin.execute(f'ALTER DATABASE "{name}" SET {setting}'.encode())
    async with connected(FeedConfig("main", database)) as connection:
        for setting, expected in (
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("default_transaction_read_only", "off"),
            ("default_transaction_isolation", "read committed"),
            ("row_security", "off"),
            ("client_encoding", "UTF8"),
            ("application_name", "rowcast"),
        ):
            assert await one(connection, f"SHOW {setting}") == expected


async def test_what_the_feed_asks_for_comes_last_and_what_the_dsn_says_counts(database: str) -> None:
    dsn = make_conninfo(database, application_name="mine", keepalives_idle="7")
    settings = "SET row_security = on; SET DateStyle = German"
    async with connected(FeedConfig("main", dsn), settings) as connection:
        assert await one(connection, "SHOW row_security") == "on"
        assert await one(connection, "SHOW DateStyle") == "German, DMY"
        assert await one(connection, "SHOW application_name") == "mine"
        given = connection.info.get_parameters()
        assert (given["keepalives_idle"], given["keepalives_interval"]) == ("7", "5")
        assert (given["keepalives_count"], given["tcp_user_timeout"]) == ("3", "15000")
    async with connected(FeedConfig("main", dsn), application_name="a sink") as connection:
        assert await one(connection, "SHOW application_name") == "a sink"
        assert connection.autocommit
        assert connection.prepare_threshold is None
    assert connection.closed


@pytest.mark.parametrize("settings", ["SET nothing = 1", "SELECT pg_sleep(60)"])
async def test_a_session_that_can_t_be_set_up_is_closed(
    database: str, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[TrioConnection] = []

    async def noted(connection: TrioConnection, again: object) -> None:
        opened.append(connection)

    monkeypatch.setattr(connect_module, "refuse_shared_sessions", noted)
    timeout_s = 0.3 if "sleep" in settings else 60.0
    with pytest.raises(psycopg.Error) as error:
        await open_connection(FeedConfig("main", database, check_timeout_s=timeout_s), settings)
    assert "setting the session up took longer than 0.3 s" in str(error.value) or "nothing" in str(
        error.value
    )
    assert [connection.closed for connection in opened] == [True]


async def test_a_connection_is_closed_however_its_block_ends(database: str) -> None:
    with pytest.raises(RuntimeError):
        async with connected(FeedConfig("main", database)) as connection:
            raise RuntimeError
    assert connection.closed


async def test_a_server_that_takes_any_bytes_gives_them_as_they_are(cluster: Cluster) -> None:
    with connect(cluster.dsn()) as admin:
        admin.execute("CREATE DATABASE any_bytes ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    try:
        async with connected(FeedConfig("main", cluster.dsn("any_bytes"))) as connection:
            assert await one(connection, "SHOW client_encoding") == "SQL_ASCII"
            for kind in ("text", "varchar", "bpchar", "name"):
                cursor = connection.cursor(binary=kind == "text")
                await cursor.execute(f"SELECT E'\\xff'::{kind}".encode())
                assert await cursor.fetchone() == ("\udcff",)
    finally:
        cluster.drop_database("any_bytes")


def test_text_of_any_bytes() -> None:
    assert AnyText(25).load(b"\xc3\xa4\xff") == "ä\udcff"
    assert AnyTextBinary.format == psycopg.pq.Format.BINARY


@pytest.mark.parametrize(
    ("message", "said"), [("unsupported startup parameter: x", "leave what it names out"), ("no", "no")]
)
async def test_a_pooler_s_refusal_comes_with_its_cure(
    message: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(f"{message}\n")

    monkeypatch.setattr(TrioConnection, "connect", refuse)
    with pytest.raises(psycopg.OperationalError, match=said) as error:
        await open_connection(FeedConfig("main", "host=x"))
    assert str(error.value).startswith(message)


async def test_what_takes_too_long_is_an_error_of_the_database(autojump_clock: MockClock) -> None:
    too_long = pytest.raises(psycopg.OperationalError, match=r"^the query took longer than 2\.5 s$")
    with too_long, within(2.5, "the query"):
        await trio.sleep(3)
    with within(2.5, "the query"):
        await trio.sleep(2)
    with pytest.raises(psycopg.DataError), within(2.5, "the query"):
        raise psycopg.DataError
