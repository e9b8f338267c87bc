"""What is kept of a feed in the database is known to the next process; what can't be is said with its cure."""

from __future__ import annotations

import pytest
from attrs import evolve

from broker.config.feeds import FeedConfig
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import (
    Known,
    NotReady,
    ServerIdentity,
    known_feed,
    owe,
    owe_nothing,
    remember_identity,
    remember_log,
    remember_place,
)
from broker.feed.sealed import BROKEN

HERE = ServerIdentity("7", 1, 100)


@pytest.mark.parametrize(
    ("known", "difference"),
    [
        (None, ""),
        (HERE, ""),
        (evolve(HERE, wal_lsn=99), ""),
        (evolve(HERE, wal_lsn=101), "restored: the server's WAL ends before what it had sent"),
        (evolve(HERE, timeline=2), "failover or restore: timeline 1, no longer 2"),
        (evolve(HERE, system_identifier="8", timeline=2), "another database system: 7, no longer 8"),
    ],
)
def test_a_server_that_is_another_is_told_by_what_it_says(
    known: ServerIdentity | None, difference: str
) -> None:
    assert HERE.difference(known) == difference


def test_what_is_known_of_a_feed() -> None:
    assert (Known(place=(5, 1), kept_lsn=7).reaches, Known(place=(9, 1), kept_lsn=7).reaches) == (7, 9)
    assert Known().move == ""
    assert Known(moved_from="outbox").move == "the feed was moved from the kind outbox"


async def test_what_is_remembered_is_known(config: FeedConfig, connection: TrioConnection) -> None:
    assert (await known_feed(connection, config)).identity is None
    await remember_identity(connection, config, ServerIdentity("7", 3, 99))
    await remember_place(connection, "test", 500, 2)
    await remember_log(connection, "test", "log")
    await owe(connection, config, "why")
    known = await known_feed(connection, config)
    assert (known.identity, known.place, known.log) == (ServerIdentity("7", 3, 0), (500, 2), "log")
    assert (known.owed, known.moved_from) == ("why", "")
    await owe_nothing(connection, "test")
    await remember_identity(connection, config, ServerIdentity("8", 1, 0))
    known = await known_feed(connection, config)
    assert (known.identity, known.owed, known.place) == (ServerIdentity("8", 1, 0), "", (500, 2))
    assert await known_feed(connection, evolve(config, name="another")) == Known()


async def test_a_place_that_was_changed_by_hand_is_owed_a_gap(
    config: FeedConfig, connection: TrioConnection
) -> None:
    await remember_place(connection, "test", 500, 2)
    await connection.execute("UPDATE rowcast.feed SET read_seq = 900, moved_from = 'outbox'")
    known = await known_feed(connection, config)
    assert (known.owed, known.moved_from, known.place) == (BROKEN, "outbox", (900, 2))
    await owe(connection, config, "first")
    assert (await known_feed(connection, config)).owed == "first"
    await owe_nothing(connection, "test")
    known = await known_feed(connection, config)
    assert (known.owed, known.moved_from) == ("", "")


async def test_without_a_row_one_is_made(config: FeedConfig, connection: TrioConnection) -> None:
    await connection.execute("DELETE FROM rowcast.feed")
    await owe(connection, config, "why")
    await remember_identity(connection, config, HERE)
    assert (await known_feed(connection, config)).owed == "why"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DROP TABLE rowcast.feed CASCADE", "the table rowcast.feed is missing"),
        ("DROP SCHEMA rowcast CASCADE", "the table rowcast.feed is missing"),
        (
            "UPDATE rowcast.feed SET kind = 'outbox'",
            'was installed with kind = "outbox", and is configured with "wal"',
        ),
    ],
)
async def test_a_feed_that_is_not_installed_as_it_is_configured_is_refused(
    config: FeedConfig, connection: TrioConnection, statement: str, problem: str
) -> None:
    await connection.execute(statement.encode())
    with pytest.raises(NotReady, match=problem):
        await known_feed(connection, config)


async def test_a_role_that_may_not_read_is_told_what_to_run(
    config: FeedConfig, connection: TrioConnection
) -> None:
    await connection.execute("CREATE ROLE nobody_here; SET ROLE nobody_here")
    try:
        with pytest.raises(
            NotReady, match=r"permission denied.*run `rowcast feed install -c FILE --apply` for this role"
        ):
            await known_feed(connection, config)
    finally:
        await connection.execute("RESET ROLE; DROP ROLE nobody_here")
