"""The subscription trie against the obvious reference, and its cache while subscriptions change."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.budgets import cases

from broker.core.limits import MATCH_CACHE_BYTES_MAX
from broker.core.matches import CHANGES_MAX, _size
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.targets import Targets
from broker.core.trie import SubscriptionTrie
from protocol.mqtt.topics import matches


class Named(Receiver):
    def __init__(self, name: str, plain: bool = True, forbidden: frozenset[bytes] = frozenset()) -> None:
        super().__init__(plain)
        self.name = name
        self.forbidden = forbidden

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise AssertionError("the trie delivers nothing")

    def may_read(self, topic: bytes) -> bool:
        return topic not in self.forbidden


def names(targets: Targets) -> dict[str, int]:
    assert targets.parts is None
    return {receiver.name: granted for receiver, granted in targets.pairs() if isinstance(receiver, Named)}


LEVELS = st.sampled_from([b"a", b"b", b"", b"$x"])
NAMES = st.lists(LEVELS, min_size=1, max_size=4).map(b"/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, tail: b"/".join([*levels, *tail]),
    st.lists(st.one_of(LEVELS, st.just(b"+")), min_size=1, max_size=4),
    st.sampled_from([[], [b"#"]]),
).filter(bool) | st.just(b"#")


class TrieMachine(RuleBasedStateMachine):
    """Subscribe, unsubscribe and match in any order; the cache must never be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.trie = SubscriptionTrie()
        self.model: dict[tuple[bytes, int], int] = {}
        self.receivers = [Named(str(index), plain=index != 2) for index in range(4)]

    @rule(topic_filter=FILTERS, index=st.integers(0, 3), granted=st.integers(0, 2))
    def subscribe(self, topic_filter: bytes, index: int, granted: int) -> None:
        is_new = self.trie.subscribe(topic_filter, self.receivers[index], granted)
        assert is_new == ((topic_filter, index) not in self.model)
        self.model[topic_filter, index] = granted

    @rule(topic_filter=FILTERS, index=st.integers(0, 3))
    def unsubscribe(self, topic_filter: bytes, index: int) -> None:
        was_there = self.trie.unsubscribe(topic_filter, self.receivers[index])
        assert was_there == (self.model.pop((topic_filter, index), None) is not None)

    @rule(data=st.data())
    def unsubscribe_one(self, data: st.DataObject) -> None:
        if self.model:
            topic_filter, index = data.draw(st.sampled_from(sorted(self.model)))
            assert self.trie.unsubscribe(topic_filter, self.receivers[index])
            del self.model[topic_filter, index]

    @rule(index=st.integers(0, 3))
    def settle_plain(self, index: int) -> None:
        receiver = self.receivers[index]
        receiver.plain = not receiver.plain
        for topic_filter, other in self.model:
            if other == index:
                self.trie.settle_plain(topic_filter, receiver)

    @rule(topic=NAMES)
    def match(self, topic: bytes) -> None:
        expected: dict[str, int] = {}
        for (topic_filter, index), granted in self.model.items():
            if matches(topic_filter, topic):
                expected[str(index)] = max(granted, expected.get(str(index), -1))
        targets = self.trie.match(topic)
        assert names(targets) == expected
        assert targets.not_plain == sum(not self.receivers[int(name)].plain for name in expected)

    @invariant()
    def counts(self) -> None:
        assert self.trie.count == len(self.model)


TestTrie = TrieMachine.TestCase
TestTrie.settings = settings(max_examples=cases(60), stateful_step_count=40)


def test_same_answer_when_nothing_is_cached() -> None:
    trie = SubscriptionTrie()
    one = Named("one")
    trie.subscribe(b"a/+", one, 1)
    first = trie.match(b"a/b")
    trie.forget()
    assert names(trie.match(b"a/b")) == names(first) == {"one": 1}


def test_an_emptied_trie_keeps_no_nodes() -> None:
    trie = SubscriptionTrie()
    receiver = Named("one")
    filters = [b"a/+/c", b"a/#", b"+/+", b"#", b"a/b/c", b"a"]
    for topic_filter in filters:
        trie.subscribe(topic_filter, receiver, 0)
    for topic_filter in filters:
        assert trie.unsubscribe(topic_filter, receiver)
    assert trie._root.is_empty()
    assert not trie._exact


def test_a_second_subscriber_of_one_filter_costs_no_lookup() -> None:
    """A topic that one filter matches shares that filter's receivers, so nothing is resolved again."""
    trie = SubscriptionTrie()
    trie.subscribe(b"fill/+", Named("one"), 0)
    targets = trie.match(b"fill/3")
    misses = trie.misses
    trie.subscribe(b"fill/+", Named("two"), 1)
    assert trie.match(b"fill/3") is targets
    assert names(targets) == {"one": 0, "two": 1}
    assert trie.misses == misses


def test_unrelated_subscriptions_leave_the_cache_alone() -> None:
    trie = SubscriptionTrie()
    trie.subscribe(b"fill/+", Named("one"), 0)
    trie.match(b"fill/3")
    misses = trie.misses
    for number in range(100):
        trie.subscribe(b"order/%d/+" % number, Named("other"), 0)
        if number % CHANGES_MAX == 0:
            trie.match(b"fill/3")
    assert trie.misses == misses


