"""Functions that notify: which are found, what becomes of their calls, and that they can be as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import undone
from support.installed import feed_config

from broker.config.feeds import FeedConfig, Route, Source
from broker.feed.setup.install_notices import CALL, OUR_CALL, callers, notice_steps, remove_step
from broker.feed.setup.steps import base_step

Undoing = psycopg.Connection[Any]

PLAIN = "CREATE FUNCTION app.say(text) RETURNS {returns} LANGUAGE {language} AS $$ {body} $$"
ATOMIC = (
    "CREATE FUNCTION app.say(t text) RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT pg_notify('plain', t); END"
)


@pytest.fixture
def undoing(kept_database: str) -> Iterator[Undoing]:
    with undone(kept_database, "CREATE SCHEMA app", base_step().statement) as connection:
        yield connection


def made(body: str, language: str = "sql", returns: str = "void") -> str:
    return PLAIN.format(body=body, language=language, returns=returns)


def listening(kind: str = "wal") -> FeedConfig:
    source = Source("events", ("plain", "it's"))
    return feed_config("", kind, sources=(source,), routes=(Route("events", ("e/{id}",)),))


def found(connection: Undoing, pattern: str) -> list[str]:
    return [name for _, name in connection.execute(callers(pattern)).fetchall()]


def install(connection: Undoing, kind: str = "outbox") -> None:
    for _, statement in notice_steps(listening(kind)):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("function", "is_found"),
    [
        (made("SELECT pg_notify('plain', $1)"), True),
        (made("SELECT PG_NOTIFY ('plain', $1)"), True),
        (made("SELECT pg_catalog . pg_notify('plain', $1)"), True),
        (made("BEGIN PERFORM pg_notify('plain', $1); END", "plpgsql"), True),
        (ATOMIC, True),
        ("CREATE PROCEDURE app.say(text) LANGUAGE sql AS $$ SELECT pg_notify('plain', $1) $$", True),
        (made("SELECT app.pg_notify($1)"), False),
        (made('SELECT app."pg_notify"($1)'), False),
        (made("SELECT my_pg_notify($1)"), False),
        (made("SELECT rowcast.pg_notify('plain', $1)"), False),
        (made("SELECT 'pg_notify'", returns="text"), False),
    ],
    ids=[
        "plain", "capitals", "qualified", "plpgsql", "atomic", "procedure", "another's", "quoted", "longer", "ours",
        "named",
    ],
)  # fmt: skip
def test_callers_are_functions_whose_body_calls_what_postgres_has(
    undoing: Undoing, function: str, is_found: bool
) -> None:
    if function == ATOMIC and undoing.info.server_version < 140000:
        pytest.skip("no such functions before PostgreSQL 14")
    undoing.execute("SET LOCAL check_function_bodies = off")
    undoing.execute(function)
    assert found(undoing, CALL) == (["app.say(text)"] if is_found else [])


def test_functions_of_ours_and_of_extensions_are_nobodys_to_change(undoing: Undoing) -> None:
    install(undoing)
    assert found(undoing, CALL) == []
    undoing.execute(made("SELECT pg_notify('plain', $1)"))
    undoing.execute("ALTER EXTENSION plpgsql ADD FUNCTION app.say(text)")
    assert found(undoing, CALL) == []


@pytest.mark.parametrize(
    "function",
    [
        made("SELECT pg_notify('plain', $1)"),
        made("SELECT pg_catalog.Pg_Notify ('plain', $1), pg_notify('x', 'app.pg_notify(1)')"),
        made("SELECT nothing.of_this_name(), pg_notify('plain', $1)"),
        ATOMIC,
    ],
    ids=["plain", "twice", "unfinished", "atomic"],
)
def test_calls_are_told_to_come_here_and_can_be_as_they_were(undoing: Undoing, function: str) -> None:
    if function == ATOMIC and undoing.info.server_version < 140000:
        pytest.skip("no such functions before PostgreSQL 14")
    undoing.execute("SET LOCAL check_function_bodies = off")
    undoing.execute(function)
    undoing.execute("SET LOCAL check_function_bodies = on")
    for _ in range(2):
        install(undoing)
        assert (found(undoing, CALL), found(undoing, OUR_CALL)) == ([], ["app.say(text)"])
    for _ in range(2):
        undoing.execute(remove_step()[1])
        assert (found(undoing, CALL), found(undoing, OUR_CALL)) == (["app.say(text)"], [])


def test_what_was_changed_is_said(undoing: Undoing) -> None:
    heard: list[tuple[str | None, str | None]] = []
    undoing.add_notice_handler(lambda one: heard.append((one.severity_nonlocalized, one.message_primary)))
    undoing.execute(made("SELECT pg_notify('plain', $1)"))
    install(undoing)
    undoing.execute(remove_step()[1])
    assert heard == [
        ("INFO", "app.say(text) now calls rowcast.pg_notify"),
        ("INFO", "app.say(text) now calls pg_notify"),
    ]


OUTBOX = (
    "CREATE TABLE rowcast.outbox (relation text, operation text, body text)",
    "CREATE FUNCTION rowcast.outbox_mark() RETURNS void LANGUAGE sql AS 'SELECT'",
)


@pytest.mark.parametrize(
    ("channel", "payload", "kept"),
    [
        ("plain", "é", [("plain", "notify", "é")]),
        ("it's", None, [("it's", "notify", "")]),
        ("other", "x", []),
    ],
)
def test_notifications_on_the_channels_of_sources_go_into_the_outbox_too(
    undoing: Undoing, channel: str, payload: str | None, kept: list[tuple[str, str, str]]
) -> None:
    for statement in (*OUTBOX, "CREATE ROLE writer"):
        undoing.execute(statement)
    install(undoing)
    undoing.execute("SET LOCAL ROLE writer")
    undoing.execute("SELECT rowcast.pg_notify(%s, %s)", [channel, payload])
    undoing.execute("RESET ROLE")
    assert undoing.execute("SELECT * FROM rowcast.outbox").fetchall() == kept


@pytest.mark.parametrize("length", [0, 63, 64])
def test_channels_have_1_to_63_bytes(undoing: Undoing, length: int) -> None:
    install(undoing, "wal")
    if length == 63:
        undoing.execute("SELECT rowcast.notify(%s, 'x')", ["é" * 31 + "a"])
        return
    with pytest.raises(psycopg.errors.RaiseException, match="1 to 63 bytes"):
        undoing.execute("SELECT rowcast.notify(%s, 'x')", ["é" * (length // 2)])


def test_feed_that_carries_no_notifications_needs_nothing() -> None:
    assert notice_steps(feed_config("")) == []
    assert notice_steps(evolve(listening(), kind="listen")) == []
