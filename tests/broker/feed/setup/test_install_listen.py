"""What `install` makes for the kind `listen`."""

from __future__ import annotations

import psycopg
import pytest
from support.doctored import findings, listen_config, sql
from support.installed import connect

from broker.config.feeds import Fetch
from broker.feed.setup.install import install_steps


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
