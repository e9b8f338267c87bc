"""What `install` makes for the kind `wal`: a slot where there is none, and what is owed where one is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import run_steps
from support.installed import EVENT, connect, feed_config, sql

from broker.config.feeds import FeedConfig, Replication
from broker.feed.setup.install_wal import install_steps
from broker.feed.setup.steps import drop_wal

SLOT = "that rows may be missing, where its slot is gone", "the replication slot, from now on"
SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database() ORDER BY 1"
PLACE = (
    "SELECT owed, stopped_at, (SELECT (restart_lsn - '0/0')::bigint <= stopped_at AND"
    " (confirmed_flush_lsn - '0/0')::bigint = stopped_at FROM pg_replication_slots s"
    " WHERE s.slot_name LIKE 'rowcast_test%' AND database = current_database() LIMIT 1) FROM rowcast.feed"
)


@pytest.fixture(scope="module")
def installed(kept_database: str) -> str:
    """A database in which all is installed but for the slot, which no transaction takes back."""
    sql(kept_database, EVENT)
    config = feed_config(kept_database)
    with connect(kept_database) as connection:
        run_steps(connection, install_steps(config, "PUBLIC", widen=False))
        run_steps(connection, drop_wal(config)[:2])
    return kept_database


@pytest.fixture
def there(installed: str) -> Iterator[psycopg.Connection[Any]]:
    """The feed as it is known before it has ever run."""
    with connect(installed) as connection:
        connection.execute(
            "UPDATE rowcast.feed SET system_identifier = NULL, moved_from = NULL, owed = NULL, stopped_at = NULL"
        )
        yield connection
        run_steps(connection, drop_wal(feed_config(installed))[:2])


def make_slot(connection: psycopg.Connection[Any], config: FeedConfig) -> None:
    run_steps(
        connection, [step for step in install_steps(config, "PUBLIC", widen=False) if step.purpose in SLOT]
    )


def test_feed_that_has_never_run_begins_where_its_slot_is_made(
    there: psycopg.Connection[Any], installed: str
) -> None:
    config = feed_config(installed)
    make_slot(there, config)
    first = there.execute(PLACE).fetchone()
    assert first is not None
    assert (first[0], first[1] > 0, first[2]) == (None, True, True)
    make_slot(there, config)
    assert there.execute(PLACE).fetchone() == first
    assert len(there.execute(SLOTS).fetchall()) == 1


def test_feed_that_has_run_owes_what_a_lost_slot_has_lost(
    there: psycopg.Connection[Any], installed: str
) -> None:
    there.execute("UPDATE rowcast.feed SET system_identifier = '1', stopped_at = 5")
    make_slot(there, feed_config(installed))
    ((name,),) = there.execute(SLOTS).fetchall()
    assert there.execute(PLACE).fetchone() == (f"there was no slot {name}", 5, False)
    there.execute("UPDATE rowcast.feed SET owed = NULL")
    make_slot(there, feed_config(installed))
    assert there.execute(PLACE).fetchone() == (None, 5, False)


def test_feed_of_another_kind_before_owes_that_and_no_slot(
    there: psycopg.Connection[Any], installed: str
) -> None:
    there.execute("UPDATE rowcast.feed SET system_identifier = '1', moved_from = 'outbox'")
    make_slot(there, feed_config(installed))
    assert there.execute("SELECT owed FROM rowcast.feed").fetchone() == (None,)
    assert len(there.execute(SLOTS).fetchall()) == 1


@pytest.mark.parametrize(("database_of_slot", "makes_one"), [("here", False), ("elsewhere", True)])
def test_slot_of_an_earlier_name_goes_on_where_it_is_this_databases(
    there: psycopg.Connection[Any], installed: str, database: str, database_of_slot: str, makes_one: bool
) -> None:
    earlier = "SELECT pg_create_logical_replication_slot('rowcast_test', 'pgoutput')"
    sql(installed if database_of_slot == "here" else database, earlier)
    make_slot(there, feed_config(installed))
    names = [name for (name,) in there.execute(SLOTS).fetchall()]
    assert (names == ["rowcast_test"], len(names)) == (not makes_one, 1)


def test_slot_may_have_a_name_of_its_own(there: psycopg.Connection[Any], installed: str) -> None:
    config = feed_config(installed, replication=Replication(slot="chosen"))
    make_slot(there, config)
    assert there.execute(SLOTS).fetchall() == [("chosen",)]
    run_steps(there, drop_wal(config)[:2])


def test_order_of_the_steps_lets_nothing_commit_unseen() -> None:
    """A slot waits for open transactions; what is captured is noted behind it, and publications stand before it."""
    purposes = [
        step.purpose for step in install_steps(evolve(feed_config("user=a dbname=b")), "PUBLIC", False)
    ]
    order = ["the publications", "the feed", *SLOT, "what is captured from now on", "that it is installed"]
    assert [one for one in purposes if one in order] == order
