"""What a reader missed, against a model that keeps everything: all of it in order, or nothing with a reason."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.positions import Positions
from broker.core.publication import Publication
from protocol.mqtt.topics import covers, matches

FILTERS = (b"#", b"a/#", b"a/+", b"a/b", b"+/b", b"+/+/c", b"a/b/c", b"b/#", b"a")
TOPICS = (b"a", b"b", b"a/b", b"a/c", b"b/b", b"a/b/c", b"b/b/c", b"c")


class Played:
    """An engine with rings, and beside it every publication that there ever was."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.engine = Engine()
        self.positions = Positions("e1")
        self.rings = [
            Ring(
                self.positions,
                one,
                chance.choice((900, 5_000, 10**9)),
                chance.choice((3, 40, 10**6)),
                chance.choice((5, 1e9)),
            )
            for one in chance.sample(FILTERS, chance.randint(1, 3))
        ]
        for ring in self.rings:
            self.engine.subscribe(ring, ring.topic_filter, 0)
        self.history = History(self.positions, self.rings)
        self.all: list[tuple[int, bytes, bytes]] = []
        self.given: list[str] = ["e1/0"]
        self.now = 0.0

    def publish(self) -> None:
        topic = self.chance.choice(TOPICS)
        payload = str(len(self.all)).encode() * self.chance.choice((1, 1, 1, 30))
        publication = Publication(topic, payload)
        self.engine.publish(publication)
        self.positions.stamp(publication)  # a live reader of everything
        self.all.append((publication.sequence, topic, payload))
        self.given.append(self.positions.here())

    def restart(self) -> None:
        """As an orderly stop and a start from what was saved."""
        old = self.positions
        older = {**old.older, old.epoch: old.number}
        self.positions = Positions(f"e{len(older) + 1}", old.number, older)
        engine = Engine()
        rings = []
        for ring in self.rings:
            fresh = Ring(self.positions, ring.topic_filter, ring.bytes_max, ring.count_max, ring.age_max_s)
            fresh.now = self.now
            kept = [(copied(one), at, place) for one, at, place in ring.kept()]
            fresh.restore(kept, ring.lost_through, ring.lost_why)
            engine.subscribe(fresh, fresh.topic_filter, 0)
            rings.append(fresh)
        self.engine, self.rings = engine, rings
        self.history = History(self.positions, rings)

    def check(self) -> bool:
        wanted = self.chance.choice(FILTERS)
        since = self.chance.choice(self.given[-60:])
        found = self.history.missed(wanted, since)
        assert self.history.positions.number_of(found.at) == self.positions.number
        if not found.recovered:
            assert not found.pieces
            assert found.reason
            return False
        got = [
            (one.sequence, one.topic, one.payload)
            for piece in found.pieces
            for one in piece.publications(wanted, found.narrower)
        ]
        number = int(since.partition("/")[2])
        assert got == [one for one in self.all if one[0] > number and matches(wanted, one[1])]
        return True


def copied(publication: Publication) -> Publication:
    made = Publication(publication.topic, publication.payload)
    made.sequence = publication.sequence
    return made


def steps(chance: random.Random, played: Played) -> Iterator[bool]:
    for _ in range(chance.randint(10, 700)):
        played.publish()
        if chance.random() < 0.1:
            played.now += chance.random() * 2
            played.history.tick(played.now)
        if chance.random() < 0.01:
            played.restart()
        if chance.random() < 0.005:
            played.history.interrupt("rows may be missing")
            lost = played.positions.number
            assert all(ring.lost_through == lost for ring in played.rings)
        if chance.random() < 0.3:
            yield played.check()


def test_all_that_was_missed_in_order_or_nothing_with_a_reason() -> None:
    recovered = refused = 0
    for seed in range(150):
        chance = random.Random(seed)
        for whole in steps(chance, Played(chance)):
            recovered += whole
            refused += not whole
    assert recovered > 500
    assert refused > 500


def test_what_a_slow_reader_holds_stays_whole_when_it_is_evicted() -> None:
    positions = Positions("e")
    ring = Ring(positions, b"#", 10**9, 10, 1e9)
    for number in range(10):
        ring.deliver(Publication(b"a", str(number).encode()), 0, False)
    found = History(positions, [ring]).missed(b"#", "start")
    for _ in range(1000):
        ring.deliver(Publication(b"a", b"later"), 0, False)
    payloads = [one.payload for piece in found.pieces for one in piece.publications(b"#", found.narrower)]
    assert payloads == [str(number).encode() for number in range(10)]


@pytest.mark.parametrize(
    "position", ["", "e", "e/", "e/-1", "e/x", "e/٣", "f/1", "e/99", "e/1/2", "e/" + "9" * 5000, "\ud800/1"]
)
def test_a_position_that_was_never_given_recovers_nothing(position: str) -> None:
    positions = Positions("e")
    ring = Ring(positions, b"#", 10**9, 10, 1e9)
    ring.deliver(Publication(b"a", b"1"), 0, False)
    found = History(positions, [ring]).missed(b"#", position)
    assert not found.recovered
    assert found.pieces == []


def test_covers_agrees_with_matching_names() -> None:
    """Every pair of small filters, against all names of up to three levels."""
    levels = (b"a", b"b", b"$x", b"")
    names = [*levels] + [b"/".join((x, y)) for x in levels for y in levels]
    names += [b"/".join((x, y, z)) for x in levels for y in levels for z in levels]
    names = [name for name in names if name]
    ends = (b"a", b"+", b"#", b"b", b"$x")
    filters = [*ends] + [
        x + b"/" + y for x in (b"a", b"+", b"$x") for y in (*ends, b"+/#", b"+/+", b"a/b", b"+/b")
    ]
    for wider in filters:
        for narrower in filters:
            wanted = all(matches(wider, name) for name in names if matches(narrower, name))
            if covers(wider, narrower):
                assert wanted, (wider, narrower)
            elif wanted:
                # Only where the names of the test are too few: `+/#` and the like.
                assert b"#" in wider + narrower, (wider, narrower)
