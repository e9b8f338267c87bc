"""Topics as subjects: there and back, never two the same, and filters that cover all that they should."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mqtt.topics import is_valid_topic_filter, matches
from protocol.nats import subjects
from protocol.nats.errors import NatsProtocolError

LEVEL = st.one_of(
    st.sampled_from(["", "a", "b", "$SYS", "%", "%00", "%long", "*", ">", ".", " ", "é", "a.b", "\t"]),
    st.text(st.characters(codec="utf-8", exclude_characters="/+#\0"), max_size=6),
)
TOPIC = st.lists(LEVEL, min_size=1, max_size=6).map(lambda levels: "/".join(levels).encode()).filter(bool)
FILTER = (
    st.lists(st.one_of(st.sampled_from(["+", "+", "a", "b"]), LEVEL), min_size=1, max_size=4)
    .flatmap(lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"]), "#"]))
    .map(str.encode)
    .filter(is_valid_topic_filter)
)


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        (b"sensors/7/temp", b"sensors.7.temp"),
        (b"v1.0/a b", b"v1%2E0.a%20b"),
        (b"/x//", b"%00.x.%00.%00"),
        (b"$ws/e/a", b"$ws.e.a"),
        ("é/100%".encode(), "é.100%25".encode()),
    ],
)
def test_as_documented(topic: bytes, subject: bytes) -> None:
    assert subjects.subject_of(topic) == subject
    assert subjects.topic_of(subject) == topic


@given(TOPIC)
def test_there_and_back_and_a_subject_that_a_server_takes(topic: bytes) -> None:
    subject = subjects.subject_of(topic)
    assert re.fullmatch(rb"[^\x00-\x20\x7f.*>]+(?:\.[^\x00-\x20\x7f.*>]+)*", subject)
    assert subjects.topic_of(subject) == topic


@pytest.mark.parametrize("topic", [b"a" * 60_000, b"/" * 60_000, b"." * 700, b"a/" * 64 + b"a"])
def test_a_long_topic_becomes_its_hash(topic: bytes) -> None:
    subject = subjects.subject_of(topic)
    assert subjects.is_long(subject)
    assert len(subject) < 100
    with pytest.raises(NatsProtocolError):
        subjects.topic_of(subject)
    assert subjects.subject_of(topic + b"b") != subject


def test_the_word_for_long_ones_can_not_be_had_by_a_topic() -> None:
    assert not subjects.is_long(subjects.subject_of(b"%long/" + b"0" * 64))


@pytest.mark.parametrize("subject", [b"", b"a..b", b"a.%", b"a.%2", b"a.%GG", b"%00%"])
def test_no_subject_of_a_topic(subject: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        subjects.topic_of(subject)


def covers(pattern: bytes, subject: bytes) -> bool:
    """NATS' rule."""
    wanted, tokens = pattern.split(b"."), subject.split(b".")
    for index, token in enumerate(wanted):
        if token == b">":
            return len(tokens) > index
        if index >= len(tokens) or token not in (b"*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


@given(FILTER, TOPIC)
def test_a_filters_subjects_cover_every_topic_that_it_takes(topic_filter: bytes, topic: bytes) -> None:
    if matches(topic_filter, topic):
        subject = subjects.subject_of(topic)
        found = subjects.subjects_of_filter(topic_filter)
        assert sum(covers(pattern, subject) for pattern in found) == 1, found


@given(FILTER)
def test_a_filters_subjects_cover_every_long_topic(topic_filter: bytes) -> None:
    if b"#" in topic_filter:
        hashed = subjects.subject_of(topic_filter[:-1].replace(b"+", b"a") + b"x" * 3000)
        found = subjects.subjects_of_filter(topic_filter)
        assert sum(covers(pattern, hashed) for pattern in found) == 1, found
