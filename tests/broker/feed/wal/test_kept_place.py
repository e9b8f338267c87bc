"""What somebody does to a feed's slot or to its place while the feed is away is announced; nothing else is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
from attrs import evolve
from support.feeds import Collector, Running, running
from support.installed import connect, feed_config, install
from support.polling import until

from broker.config.feeds import FeedConfig, Route
from broker.core.added import Added
from broker.feed import supervise
from broker.feed.setup.doctor import examine
from broker.feed.wal import confirming, kept_place, slots
from broker.feed.wal.feed import WalFeed

pytestmark = pytest.mark.usefixtures("short_pauses")

READ = (
    "SELECT count(*) FROM pg_logical_slot_{}_binary_changes('{{slot}}', NULL, NULL, 'proto_version', '1',"
    " 'publication_names', '{{publications}}')"
)

TAKES = {
    "moved": ["SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"],
    "read": [READ.format("get")],
    "made anew": [
        "SELECT pg_drop_replication_slot('{slot}')",
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')",
    ],
    "dropped": ["SELECT pg_drop_replication_slot('{slot}')"],
}
"""What takes rows away that have not been read."""

LEAVES = {
    "nothing": [],
    "looked at": [READ.format("peek")],
    "renamed": [
        "SELECT pg_copy_logical_replication_slot('{slot}', '{slot}_aside')",
        "SELECT pg_drop_replication_slot('{slot}')",
        "SELECT pg_copy_logical_replication_slot('{slot}_aside', '{slot}')",
        "SELECT pg_drop_replication_slot('{slot}_aside')",
    ],
    "installed again": [],
    "other tables": [
        "CREATE TABLE IF NOT EXISTS other (x text)",
        "INSERT INTO other SELECT repeat('x', 200000)",
    ],
    "switched": ["SELECT pg_switch_wal()", "CHECKPOINT"],
}
"""What takes nothing away."""

GAP = 0


class Ledger(Collector):
    """Numbers of rows, and `GAP`, in their order over several processes."""

    def __init__(self, entries: list[int]) -> None:
        super().__init__()
        self._entries = entries

    def publish(
        self, topic: bytes, payload: bytes, qos: int, retain: bool, added: Added | None = None
    ) -> None:
        super().publish(topic, payload, qos, retain, added)
        if topic.startswith(b"event/"):
            self._entries.append(int(topic[6:]))
        elif topic.endswith(b"/gap"):
            self._entries.append(GAP)


@asynccontextmanager
async def life(config: FeedConfig, entries: list[int]) -> AsyncIterator[Running]:
    """A process's feed, from its start until it is live, to the end of the block."""
    feed = Running(config)
    feed.outlet = Ledger(entries)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise.supervise, config, feed.outlet, feed.status)
        await feed.until_live()
        yield feed
        nursery.cancel_scope.cancel()


def dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a feed ends as by SIGKILL, keeping nothing that was not kept."""

    async def leave(*_: object) -> None:
        pass

    monkeypatch.setattr(WalFeed, "_leave", leave)


async def act(config: FeedConfig, name: str) -> None:
    """Do it as soon as nobody reads from the slot."""
    if name == "installed again":
        install(config)
    slot, publications = slots.slot_name(config), ",".join(slots.publication_names(config))
    with connect(config.dsn) as connection:
        for statement in (TAKES | LEAVES)[name]:
            while True:
                try:
                    connection.execute(statement.format(slot=slot, publications=publications))
                    break
                except psycopg.errors.ObjectInUse:
                    await trio.sleep(0.01)


def write(config: FeedConfig, numbers: range) -> None:
    """One transaction, two rows of which are enough to be cut in the middle."""
    if numbers:
        with connect(config.dsn) as connection:
            query = "INSERT INTO event SELECT i, 'x' FROM generate_series(%s::int, %s::int) i"
            connection.execute(query, [numbers[0], numbers[-1]])


def judge(entries: list[int], last: int, may_repeat: bool) -> None:
    """Each row came, in order, or a gap came before the next one."""
    top, is_announced = 0, False
    for number in entries:
        if number == GAP:
            is_announced = True
            continue
        assert number <= top + 1 or is_announced, (
            f"{top + 1} to {number - 1} are missing without a gap: {entries}"
        )
        assert number > top or may_repeat, f"{number} came twice: {entries}"
        top, is_announced = max(top, number), False
    assert top == last


class Drawn:
    """A few lives of a feed, and what is done between them."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.written = 0
        self.is_touched = False
        self.may_repeat = False

    def rows(self, config: FeedConfig) -> None:
        for _ in range(self.draw.randrange(3)):
            first = self.written + 1
            self.written += self.draw.choice([1, 2, 20])
            write(config, range(first, self.written + 1))

    async def away(self, config: FeedConfig) -> None:
        self.rows(config)
        for _ in range(self.draw.choice([0, 1, 1, 2])):
            name = self.draw.choice([*TAKES, *LEAVES])
            self.is_touched |= name in TAKES
            if name in LEAVES and name != "nothing" and self.is_slotless(config):
                continue
            if name in TAKES and self.is_slotless(config):
                continue
            await act(config, name)
            self.rows(config)

    def is_slotless(self, config: FeedConfig) -> bool:
        with connect(config.dsn) as connection:
            query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
            return connection.execute(query, [slots.slot_name(config)]).fetchone() is None


