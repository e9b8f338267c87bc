"""Notifications that would never come are named, at the start and while the feed runs."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.installed import install, sql

from broker.config.feeds import FeedConfig, Source
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import NotReady
from broker.feed.status import FeedStatus
from broker.feed.unheard import check_notices, warn_of_unheard

LISTENS = Source("n", ("news",))


async def test_notifications_that_nothing_brings_are_missed_at_the_start(
    config: FeedConfig, connection: TrioConnection, caplog: pytest.LogCaptureFixture
) -> None:
    heard = evolve(config.routes[0], source="n", kind=None)
    listening = evolve(config, sources=(*config.sources, LISTENS), routes=(*config.routes, heard))
    await connection.execute("DROP FUNCTION IF EXISTS rowcast.pg_notify(text, text)")
    await check_notices(connection, config)
    with pytest.raises(NotReady, match=r"rowcast\.pg_notify\(\) is missing"):
        await check_notices(connection, listening)
    install(listening)
    await check_notices(connection, listening)
    sql(config, "CREATE FUNCTION tell() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('news', 'x') $$")
    status = FeedStatus("test")
    await warn_of_unheard(connection, config, status, 0.0)
    assert "not heard" not in caplog.text
    await warn_of_unheard(connection, listening, status, 0.0)
    assert "notifications not heard" in caplog.text
    assert "tell" in caplog.text
