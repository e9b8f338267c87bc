"""A start that is interrupted anywhere costs delay and nothing else."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from support.feeds import running
from support.installed import TELLS_OF_EVENTS, connect, event_config, install

from broker.feed.driver.connection import TrioConnection


@pytest.mark.parametrize("kind", ["wal", "outbox", "listen"])
async def test_start_that_fails_at_any_statement_loses_no_row_from_before_it(
    kind: str, database: str, monkeypatch: pytest.MonkeyPatch, short_pauses: None
) -> None:
    """Where the feed has to begin must not be taken for known before it is."""
    config = event_config(kind, database)
    execute, left, number, has_failed = TrioConnection.execute, 0, 0, True

    async def failing(self: TrioConnection, *args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return await execute(self, *args, **options)

    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY)")
        if kind == "listen":
            connection.execute(TELLS_OF_EVENTS)
        install(config)
        async with running(config):
            pass
        monkeypatch.setattr(TrioConnection, "execute", failing)
        while has_failed:
            number += 1
            connection.execute("INSERT INTO event VALUES (%s)", [number])
            left = number
            async with running(config) as feed:
                await feed.outlet.until(1)
                has_failed = left <= 0
            assert (feed.outlet.topics(), feed.status.gaps) == ([b"event/%d" % number], 0)
    assert number > 5
