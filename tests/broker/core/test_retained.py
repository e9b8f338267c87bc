"""Retained messages against a dict: what is kept, refused, expired, and told to a saver."""

from __future__ import annotations

import random

import pytest

from broker.core.counters import Counters
from broker.core.limits import RETAINED_LEVEL_BYTES, RETAINED_LEVELS_FREE
from broker.core.publication import Publication
from broker.core.retained import RetainedStore
from broker.core.wheel import TICKS_PER_S
from protocol.mqtt.message import MessageStore
from protocol.mqtt.topics import matches

DEEP = [b"d/" * 20 + b"1", b"d/" * 20 + b"2", b"d/" * 10 + b"3"]
TOPICS = [b"a", b"a/b", b"a/b/c", b"b", b"b//c", b"$SYS/x", *DEEP]
FILTERS = [b"#", b"+", b"a/#", b"+/b", b"a/b/c", b"b/+/c", b"$SYS/#"]


def kept(topic: bytes, payload: bytes, expires_at: float = 0.0) -> Publication:
    one = Publication(topic, payload, 1, True)
    one.expires_at = expires_at
    return one


def tree_bytes(topics: set[bytes]) -> int:
    """What their levels count for beyond what is usual."""
    levels = {
        tuple(topic.split(b"/")[: depth + 1]) for topic in topics for depth in range(topic.count(b"/") + 1)
    }
    return max(0, len(levels) - RETAINED_LEVELS_FREE * len(topics)) * RETAINED_LEVEL_BYTES


def expire(store: RetainedStore, now: float) -> None:
    store.turn(now)
    while store.expire_one():
        pass


@pytest.mark.parametrize("seed", range(20))
def test_it_keeps_the_last_of_each_topic_that_fits_until_it_expires(seed: int) -> None:
    chance = random.Random(seed)
    messages, counters = MessageStore(), Counters()
    store = RetainedStore(messages, counters)
    store.messages_max = chance.choice((0, 2, 4))
    store.bytes_max = chance.choice((0, 30, 60, 3_000, 6_000))
    store.note_changed()
    model: dict[bytes, Publication] = {}
    changed: set[bytes] = set()
    refused = 0
    now = 1.0
    for _ in range(200):
        topic = chance.choice(TOPICS)
        is_system = topic.startswith(b"$SYS")
        if chance.random() < 0.15:
            now += chance.randrange(20) / TICKS_PER_S
            expire(store, now)
            gone = {name for name, one in model.items() if one.expires_at and one.expires_at <= now}
            changed |= gone
            model = {name: one for name, one in model.items() if name not in gone}
            continue
        one = kept(
            topic,
            chance.randbytes(chance.choice((0, 1, 9, 20))),
            chance.choice((0.0, now + (chance.randrange(20) + 0.5) / TICKS_PER_S)),
        )
        store.put(one)
        if not is_system:
            changed.add(topic)
        model.pop(topic, None)
        others = {name: other for name, other in model.items() if not name.startswith(b"$SYS")}
        size = sum(len(name) + len(other.payload) for name, other in others.items())
        fits = is_system or (
            (not store.messages_max or len(others) < store.messages_max)
            and (
                not store.bytes_max
                or size + len(topic) + len(one.payload) + tree_bytes({*model, topic}) <= store.bytes_max
            )
        )
        if one.payload and fits:
            model[topic] = one
        elif one.payload:
            refused += 1
        for topic_filter in FILTERS:
            found = {one.topic for one in store.matching(topic_filter)}
            assert store.may_have(topic_filter) or not found
            assert found == {name for name in model if matches(topic_filter, name)}
        if chance.random() < 0.2:
            taken = store.take_changed()
            assert taken is not None
            assert {name: one for name, one in taken.items() if not name.startswith(b"$SYS")} == {
                name: model.get(name) for name in changed if not name.startswith(b"$SYS")
            }
            changed.clear()
    assert {one.topic: one for one in store.all()} == model
    assert (len(store), counters.dropped_retained_full, messages.count) == (len(model), refused, len(model))
    assert store.size == sum(
        len(name) + len(one.payload) for name, one in model.items() if not name.startswith(b"$SYS")
    )


def test_what_a_filter_without_wildcards_cannot_have_is_known() -> None:
    store = RetainedStore(MessageStore(), Counters())
    assert not store.may_have(b"#")
    store.put(kept(b"a", b"x"))
    assert store.may_have(b"#")
    assert store.may_have(b"a")
    assert not store.may_have(b"b")


def test_an_empty_payload_clears() -> None:  # [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    store = RetainedStore(MessageStore(), Counters())
    store.put(kept(b"t", b"value"))
    store.put(kept(b"t", b""))
    assert store.get(b"t") is None
    assert store.matching(b"#") == []


def test_a_message_that_is_replaced_does_not_wait_for_its_time() -> None:
    store = RetainedStore(MessageStore(), Counters())
    for number in range(1000):
        store.put(kept(b"t", b"x", 1e9 + number))
    store.put(kept(b"t", b"last"))
    assert not store.turn(2e9)
    store.put(kept(b"t", b"x", 3e9))
    store.put(kept(b"t", b""))
    assert not store.turn(4e9)


def test_levels_that_topics_do_not_share_count_and_those_of_usual_topics_do_not() -> None:
    store = RetainedStore(MessageStore(), Counters())
    store.bytes_max = 200_000
    deep = [b"%d" % number + b"/x" * 190 for number in range(100)]
    for topic in deep:
        store.put(kept(topic, b"1"))
    assert 1 <= len(store) <= 200_000 // (180 * RETAINED_LEVEL_BYTES)
    for topic in deep:
        store.put(kept(topic, b""))
    for number in range(1_000):
        store.put(kept(b"site/7/line/%d/machine/%d/state" % (number // 10, number), b"1"))
    assert len(store) == 1_000
    for number in range(1_000, 2_000):
        store.put(kept(b"site/7" + b"/shared" * 180 + b"/%d" % number, b"1"))
    assert len(store) > 1_000 + 80, "levels that many share count once"
