"""Statements that the kinds of feeds share."""

from __future__ import annotations

from support.doctored import sql, texts
from support.installed import connect, feed_config

from broker.feed.setup.install import install_steps


def test_role_that_may_replicate_as_a_member_needs_no_attribute(dsn: str) -> None:
    """As with Amazon's services, where nobody may give it."""
    sql(dsn, "CREATE ROLE rds_replication", "CREATE ROLE rowcast_member LOGIN")
    config = feed_config(dsn.replace("user=postgres", "user=rowcast_member"))
    try:
        assert "rowcast_member may not replicate" in texts(config)
        sql(dsn, *(step.statement for step in install_steps(config)))
        assert "rowcast_member may replicate and is no superuser" in texts(config, "fine")
        with connect(dsn) as admin:
            row = admin.execute(
                "SELECT rolreplication FROM pg_roles WHERE rolname = 'rowcast_member'"
            ).fetchone()
        assert row == (False,)
    finally:
        sql(dsn, "DROP OWNED BY rowcast_member", "DROP ROLE rowcast_member, rds_replication")
