"""What an installation has made gets another name or owner for a while: a row comes, or a gap before the next."""

from __future__ import annotations

from typing import Final

import psycopg
import pytest
from support.feeds import Published, running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.feed.outbox import feed as outbox_feed
from broker.feed.wal import feed as wal_feed

pytestmark = pytest.mark.usefixtures("short_pauses")

WAL: Final = {
    "publication": ("PUBLICATION rowcast_test RENAME TO aside", "PUBLICATION aside RENAME TO rowcast_test"),
    "owner of the publication": (
        "PUBLICATION rowcast_test OWNER TO pg_database_owner",
        "PUBLICATION rowcast_test OWNER TO postgres",
    ),
    "schema": ("SCHEMA rowcast RENAME TO aside", "SCHEMA aside RENAME TO rowcast"),
    "table of feeds": ("TABLE rowcast.feed RENAME TO aside", "TABLE rowcast.aside RENAME TO feed"),
    "rewritten": ("TABLE event ADD r float8 DEFAULT random()", "TABLE event DROP r"),
    "whole rows": ("TABLE event REPLICA IDENTITY FULL", "TABLE event REPLICA IDENTITY DEFAULT"),
    "no key": ("TABLE event DROP CONSTRAINT event_pkey", "TABLE event ADD PRIMARY KEY (id)"),
}
OUTBOX: Final = {
    "trigger": (
        "TRIGGER rowcast_capture ON event RENAME TO aside",
        "TRIGGER aside ON event RENAME TO rowcast_capture",
    ),
    "outbox": ("TABLE rowcast.outbox RENAME TO aside", "TABLE rowcast.aside RENAME TO outbox"),
    "unlogged": ("TABLE rowcast.outbox SET UNLOGGED", "TABLE rowcast.outbox SET LOGGED"),
    "sequence": (
        "SEQUENCE rowcast.outbox_seq RENAME TO aside",
        "SEQUENCE rowcast.aside RENAME TO outbox_seq",
    ),
    "one column more": ("TABLE rowcast.outbox ADD more text", "TABLE rowcast.outbox DROP more"),
    "owner": ("TABLE rowcast.outbox OWNER TO pg_monitor", "TABLE rowcast.outbox OWNER TO postgres"),
    **{name: WAL[name] for name in ("schema", "table of feeds", "rewritten", "no key")},
}
CASES: Final = [("wal", name) for name in WAL] + [("outbox", name) for name in OUTBOX]


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_a_row_comes_or_a_gap_before_the_next(
    database: str, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_feed, "LOOK_INTERVAL_S", 0.1)
    monkeypatch.setattr(outbox_feed, "LOOK_INTERVAL_S", 0.1)
    away, back = (WAL if kind == "wal" else OUTBOX)[name]
    config = feed_config(database, kind)
    with connect(database) as people:
        people.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        install(config)
        async with running(config) as feed:
            people.execute("INSERT INTO event VALUES (1, 'x')")
            await feed.outlet.until(1)
            gaps_before: list[int] = []

            def take(published: Published) -> None:
                if published[0] not in (b"event/1", b"event/2"):
                    gaps_before.append(feed.status.gaps)

            feed.outlet.on_publish = take
            people.execute(f"ALTER {away}")
            try:
                people.execute("INSERT INTO event VALUES (2, 'x')")
                is_written = True
            except psycopg.Error:  # the writer was told
                is_written = False
            people.execute(f"ALTER {back}")
            people.execute("INSERT INTO event VALUES (3, 'x')")  # a gap may take it, too
            await until(lambda: bool(gaps_before) or feed.status.gaps > 0)
            await feed.until_live()
            people.execute("INSERT INTO event VALUES (4, 'x')")
            await until(lambda: b"event/4" in feed.outlet.topics())
    topics = feed.outlet.topics()
    assert topics == sorted(set(topics))
    assert b"event/2" in topics or not is_written or gaps_before[0]
    assert b"event/3" in topics or gaps_before[0]
