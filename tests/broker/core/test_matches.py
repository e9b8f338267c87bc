"""What is remembered of a topic is never older than a change that concerns it, and never more than its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.limits import MATCH_CACHE_BYTES_MAX
from broker.core.matches import CHANGES_MAX, GENERATIONS_MAX, MatchCache
from broker.core.targets import Leaf
from protocol.mqtt.topics import matches

LEVELS = st.sampled_from([b"a", b"b", b""])
TOPICS = st.lists(LEVELS, min_size=1, max_size=3).map(b"/".join).filter(bool)
FILTERS = st.one_of(
    st.lists(st.sampled_from([b"a", b"b", b"", b"+"]), min_size=1, max_size=3).map(b"/".join).filter(bool),
    st.lists(st.sampled_from([b"a", b"+"]), max_size=2).map(lambda levels: b"/".join([*levels, b"#"])),
)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), TOPICS),
        st.tuples(st.just("change"), FILTERS),
        st.tuples(st.just("drop"), TOPICS),
    ),
    max_size=60,
)


@given(ACTS, TOPICS)
def test_nothing_is_remembered_across_a_change_that_concerns_it(
    acts: list[tuple[str, bytes]], asked: bytes
) -> None:
    cache = MatchCache()
    current: dict[bytes, Leaf] = {}
    """What may still be remembered; the cache may know less, never something else."""
    for act, text in acts:
        if act == "keep":
            if text not in cache.newest:
                cache.recall(text)
                current[text] = Leaf(text)
                cache.keep(text, current[text])
        elif act == "change":
            cache.note_change(text)
            current = {topic: leaf for topic, leaf in current.items() if not matches(text, topic)}
        else:
            cache.drop(text)
            current.pop(text, None)
        assert set(cache.newest) <= set(current)
    found = cache.newest.get(asked)
    if found is None:
        found = cache.recall(asked)
    assert found is None or found is current.get(asked)


@given(st.lists(TOPICS, unique=True, min_size=1))
def test_what_is_forgotten_gives_its_bytes_back(topics: list[bytes]) -> None:
    cache = MatchCache()
    for number, topic in enumerate(topics):
        cache.keep(topic, Leaf(topic))
        if number % 3 == 2:
            cache.note_change(b"+/nobody")
    assert cache.count() <= len(topics)
    for topic in topics:
        cache.drop(topic)
    assert (cache.count(), cache.size()) == (0, 0)


def test_topics_that_peers_make_up_are_bounded_by_their_bytes() -> None:
    cache = MatchCache()
    for number in range(3000):
        topic = b"%d" % number + bytes(64_000)
        cache.keep(topic, Leaf(topic))
    assert cache.size() <= MATCH_CACHE_BYTES_MAX
    assert cache.count() > 0


def test_generations_and_changes_are_bounded() -> None:
    cache = MatchCache()
    for number in range(4 * GENERATIONS_MAX):
        cache.keep(b"t/%d" % number, Leaf(b"t"))
        cache.note_change(b"t/%d/nobody/+" % number)
    assert cache.count() <= GENERATIONS_MAX
    for _ in range(CHANGES_MAX + 1):
        cache.note_change(b"t/+/nobody")
    assert cache.count() == 0, "with so many changes it is cheaper to begin anew"


def test_a_filter_for_everything_leaves_nothing() -> None:
    cache = MatchCache()
    cache.keep(b"t", Leaf(b"t"))
    cache.note_change(b"#")
    assert cache.recall(b"t") is None
    assert (cache.count(), cache.size()) == (0, 0)


@pytest.mark.parametrize("changed", [b"other/+", b"t/2/+", b"t/2/#", b"t/2/3/+"])
def test_a_change_for_others_leaves_what_is_remembered_at_hand(changed: bytes) -> None:
    cache = MatchCache()
    cache.keep(b"old", Leaf(b"old"))
    cache.note_change(b"old/+")
    for number in range(3 * CHANGES_MAX):
        cache.keep(b"t/1/%d" % number, Leaf(b"t"))
        cache.note_change(changed)
    assert len(cache.newest) == 3 * CHANGES_MAX
    assert cache.recall(b"old") is not None
    cache.note_change(b"t/1/+")
    assert not cache.newest


def test_topics_that_come_and_are_dropped_leave_nothing_that_grows() -> None:
    cache = MatchCache()
    cache.keep(b"stays", Leaf(b"stays"))
    for number in range(50_000):
        topic = b"%d/reply" % number
        cache.keep(topic, Leaf(topic))
        cache.drop(topic)
    assert cache.size() < 1_000_000
