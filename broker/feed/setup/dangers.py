"""What an installation would break for the application's writers, found before anything is changed."""

from __future__ import annotations

from typing import Any

import psycopg

from broker.config.feeds import FeedConfig
from broker.feed.driver.sql_text import quoted_name
from broker.feed.kinds import kind_of
from broker.feed.routing.tables import table_operations
from broker.feed.setup.doctor_columns import misplaced
from broker.feed.setup.findings import Examination, Finding, wrong


def dangers(connection: psycopg.Connection[Any], config: FeedConfig) -> list[Finding]:
    """Why it must not be installed as it is; [] if nothing speaks against it."""
    examination = Examination(connection, config)
    found = []
    for table in table_operations(config):
        relation = examination.relation(table)
        if relation is None:
            found.append(
                wrong(f"there is no table {table}", "create it, or correct its name in the configuration")
            )
        elif relation.kind not in ("r", "p"):
            found.append(wrong(f"{table} is no table but a view or the like", "name the table behind it"))
        elif relation.is_unlogged and config.captures_by == "publication":
            cure = f'ALTER TABLE {quoted_name(table)} SET LOGGED, or use kind = "outbox"'
            found.append(wrong(f"{table} is unlogged: its changes are in no WAL", cure))
    found += misplaced(examination)
    for check in kind_of(config).breaks_writers():
        found += [finding for finding in check(examination) if finding.level == "wrong"]
    return found