@pytest.mark.parametrize(
    "topic", [b"topic/" + b"x" * 1000 + b"%06d", b"t" * 65_000 + b"%d", b"a/" * 199 + b"%d"]
)
def test_the_cache_is_bounded_in_bytes(topic: bytes) -> None:
    trie = SubscriptionTrie()
    trie.subscribe(b"other/+", Named("one"), 0)
    for number in range(2 * MATCH_CACHE_BYTES_MAX // (112 + len(topic))):
        trie.match(topic % number)
        if number % 10_000 == 0:
            trie.subscribe(b"more/%d/#" % number, Named("one"), 0)
    cache = trie._cache
    assert cache.size() <= MATCH_CACHE_BYTES_MAX
    kept = len(cache.newest) + sum(len(older.topics) for older in cache._older)
    assert kept * (112 + len(topic)) <= MATCH_CACHE_BYTES_MAX + 20 * kept


def test_a_merged_copy_of_many_receivers_counts() -> None:
    trie = SubscriptionTrie()
    for number in range(2000):
        receiver = Named(str(number))
        trie.subscribe(b"a/+", receiver, 0)
        trie.subscribe(b"a/#", receiver, 0)
    for number in range(500):
        trie.match(b"a/%d" % number)
    assert MATCH_CACHE_BYTES_MAX // 3 < trie._cache.size() <= MATCH_CACHE_BYTES_MAX


def test_what_is_remembered_is_counted_exactly_and_stays_true() -> None:
    """Random filters come and go between random topics; seeded."""
    chance = random.Random(11)
    trie = SubscriptionTrie()
    receivers = [Named(str(number)) for number in range(4)]
    words = [b"a", b"b", b"", b"$x", b"c"]
    there: set[tuple[bytes, Named]] = set()

    def a_name(wild: bool) -> bytes:
        levels = [
            chance.choice([b"+", chance.choice(words)] if wild else words)
            for _ in range(chance.randint(1, 4))
        ]
        if wild and chance.random() < 0.3:
            levels.append(b"#")
        return b"/".join(levels) or b"a"

    for _ in range(2_000):
        if chance.random() < 0.2:
            topic_filter, receiver = a_name(True), chance.choice(receivers)
            if (topic_filter, receiver) in there and chance.random() < 0.7:
                there.remove((topic_filter, receiver))
                trie.unsubscribe(topic_filter, receiver)
            else:
                there.add((topic_filter, receiver))
                trie.subscribe(topic_filter, receiver, 0)
        topic = a_name(False)
        wanted = {receiver for topic_filter, receiver in there if matches(topic_filter, topic)}
        assert {receiver for receiver, _ in trie.match(topic).pairs()} == wanted, (topic, there)
        if chance.random() < 0.01:
            cache = trie._cache
            for topics, size in [
                (cache.newest, cache._newest_bytes),
                *((o.topics, o.topics_bytes) for o in cache._older),
            ]:
                assert sum(_size(name, targets) for name, targets in topics.items()) == size


def test_duplicates_deliver_one_copy_per_filter() -> None:
    trie = SubscriptionTrie(duplicates=True)
    one = Named("one")
    trie.subscribe(b"a/#", one, 2)
    trie.subscribe(b"a/+", one, 0)
    targets = trie.match(b"a/b")
    assert targets.parts is not None
    assert sorted(granted for part in targets.parts for _, granted in part.pairs()) == [0, 2]


def test_rights_are_asked_once_per_topic() -> None:
    trie = SubscriptionTrie()
    trie.restrict(True)
    trie.subscribe(b"a/+", Named("one", forbidden=frozenset([b"a/secret"])), 0)
    trie.subscribe(b"a/+", Named("two"), 0)
    assert names(trie.match(b"a/secret")) == {"two": 0}
    assert names(trie.match(b"a/open")) == {"one": 0, "two": 0}
    trie.subscribe(b"a/+", Named("three"), 0)
    assert names(trie.match(b"a/secret")) == {"two": 0, "three": 0}


def test_rules_that_come_or_go_count_for_topics_that_were_resolved_before() -> None:
    trie = SubscriptionTrie()
    trie.subscribe(b"a", Named("one", forbidden=frozenset([b"a"])), 0)
    assert names(trie.match(b"a")) == {"one": 0}
    trie.restrict(True)
    assert names(trie.match(b"a")) == {}
    trie.restrict(False)
    assert names(trie.match(b"a")) == {"one": 0}
    trie.restrict_always()
    trie.restrict(False)
    assert names(trie.match(b"a")) == {}


@given(st.lists(st.tuples(FILTERS, st.integers(0, 2)), max_size=12), NAMES)
@settings(max_examples=cases(100))
def test_subscriptions_lists_every_pair(pairs: list[tuple[bytes, int]], topic: bytes) -> None:
    trie = SubscriptionTrie()
    receiver = Named("one")
    for topic_filter, granted in pairs:
        trie.subscribe(topic_filter, receiver, granted)
        trie.match(topic)
    assert {(f, granted) for f, _, granted in trie.subscriptions()} == set(dict(pairs).items())


def test_subscriptions_are_listed_while_they_change() -> None:
    trie = SubscriptionTrie()
    filters = [b"a/%d" % number for number in range(100)] + [b"a/%d/#" % number for number in range(100)]
    receivers = {topic_filter: Named("one") for topic_filter in filters}
    for topic_filter, receiver in receivers.items():
        trie.subscribe(topic_filter, receiver, 0)
    listing = trie.subscriptions()
    listed = [next(listing)[0]]
    gone = filters[50:150]
    for topic_filter in gone:
        trie.unsubscribe(topic_filter, receivers[topic_filter])
    trie.subscribe(b"b/#", Named("one"), 0)
    listed += [topic_filter for topic_filter, _, _ in listing]
    assert len(listed) == len(set(listed))
    assert set(filters) - set(gone) <= set(listed) <= {*filters, b"b/#"}
