"""Where a process begins: where the outlet says, unless a gap is owed, and whatever it reads again is said once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from support.feeds import Collector, running
from support.installed import event_installed, sql
from support.postgres import cluster, database

from broker.feed import resuming
from broker.feed.driver.connection import TrioConnection
from broker.feed.feed_row import Known, ServerIdentity
from broker.feed.outlet import Resumption
from broker.feed.resuming import Resuming

__all__ = ["cluster", "database"]

SAVED = (5, 1)


class Keeping(Collector):
    """An outlet that keeps rows up to 3 in a log of this name."""

    keep_s = 60.0
    log = "new"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, tuple[int, int]]] = []
        self.begun_anew = 0

    def reads(self, database: str) -> None:
        self.database = database

    def resume(self, log: str, place: tuple[int, int]) -> Resumption:
        self.asked.append((log, place))
        return Resumption((3, 0), "the log has lost them") if log != self.log else Resumption(place)

    def begin_anew(self) -> None:
        self.begun_anew += 1


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the database is told."""
    found: list[tuple[object, ...]] = []

    async def place(connection: object, feed: str, lsn: int, changes: int) -> None:
        found.append(("place", feed, lsn, changes))

    async def log(connection: object, feed: str, name: str) -> None:
        found.append(("log", feed, name))

    monkeypatch.setattr(resuming, "remember_place", place)
    monkeypatch.setattr(resuming, "remember_log", log)
    return found


async def test_what_the_outlet_has_lost_is_read_again_and_said_once(
    remembered: list[tuple[object, ...]],
) -> None:
    outlet = Keeping()
    found = Resuming(outlet)
    assert found.place(evolve(Known(), log="old"), SAVED) == (3, 0)
    assert found.lost == "the log has lost them"
    connection: Any = None
    await found.begun(connection, "main", (3, 0))
    assert remembered == [("place", "main", 3, 0), ("log", "main", "new")]
    await found.begun(connection, "main", (3, 0))
    assert remembered[2:] == [("log", "main", "new")]


async def test_what_it_has_is_not_read_again(remembered: list[tuple[object, ...]]) -> None:
    outlet = Keeping()
    found = Resuming(outlet)
    assert found.place(evolve(Known(), log="new"), SAVED) == SAVED
    assert (found.lost, outlet.asked) == ("", [("new", SAVED)])


@pytest.mark.parametrize("owed", [{"owed": "why"}, {"moved_from": "wal"}])
def test_after_a_gap_the_database_s_place_counts(owed: dict[str, Any]) -> None:
    outlet = Keeping()
    assert Resuming(outlet).place(evolve(Known(), log="old", **owed), SAVED) == SAVED
    assert outlet.asked == []


async def test_places_that_begin_anew_are_told_to_the_outlet() -> None:
    outlet = Keeping()
    found = Resuming(outlet)
    found.place(evolve(Known(), log="old"), SAVED)
    found.begin_anew()
    assert (found.lost, outlet.begun_anew) == ("", 1)


async def test_another_outlet_keeps_nothing(remembered: list[tuple[object, ...]]) -> None:
    found = Resuming(Collector())
    assert (found.keep_s, found.log) == (0.0, "")
    assert found.place(evolve(Known(), log="old"), SAVED) == SAVED
    found.begin_anew()
    connection: Any = None
    await found.begun(connection, "main", SAVED)
    assert remembered == []


async def test_the_outlet_knows_which_database_it_reads(database: str) -> None:
    """By what no other has, whatever it is called."""
    outlet = Keeping()
    identity = ServerIdentity("7345", 1, 0)
    async with await TrioConnection.connect(database, autocommit=True) as connection:
        await Resuming(outlet).reads(connection, identity)
        await Resuming(Collector()).reads(connection, identity)
        (oid,) = await (await connection.execute("SELECT 'pg_database'::regclass::oid::int")).fetchone() or (
            0,
        )
    system, _, number = outlet.database.partition("/")
    assert system == "7345"
    assert int(number) > oid


async def test_what_is_missing_is_older_than_what_is_read_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't begin behind its end, which is where the database, that was to keep rows for a while, has them from."""
    monkeypatch.setattr("support.feeds.Collector", Keeping)
    monkeypatch.setattr(Keeping, "log", "")
    config = event_installed(database)
    async with running(config) as feed:
        sql(config, "INSERT INTO event VALUES (1)")
        await feed.outlet.until(1)
    monkeypatch.setattr(Keeping, "log", "new")
    async with running(config) as feed:
        assert await feed.outlet.gap() == "the log has lost them"
        assert json.loads(feed.outlet.announced[0][1])["from"] is None
        await feed.outlet.until(1)
        assert feed.outlet.topics() == [b"event/1"]
