"""A database with a table for the doctor to look at."""

from __future__ import annotations

import pytest
from support.doctored import EVENT, sql


@pytest.fixture
def dsn(database: str) -> str:
    """Of a database with the table `event`."""
    sql(database, EVENT)
    return database
