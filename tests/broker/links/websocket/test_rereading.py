"""Recovery behind the ring against a model that keeps everything: all that was missed, in order and once, or nothing.

Each run: rings of any size with traces of any number, rows of two databases that prune and change them, messages that
are no rows, gaps, restarts with and without what was saved, and positions of earlier processes, of the future, and of
nobody.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from support.polling import until

from broker.config.history import HistoryRule
from broker.core import barrier as barriers
from broker.core.counters import Counters
from broker.core.engine import Engine
from broker.core.history import History, Missed
from broker.core.publication import Publication
from broker.core.row_source import PLACES_PER_READ, RowReader, RowSource, SourceError
from broker.links.websocket import rereading
from broker.links.websocket.catching_up import Lost, Subscription
from broker.links.websocket.rereading import Rereading
from broker.links.websocket.words import RowcastWords, text_in
from broker.storage.history_file import history_for, save_history
from protocol.dialects.rowcast import Read
from protocol.mqtt.topics import covers, matches

FILTERS = (b"#", b"a/#", b"a/+", b"a/b", b"+/b", b"c")
TOPICS = (b"a/b", b"a/c", b"b/b", b"c")


class Database(RowSource):
    """What a row becomes, by place."""

    def __init__(self, chance: random.Random, name: str) -> None:
        self.chance = chance
        self.prefix = name.encode() + b"\0"
        self.rows: dict[bytes, list[tuple[bytes, bytes]]] = {}
        self.is_down = False
        self.asked = 0

    def complete(self, place: bytes, payload: bytes) -> bytes:
        return b"" if payload.startswith(b"no key") else place

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[RowReader]:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise SourceError("the database is down")
        yield self

    async def candidates(self, places: list[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
        assert 0 < len(places) <= PLACES_PER_READ
        assert all(place.startswith(self.prefix) for place in places)
        self.asked += len(places)
        for _ in range(self.chance.choice((0, 1, 3))):
            await trio.lowlevel.checkpoint()
        if self.is_down:
            raise SourceError("the database is down")
        return {place: self.rows[place] for place in places if place in self.rows}


class Link:
    """Somebody who waits for `settle`."""

    peer = "somebody"

    def __init__(self) -> None:
        self.settled: Missed | None = None
        self.number = 0
        self.is_closed = False

    def close_for_a_bug(self) -> None:
        self.is_closed = True

    def settle(self, one: Subscription, missed: Missed) -> None:
        assert self.settled is None
        self.settled = missed
        one.settle(missed, None)
        one.is_over = True


def number_of(position: str) -> int:
    return int(position.partition("/")[2])


def fresh_or_not(one: Subscription) -> list[tuple[int, bool]] | None:
    """The numbers of all that a subscription is sent, and whether each was said to be fresh; None if it is closed.

    Other tabs that have the same subscription are told what is fresh, and nothing else.
    """
    found: list[tuple[int, bool]] = []
    while one.catching_up:
        try:
            said = json.loads(text_in(one.next_frame()))
        except Lost:
            return None
        found += [(number_of(each["at"]), "fresh" in said) for each in said.get("missed", ())]
    return found


class World:
    def __init__(self, chance: random.Random, path: Path, nursery: trio.Nursery) -> None:
        self.chance = chance
        self.path = path
        self.nursery = nursery
        self.rules = [
            HistoryRule(
                (topic.decode(),),
                chance.choice((900, 5_000, 10**9)),
                chance.choice((1, 3, 40)),
                1e9,
                chance.choice((0, 5, 300, 10**6)),
            )
            for topic in chance.sample(FILTERS, chance.randint(1, 3))
        ]
        self.databases = {name: Database(chance, name) for name in ("one", "two")}
        self.all: list[tuple[int, bytes, bytes]] = []
        self.given: list[str] = []
        self.gaps: list[int] = []
        self.start()

    def start(self) -> None:
        self.engine = Engine()
        sources: dict[str, RowSource] = {**self.databases}
        self.history: History = history_for(self.rules, self.path, 0.0, 0.0, sources)
        for ring in self.history.rings:
            self.engine.subscribe(ring, ring.topic_filter, 0)
        self.rereading = Rereading(self.history, self.nursery, Counters())
        self.given.append(self.history.positions.here())

    def restart(self) -> None:
        orderly = self.chance.random() < 0.7
        if orderly:
            save_history(self.history, self.path, 0.0, 0.0)
        else:
            self.gaps.clear()
            self.all.clear()  # numbers begin anew, and nothing from before may be recovered
            self.given = self.given[-5:]
        self.start()

    def publish(self) -> None:
        chance, positions = self.chance, self.history.positions
        topic, dice = chance.choice(TOPICS), chance.random()
        payload = b"%d" % len(self.all) * chance.choice((1, 1, 30))
        if dice < 0.02:
            payload = b"no key" + payload
        if dice < 0.99:
            database = chance.choice(list(self.databases.values()))
            place = database.prefix + b"%d" % len(database.rows)
            database.rows[place] = [(b"a/b", b"else"), (topic, payload), (topic, b"else")]
            positions.place = place
        publication = Publication(topic, payload)
        self.engine.publish(publication)
        positions.place = b""
        positions.stamp(publication)  # a live reader of everything
        self.all.append((publication.sequence, topic, payload))
        self.given.append(positions.here())

    def gap(self) -> None:
        self.history.positions.number += 1
        self.history.interrupt("rows may be missing")
        self.gaps.append(self.history.positions.number)

    def harm(self) -> None:
        """Somebody changes a row, or deletes it."""
        rows = self.chance.choice(list(self.databases.values())).rows
        if rows:
            place = self.chance.choice(list(rows))
            if self.chance.random() < 0.5:
                rows[place] = [(topic, payload + b"!") for topic, payload in rows[place]]
            else:
                rows[place] = []

    def since(self) -> str:
        positions = self.history.positions
        strange = (
            "",
            "e/",
            "x/3",
            f"{positions.epoch}/{positions.number + 9}",
            f"{positions.epoch}/-1",
            "\0/1",
        )
        return (
            self.chance.choice(strange)
            if self.chance.random() < 0.1
            else self.chance.choice(self.given[-120:])
        )

    async def check(self) -> str:
        wanted, since = self.chance.choice(FILTERS), self.since()
        known = self.history.positions.number_of(since)
        missed = self.history.missed(wanted, since)
        way = "ring"
        if missed.beyond is not None:
            way = "source"
            one = Subscription(
                RowcastWords(Read("", wanted, since), self.history), self.history, None, missed, True, 10**6
            )
            link = Link()
            self.rereading.ask(link, one)  # type: ignore[arg-type]
            while link.settled is None:
                if self.chance.random() < 0.3:
                    self.publish()
                if self.chance.random() < 0.002:
                    self.gap()
                await trio.lowlevel.checkpoint()
            missed = link.settled
            assert missed.at == self.history.positions.here()
            told = fresh_or_not(one)
            assert told is None or told == [
                (number, number > one.began)
                for number, topic, _ in self.all
                if number > (number_of(since) if missed.recovered else one.began) and matches(wanted, topic)
            ]
        if not missed.recovered:
            assert missed.reason
            assert not missed.pieces
            return "refused"
        assert known is not None
        got = [
            (one.sequence, one.topic, one.payload)
            for piece in missed.pieces
            for one in piece.publications(wanted, missed.narrower)
        ]
        assert got == [one for one in self.all if one[0] > known and matches(wanted, one[1])]
        assert not any(number > known for number in self.gaps)
        return way


async def play(seed: int, path: Path) -> dict[str, int]:
    chance = random.Random(seed)
    found = {"ring": 0, "source": 0, "refused": 0}
    harmed, gappy = chance.choice((0, 0, 0.01)), chance.choice((0, 0.002))
    async with trio.open_nursery() as nursery:
        world = World(chance, path, nursery)
        for _ in range(chance.randint(10, 500)):
            world.publish()
            if chance.random() < harmed:
                world.harm()
            if chance.random() < gappy:
                world.gap()
            if chance.random() < 0.005:
                world.restart()
            if chance.random() < 0.01:
                database = chance.choice(list(world.databases.values()))
                database.is_down = not database.is_down and chance.random() < 0.3
            if chance.random() < 0.1:
                found[await world.check()] += 1
    return found


async def many(seeds: range, path: Path) -> dict[str, int]:
    totals = {"ring": 0, "source": 0, "refused": 0}
    for seed in seeds:
        for way, count in (await play(seed, path.with_name(str(seed)))).items():
            totals[way] += count
    return totals


async def test_all_that_was_missed_or_nothing(tmp_path: Path) -> None:
    totals = await many(range(60), tmp_path / "history")
    assert all(count > 40 for count in totals.values()), totals


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_the_same_for_two_thousand_seeds(tmp_path: Path) -> None:
    totals = await many(range(1000, 3000), tmp_path / "history")
    assert all(count > 1000 for count in totals.values()), totals


def filled(rows: int, nursery: trio.Nursery, sources: dict[str, RowSource]) -> tuple[History, Rereading]:
    rule = HistoryRule(("#",), count=10, source_count=10**6)
    history = history_for([rule], None, 0.0, 0.0, sources)
    database = sources["one"]
    assert isinstance(database, Database)
    for number in range(rows):
        place = b"one\0%d" % number
        database.rows[place] = [(b"a/%d" % (number % 2), b"%d" % number)]
        history.positions.place = place
        history.rings[0].deliver(Publication(*database.rows[place][0]), 0, False)
    history.positions.place = b""
    return history, Rereading(history, nursery, Counters())


def asked(history: History, reading: Rereading, topic_filter: bytes, since: str) -> tuple[Subscription, Link]:
    missed = history.missed(topic_filter, since)
    words = RowcastWords(Read("", topic_filter, since), history)
    one = Subscription(words, history, None, missed, True, 10**6)
    link = Link()
    reading.ask(link, one)  # type: ignore[arg-type]
    return one, link


async def test_a_narrower_filter_reads_only_its_own_rows(nursery: trio.Nursery) -> None:
    database = Database(random.Random(0), "one")
    history, reading = filled(1_000, nursery, {"one": database})
    _, link = asked(history, reading, b"a/1", f"{history.positions.epoch}/0")
    await until(lambda: link.settled is not None)
    assert link.settled is not None
    got = [one.payload for piece in link.settled.pieces for one in piece.publications(b"a/1", True)]
    assert got == [b"%d" % number for number in range(1, 1_000, 2)]
    assert database.asked <= 500


async def test_those_who_come_back_together_share_what_is_read(nursery: trio.Nursery) -> None:
    database = Database(random.Random(0), "one")
    history, reading = filled(5_000, nursery, {"one": database})
    links = [asked(history, reading, b"#", f"{history.positions.epoch}/{number}")[1] for number in range(50)]
    await until(lambda: all(link.settled is not None for link in links))
    assert all(link.settled is not None and link.settled.recovered for link in links)
    assert database.asked < 2 * 5_000 + 50 * 256


async def test_too_much_is_refused_by_a_reason(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rereading, "ROWS_MAX", 1_000)
    history, reading = filled(3_000, nursery, {"one": Database(random.Random(0), "one")})
    links = [asked(history, reading, b"#", f"{history.positions.epoch}/{since}")[1] for since in (0, 2_500)]
    await until(lambda: all(link.settled is not None for link in links))
    first, second = [link.settled for link in links]
    assert first is not None
    assert second is not None
    assert first.reason == "there were more rows since than are read again for one subscription"
    assert second.recovered


async def test_who_leaves_meanwhile_is_not_waited_for(nursery: trio.Nursery) -> None:
    history, reading = filled(3_000, nursery, {"one": Database(random.Random(0), "one")})
    gone, _ = asked(history, reading, b"#", f"{history.positions.epoch}/0")
    gone.is_over = True
    _, link = asked(history, reading, b"a/1", f"{history.positions.epoch}/0")
    await until(lambda: link.settled is not None)


async def test_our_own_bug_ends_who_asked_and_the_next_one_is_served(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)

    class Broken(Database):
        async def candidates(self, places: list[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
            if b"one\x00501" in places:
                raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "nobody expected this")
            return await super().candidates(places)

    history, reading = filled(1_000, nursery, {"one": Broken(random.Random(0), "one")})
    links = [asked(history, reading, b"a/1", f"{history.positions.epoch}/{since}")[1] for since in (0, 600)]
    await until(lambda: links[1].settled is not None)
    assert links[0].is_closed
    assert links[0].settled is None
    assert links[1].settled is not None
    assert links[1].settled.recovered


def test_the_filters_of_the_runs_overlap() -> None:
    assert any(covers(one, other) and one != other for one in FILTERS for other in FILTERS)
