"""Whoever waits for others' transactions says for whose."""

from __future__ import annotations

import pytest
import trio
from support.feeds import Running
from support.installed import connect, feed_config, install, sql
from support.polling import until

from broker.feed.driver.blockers import blocker_words

pytestmark = pytest.mark.usefixtures("short_pauses")


async def test_slot_that_waits_for_an_open_transaction_says_for_whom(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.feed.driver.blockers.FIRST_S", 0.1)
    config = feed_config(database)
    sql(config, "CREATE TABLE event (id bigint PRIMARY KEY, note text)")
    install(config)
    sql(
        config,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    )
    feed = Running(config)
    with connect(database) as writer:
        writer.execute("BEGIN; INSERT INTO event VALUES (1, 'open')")
        async with trio.open_nursery() as nursery:
            from broker.feed.supervise import supervise

            nursery.start_soon(supervise, config, feed.outlet, feed.status)
            await until(lambda: "waiting" in feed.status.troubles)
            assert f"session {writer.info.backend_pid} of postgres" in feed.status.troubles["waiting"]
            writer.execute("COMMIT")
            await feed.until_live()
            assert "waiting" not in feed.status.troubles
            nursery.cancel_scope.cancel()
    assert feed.status.gaps == 1  # there was no slot


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0, None, None, None, None), "a prepared transaction (pg_prepared_xacts)"),
        ((5, "u", "d", "idle", "T"), "session 5 of u in d, idle, its transaction open since T"),
        ((5, "u", "d", "active", None), "session 5 of u in d"),
        ((5, None, None, None, None), "session 5 of another role"),
    ],
)
def test_who_it_is_in_words(
    row: tuple[int, str | None, str | None, str | None, str | None], words: str
) -> None:
    assert blocker_words(row) == words
