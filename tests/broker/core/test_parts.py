"""Which parts of the states of topics a filter finds, against a filter asked of every topic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.core.parts import Part, PartStore
from protocol.mqtt.topics import is_valid_topic_filter, matches

TOPICS = (
    st.lists(st.sampled_from([b"a", b"b", b"$c", b""]), min_size=1, max_size=3).map(b"/".join).filter(bool)
)
FILTERS = (
    st.lists(st.sampled_from([b"a", b"b", b"", b"+", b"#"]), min_size=1, max_size=3)
    .map(b"/".join)
    .filter(lambda text: bool(text) and is_valid_topic_filter(text))
)


@given(st.lists(TOPICS, max_size=12), st.sets(st.integers(0, 11)), FILTERS)
def test_a_filter_finds_what_is_kept_and_matches(
    topics: list[bytes], gone: set[int], topic_filter: bytes
) -> None:
    store = PartStore()
    parts = [Part(topic, 0, False) for topic in topics]
    for part in parts:
        store.add(part)
    for number in gone & set(range(len(parts))):
        store.discard(parts[number])
        store.discard(parts[number])  # what is gone is gone
    kept = [part for number, part in enumerate(parts) if number not in gone]
    assert sorted(map(id, store.matching(topic_filter))) == sorted(
        id(part) for part in kept if matches(topic_filter, part.topic)
    )
    for topic in topics:
        assert store.of(topic) == [part for part in kept if part.topic == topic], "in the order they came"
