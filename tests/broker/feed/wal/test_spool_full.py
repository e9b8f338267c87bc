"""A disk that is full for spools: the state does not go to and fro, and nothing is lost."""

from __future__ import annotations

import errno

import pytest
from support.feeds import running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.feed.status import FeedStatus
from broker.feed.wal import feed as wal_feed
from broker.feed.wal.spool import Spool

pytestmark = pytest.mark.usefixtures("short_pauses")


async def test_the_state_is_not_live_again_before_the_disk_has_proven_itself(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [True]
    add = Spool.add

    def full(spool: Spool, data: bytes) -> None:
        if fails[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(spool, data)

    states: list[str] = []
    enter = FeedStatus.enter

    def entered(status: FeedStatus, state: str, problem: str = "") -> None:
        states.append(state)
        enter(status, state, problem)

    monkeypatch.setattr(Spool, "add", full)
    monkeypatch.setattr(FeedStatus, "enter", entered)
    monkeypatch.setattr(wal_feed, "SPOOL_PROVEN_S", 0.5)
    with connect(database) as connection:
        connection.execute("CREATE TABLE event (id bigint PRIMARY KEY, note text)")
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE \"{name}\" SET logical_decoding_work_mem = '64kB'")
    config = feed_config(database)
    install(config)
    async with running(config) as feed:
        del states[:]
        with connect(database) as connection:
            connection.execute("INSERT INTO event SELECT i, repeat('x', 1000) FROM generate_series(1, 500) i")
        await until(lambda: states.count("waiting") >= 4)
        assert "live" not in states
        assert "No space left" in feed.status.problem
        fails[0] = False
        await feed.outlet.until(500)
        await feed.until_live()
    assert feed.outlet.topics() == [b"event/%d" % number for number in range(1, 501)]
