"""What `rowcast feed install` and `remove` run, whatever the kind."""

from __future__ import annotations

import pytest
from support.doctored import findings, sql
from support.installed import connect, feed_config, install

from broker.feed.setup.install import install_steps, remove_steps


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_remove_takes_everything_away_and_may_be_repeated(dsn: str, kind: str) -> None:
    config = feed_config(dsn, kind)
    install(config)
    for _ in range(2):
        with connect(dsn) as connection:
            for step in remove_steps(config, drop_schema=True):
                connection.execute(step.statement)
    with connect(dsn) as connection:
        left = (
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),"
            " (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),"
            " to_regnamespace('rowcast') IS NULL"
        )
        assert connection.execute(left).fetchone() == (0, 0, 0, True)
        connection.execute("INSERT INTO event VALUES (1, 'still writable')")


@pytest.mark.parametrize("kind", ["wal", "outbox"])
def test_role_made_by_install_can_run_the_feed_and_no_more(dsn: str, kind: str) -> None:
    """Least privilege: the doctor, as that role, finds nothing wrong; the tables stay closed to it."""
    config = feed_config(dsn.replace("user=postgres", "user=rowcast_feed"), kind)
    try:
        with connect(dsn) as connection:
            for step in install_steps(config):
                connection.execute(step.statement)
        assert not findings(config)
        with connect(config.dsn) as connection:
            may = (
                "SELECT rolsuper, has_table_privilege('event', 'SELECT'),"
                " has_schema_privilege('rowcast', 'CREATE') FROM pg_roles WHERE rolname = current_user"
            )
            assert connection.execute(may).fetchone() == (False, False, False)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_feed", "DROP ROLE rowcast_feed")