async def run_drawn(config: FeedConfig, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, entries = Drawn(seed), list[int]()
    for _ in range(drawn.draw.randrange(2, 5)):
        with monkeypatch.context() as patch:
            patch.setattr(confirming, "KEEP_INTERVAL_S", drawn.draw.choice([0.01, 0.2, 1.0]))
            if drawn.draw.random() < 0.6:
                dies(patch)
                drawn.may_repeat = True
            async with life(config, entries):
                drawn.rows(config)
                if drawn.draw.random() < 0.7:
                    await until(lambda: drawn.written in (0, *entries) or entries[-1:] == [GAP])
                await trio.sleep(drawn.draw.choice([0, 0.02, 0.1]))
        await drawn.away(config)
    async with life(config, entries):
        drawn.written += 1
        write(config, range(drawn.written, drawn.written + 1))
        await until(lambda: drawn.written in entries)
    judge(entries, drawn.written, drawn.may_repeat)
    assert drawn.is_touched or GAP not in entries


@pytest.mark.parametrize("seed", range(4))
async def test_rows_come_or_are_announced_whatever_is_done_to_the_slot(
    config: FeedConfig, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_drawn(config, seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
async def test_rows_come_or_are_announced_in_many_draws(
    config: FeedConfig, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run_drawn(config, seed, monkeypatch)


@pytest.mark.parametrize("name", TAKES)
async def test_slot_that_is_touched_after_a_kill_is_a_gap(
    config: FeedConfig, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[int] = []
    with monkeypatch.context() as patch:
        dies(patch)
        async with life(config, entries):
            write(config, range(1, 3))
            await until(lambda: 2 in entries)
    write(config, range(3, 5))
    await act(config, name)
    async with life(config, entries) as feed:
        write(config, range(5, 6))
        await until(lambda: 5 in entries)
        assert slots.slot_name(config) in await feed.outlet.gap()
    judge(entries, 5, may_repeat=True)
    async with life(config, entries) as feed:
        assert feed.status.gaps == 0


@pytest.mark.parametrize("name", ["moved", "read", "made anew"])
async def test_slot_that_is_touched_before_the_first_start_is_a_gap(config: FeedConfig, name: str) -> None:
    entries: list[int] = []
    write(config, range(1, 2))
    await act(config, name)
    write(config, range(2, 3))
    async with life(config, entries):
        await until(lambda: 2 in entries)
    assert entries == [GAP, 2]


async def test_the_doctor_sees_it_first(config: FeedConfig) -> None:
    async with running(config):
        write(config, range(1, 2))
    await act(config, "nothing")
    with connect(config.dsn) as connection:
        assert not [f for f in examine(connection, config).findings if "somebody" in f.text]
        write(config, range(2, 3))
        await act(config, "moved")
        (found,) = [f for f in examine(connection, config).findings if "somebody" in f.text]
    assert (found.level, slots.slot_name(config) in found.text) == ("wrong", True)


def confirmed(connection: psycopg.Connection[tuple[int, int]]) -> tuple[int, int]:
    """Up to where the server may forget, and up to where that was kept."""
    query = (
        "SELECT (SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = %s)::bigint, stopped_at"
        " FROM rowcast.feed"
    )
    row = connection.execute(query, [slots.slot_name(feed_config(connection.info.dsn))]).fetchone()
    assert row is not None
    return row


async def test_nothing_is_confirmed_that_is_not_kept_and_an_idle_feed_writes_nothing(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "KEEP_INTERVAL_S", 0.01)
    async with running(config) as feed:
        with connect(config.dsn) as connection:
            for number in range(1, 11):
                write(config, range(number, number + 1))
                at_slot, kept = confirmed(connection)
                assert at_slot <= kept
            await feed.outlet.until(10)
            kept_before = confirmed(connection)[1]
            for _ in range(20):
                connection.execute("SELECT pg_logical_emit_message(false, 'another', 'x')")
                await trio.sleep(0.02)
            assert confirmed(connection)[1] - kept_before < kept_place.STEP_BYTES
            connection.execute("SELECT pg_logical_emit_message(false, 'another', repeat('x', 100000))")
            await until(lambda: confirmed(connection)[0] - kept_before > kept_place.STEP_BYTES)
            await until(lambda: feed.status.lag_s == 0.0)
            await until(lambda: feed.status.acknowledged == feed.status.position)


async def test_place_that_can_not_be_written_is_a_trouble_and_nothing_is_confirmed(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "KEEP_INTERVAL_S", 0.05)
    async with running(config) as feed:
        write(config, range(1, 2))
        await feed.outlet.until(1)
        with connect(config.dsn) as holder, connect(config.dsn) as connection:
            await until(lambda: confirmed(connection)[0] == confirmed(connection)[1])
            holder.execute("BEGIN; LOCK TABLE rowcast.feed")
            before = connection.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots").fetchall()
            write(config, range(2, 3))
            await feed.outlet.until(2)
            await until(lambda: kept_place.TROUBLE in feed.status.troubles)
            assert "nothing is confirmed" in feed.status.troubles[kept_place.TROUBLE]
            assert (
                before
                == connection.execute("SELECT confirmed_flush_lsn FROM pg_replication_slots").fetchall()
            )
            write(config, range(3, 4))
            await feed.outlet.until(3)
            holder.execute("ROLLBACK")
            await until(lambda: not feed.status.troubles)
            await until(lambda: confirmed(connection)[0] == confirmed(connection)[1])
    assert feed.status.gaps == 0


@pytest.mark.parametrize(
    "before",
    [
        "UPDATE rowcast.feed SET stopped_at = NULL",
        "ALTER TABLE rowcast.feed DROP COLUMN sealed",
        "ALTER TABLE rowcast.feed DROP COLUMN stopped_at",
        "ALTER TABLE rowcast.feed DROP COLUMN stopped_at, DROP COLUMN owed",
    ],
)
async def test_feed_of_an_earlier_version_goes_on_without_a_gap(
    config: FeedConfig, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[int] = []
    with monkeypatch.context() as patch:
        dies(patch)
        async with life(config, entries):
            write(config, range(1, 3))
            await until(lambda: 2 in entries)
    with connect(config.dsn) as connection:
        connection.execute(before)
    write(config, range(3, 5))
    for _ in range(2):
        async with life(config, entries) as feed:
            await until(lambda: 4 in entries)
            assert feed.status.gaps == 0
    judge(entries, 4, may_repeat=True)


async def test_place_of_another_servers_life_skips_nothing(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions that are ahead of this server's would be taken for delivered until it gets there."""
    entries: list[int] = []
    async with life(config, entries):
        write(config, range(1, 2))
        await until(lambda: 1 in entries)
    with connect(config.dsn) as connection:
        connection.execute("UPDATE rowcast.feed SET read_seq = read_seq + (1::bigint << 40)")
    dies(monkeypatch)
    async with life(config, entries):
        pass
    async with life(config, entries):
        write(config, range(2, 3))
        await until(lambda: 2 in entries)
    assert entries[:2] == [1, GAP]
    judge(entries, 2, may_repeat=True)


async def test_second_process_that_waits_sees_no_gap_in_what_the_first_keeps(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "KEEP_INTERVAL_S", 0.001)
    monkeypatch.setattr(confirming, "CONFIRM_INTERVAL_S", 0.001)
    second = Running(config)
    async with trio.open_nursery() as nursery:
        async with running(config) as first:
            nursery.start_soon(supervise.supervise, config, second.outlet, second.status)
            for number in range(1, 40):
                write(config, range(number, number + 1))
                await trio.lowlevel.checkpoint()
            await first.outlet.until(39)
            await until(lambda: "active" in second.status.problem)
        await second.until_live()
        write(config, range(40, 41))
        await second.outlet.until(1)
        nursery.cancel_scope.cancel()
    assert (second.outlet.topics(), second.status.gaps) == ([b"event/40"], 0)


async def test_two_routes_of_one_table_and_a_long_transaction_keep_their_place(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a transaction the place moves, and what is confirmed does not."""
    monkeypatch.setattr(confirming, "PLACE_INTERVAL_S", 0.01)
    monkeypatch.setattr(confirming, "KEEP_INTERVAL_S", 0.01)
    config = evolve(config, routes=(*config.routes, Route("tables", ("again/{id}",))))
    with monkeypatch.context() as patch:
        dies(patch)
        async with running(config) as feed:
            with connect(config.dsn) as connection:
                connection.execute(
                    "INSERT INTO event SELECT i, repeat('x', 4000) FROM generate_series(1, 3000) i"
                )
            await feed.outlet.until(200)
    async with running(config) as again:
        await until(lambda: again.outlet.topics()[-1:] == [b"again/3000"])
    assert again.status.gaps == 0
    rows = [topic for topic in [*feed.outlet.topics(), *again.outlet.topics()] if topic.startswith(b"event/")]
    assert list(dict.fromkeys(rows)) == [b"event/%d" % number for number in range(1, 3001)]
