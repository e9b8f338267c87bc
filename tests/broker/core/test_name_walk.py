"""A walk over names while they come and go: against the whole search, and what it holds."""

from __future__ import annotations

import random

import pytest

from broker.core.counters import Counters
from broker.core.name_tree import LISTED_MIN, NameTree
from broker.core.name_walk import NameWalk
from broker.core.publication import Publication
from broker.core.retained import RetainedStore
from protocol.mqtt.message import MessageStore

WORDS = [b"a", b"b", b"", b"$x", b"c"]
FILTERS = [b"#", b"+", b"+/#", b"a/#", b"a/+/b", b"$x/#", b"+/+", b"a", b"/+", b"+/b/#", b"a/b/c", b"$x/+"]


def a_name(chance: random.Random) -> bytes:
    return b"/".join(chance.choice(WORDS) for _ in range(chance.randint(1, 4))) or b"a"


def walked(tree: NameTree, topic_filter: bytes) -> list[bytes]:
    walk = NameWalk(tree, topic_filter)
    found = []
    while not walk.is_over():
        name = walk.next_name(walk.steps + 3)
        if name is not None:
            found.append(name)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_gives_what_a_search_gives_in_the_same_order(seed: int) -> None:
    chance = random.Random(seed)
    tree = NameTree()
    for _ in range(300):
        (tree.discard if chance.random() < 0.3 else tree.add)(a_name(chance))
        topic_filter = chance.choice(FILTERS)
        assert walked(tree, topic_filter) == tree.matching(topic_filter), topic_filter


def test_many_names_in_one_level_are_walked_in_order_and_hold_little() -> None:
    tree = NameTree()
    names = [b"%d" % number for number in range(5 * LISTED_MIN)]
    for name in names:
        tree.add(name)
    for name in names[: LISTED_MIN // 2]:
        tree.discard(name)
    assert walked(tree, b"#") == walked(tree, b"+") == names[LISTED_MIN // 2 :]
    walk = NameWalk(tree, b"+")
    walk.next_name(10)
    assert sum(len(place.batch) for place in walk._path) <= LISTED_MIN


@pytest.mark.parametrize("seed", range(5))
def test_what_stays_is_given_exactly_once_whatever_comes_and_goes(seed: int) -> None:
    chance = random.Random(seed)
    tree = NameTree()
    stay = {b"s/%d/%d" % (number % 3, number) for number in range(3 * LISTED_MIN)}
    for name in sorted(stay):
        tree.add(name)
    walk = NameWalk(tree, b"#")
    found = []
    while not walk.is_over():
        met = walk.next_name(walk.steps + chance.randint(1, 40))
        if met in stay:
            found.append(met)
        for _ in range(20):
            other = b"s/%d/x%d" % (chance.randrange(4), chance.randrange(500))
            (tree.discard if chance.random() < 0.5 else tree.add)(other)
    assert sorted(found) == sorted(stay)


def kept(topic: bytes, payload: bytes) -> Publication:
    return Publication(topic, payload, retain=True)


def test_retained_messages_have_a_cap_and_what_is_outdated_goes() -> None:
    counters = Counters()
    store = RetainedStore(MessageStore(), counters)
    store.messages_max, store.bytes_max = 2, 100
    store.put(kept(b"$SYS/broker/version", b"x" * 200))
    store.put(kept(b"a", b"1"))
    store.put(kept(b"b", b"2"))
    store.put(kept(b"c", b"3"))
    assert (store.get(b"c"), counters.dropped_retained_full) == (None, 1)
    store.put(kept(b"a", b"another"))
    assert counters.dropped_retained_full == 1
    store.put(kept(b"a", b"x" * 100))
    assert store.get(b"a") is None, "what was there is not true any more"
    assert (counters.dropped_retained_full, store.size) == (2, 2)
    store.put(kept(b"c", b"x" * 97))
    assert (store.size, len(store)) == (100, 3)
    store.put(kept(b"b", b""))
    assert store.size == 98
