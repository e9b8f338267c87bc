"""What nobody needs any more goes from the outbox, and nothing else."""

from __future__ import annotations

import pytest
from attrs import evolve
from support.feeds import running
from support.installed import connect, sql
from support.polling import until

from broker.config.feeds import FeedConfig, Replication
from broker.feed.driver.connection import TrioConnection
from broker.feed.outbox import pruning
from broker.feed.outbox.pruning import PRUNE_INTERVAL_S, Pruner


async def test_rows_read_by_all_are_pruned(config: FeedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PRUNE_INTERVAL_S", 0.05)
    config = evolve(config, replication=Replication(keep_s=0.0, poll_s=0.05))
    with connect(config.dsn) as connection:
        async with running(config) as feed:
            sql(config, *[f"INSERT INTO event VALUES ({number}, 'x')" for number in range(1, 11)])
            await feed.outlet.until(10)
            count = (
                "SELECT (SELECT count(*) FROM rowcast.outbox), (SELECT count(*) FROM rowcast.outbox_commit)"
            )
            await until(lambda: connection.execute(count).fetchone() == (1, 1))
    assert feed.status.gaps == 0


async def prune(
    config: FeedConfig, pruner: Pruner | None = None, now: float = 0.0
) -> tuple[list[int], int, bool]:
    """The numbers that are left, up to which number was pruned, and whether it was time."""
    async with await TrioConnection.connect(config.dsn, autocommit=True) as connection:
        was_time = await (pruner or Pruner(config)).prune(connection, now)
        left = await (await connection.execute("SELECT seq FROM rowcast.outbox_commit ORDER BY 1")).fetchall()
        bodies = await (await connection.execute("SELECT count(DISTINCT xid) FROM rowcast.outbox")).fetchone()
        assert bodies == (len(left),)
        upto = await (await connection.execute("SELECT seq FROM rowcast.outbox_pruned")).fetchone()
        assert upto is not None
    return [seq for (seq,) in left], upto[0], was_time


AGES = "UPDATE rowcast.outbox_commit SET committed_at = now() - make_interval(secs => (6 - seq) * 100)"
"""Of five transactions: 500 s for the first, 100 s for the last."""


@pytest.mark.parametrize(
    ("read", "keep_s", "keep_unread_s", "left"),
    [
        ("5", 0.0, 9999.0, [5]),  # the last one says where it is
        ("3", 0.0, 9999.0, [3, 4, 5]),
        ("5", 350.0, 9999.0, [3, 4, 5]),
        ("0", 0.0, 350.0, [3, 4, 5]),
        ("0", 0.0, 9999.0, [1, 2, 3, 4, 5]),
        ("5", 0.0, 0.0, []),
        ("2, 5", 0.0, 9999.0, [2, 3, 4, 5]),  # of two feeds the slower one counts
    ],
)
async def test_what_all_have_read_is_kept_a_while_and_what_nobody_reads_not_for_ever(
    config: FeedConfig, read: str, keep_s: float, keep_unread_s: float, left: list[int]
) -> None:
    config = evolve(config, replication=Replication(keep_s=keep_s, keep_unread_s=keep_unread_s))
    sql(config, *[f"INSERT INTO event VALUES ({number})" for number in range(1, 6)], AGES)
    first, *others = read.split(", ")
    sql(config, f"UPDATE rowcast.feed SET read_seq = {first}")
    for number in others:
        sql(config, f"INSERT INTO rowcast.feed (name, kind, read_seq) VALUES ('other', 'outbox', {number})")
    sql(config, "INSERT INTO rowcast.feed (name, kind, read_seq) VALUES ('wal', 'wal', 1)")
    gone = [number for number in range(1, 6) if number not in left]
    assert await prune(config) == (left, max(gone, default=0), True)


async def test_how_far_it_was_pruned_never_goes_back(config: FeedConfig) -> None:
    config = evolve(config, replication=Replication(keep_unread_s=0.0))
    sql(config, "INSERT INTO event VALUES (1)", AGES, "UPDATE rowcast.outbox_pruned SET seq = 9")
    assert await prune(config) == ([], 9, True)


async def test_it_is_time_once_a_minute_and_at_once_while_there_is_more(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PRUNE_TRANSACTIONS", 2)
    config = evolve(config, replication=Replication(keep_unread_s=0.0))
    sql(config, *[f"INSERT INTO event VALUES ({number})" for number in range(1, 4)], AGES)
    pruner = Pruner(config)
    assert await prune(config, pruner, 100.0) == ([3], 2, True)
    assert await prune(config, pruner, 100.0) == ([], 3, True)
    for now, was_time in ((100.0 + PRUNE_INTERVAL_S - 0.1, False), (100.0 + PRUNE_INTERVAL_S, True)):
        assert (await prune(config, pruner, now))[2] == was_time
