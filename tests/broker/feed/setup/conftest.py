"""A database with a table for the doctor to look at."""

from __future__ import annotations

import pytest
from support.doctored import config_of_both
from support.installed import EVENT, install, sql


@pytest.fixture
def dsn(database: str) -> str:
    """Of a database with the table `event`."""
    sql(database, EVENT)
    return database


@pytest.fixture(scope="module")
def outbox_database(kept_database: str) -> str:
    """A database for a whole module with `event` and a partitioned table, of which an `outbox` feed is installed."""
    sql(
        kept_database,
        EVENT,
        "CREATE TABLE parted (id bigint PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (100)",
    )
    install(config_of_both(kept_database))
    return kept_database
