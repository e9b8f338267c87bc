"""What `install` makes for the kind `listen`."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from attrs import evolve
from support.doctored import findings, listen_config, run_steps, undone
from support.installed import connect, sql

from broker.config.feeds import Fetch, Recovery
from broker.feed.setup.install_listen import install_steps


def test_the_role_of_a_feed_that_fetches_may_read_the_table_and_no_more(dsn: str) -> None:
    fetch = Fetch("public.event", ("id",), (("events", "fill"),))
    config = listen_config(dsn.replace("user=postgres", "user=rowcast_feed"), recoveries=(), fetches=(fetch,))
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert not findings(config)
        with connect(config.dsn) as feed:
            feed.execute("SELECT * FROM event")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                feed.execute("DELETE FROM event")
    finally:
        sql(dsn, "DROP OWNED BY rowcast_feed", "DROP ROLE rowcast_feed")


CONFIG = listen_config("user='odd role' dbname=shop", recoveries=())
RECOVERY = Recovery("public.Odd", ("id",), (("events", "fill"),))
FETCH = Fetch("public.event", ("id",), (("events", "fill"),))
REMEMBERED = ["rowcast.installed=test"]
MAY = (
    "SELECT has_table_privilege(r.rolname, '\"Odd\"', 'SELECT'), has_table_privilege(r.rolname, 'event', 'SELECT'),"
    " to_regclass('rowcast.feed') IS NOT NULL, rolreplication,"
    " (SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid) FROM pg_roles r WHERE rolname = 'odd role'"
)


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, None),
        ({"recoveries": (RECOVERY,)}, (True, False, True, False, REMEMBERED)),
        ({"fetches": (FETCH,)}, (False, True, False, False, None)),
        ({"recoveries": (RECOVERY,), "fetches": (FETCH,)}, (True, True, True, False, REMEMBERED)),
    ],
    ids=["nothing", "recover", "fetch", "both"],
)
def test_role_is_made_that_may_read_what_is_read_by_key(
    kept_database: str, changes: dict[str, Any], may: tuple[Any, ...] | None
) -> None:
    with undone(kept_database, 'CREATE TABLE "Odd" (id int); CREATE TABLE event (id int)') as connection:
        config = evolve(CONFIG, **changes)
        for _ in range(2):
            run_steps(connection, install_steps(config))
        assert connection.execute(MAY).fetchone() == may
        if may and may[2]:
            known = connection.execute("SELECT kind, read_seq FROM rowcast.feed WHERE name = 'test'")
            assert known.fetchall() == [("listen", 0)]
            connection.execute("SET LOCAL ROLE \"odd role\"; UPDATE rowcast.feed SET marks = '{}'")


def test_what_it_was_before_is_taken_away(kept_database: str) -> None:
    with undone(
        kept_database, "CREATE TABLE event (id int)", "CREATE SCHEMA rowcast",
        "CREATE TABLE rowcast.feed (name text, kind text)", "CREATE PUBLICATION rowcast_test_update",
        "CREATE TRIGGER rowcast_capture AFTER INSERT ON event EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ) as connection:  # fmt: skip
        run_steps(connection, install_steps(CONFIG))
        left = "SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)"
        assert connection.execute(left).fetchone() == (0, 0)
