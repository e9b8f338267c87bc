"""Streams and subjects of a cluster: each name says what it holds, and can be read back."""

from __future__ import annotations

import pytest

from broker.cluster.names import KNOWN_BYTES, KNOWN_MAX, PLAIN, RETAINED, Names, origin_of
from protocol.nats.subjects import subject_of

NAMES = Names("shop")


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("topic", [b"a", b"a/b/c", b"a//b", b"/", b"a.b *>", "ü/日".encode()])
def test_a_messages_subject_says_whose_it_is_of_which_kind_and_on_which_topic(
    topic: bytes, retain: bool
) -> None:
    subject = NAMES.message(origin_of("event"), retain, topic)
    assert NAMES.origin_in(subject) == b"f-event"
    assert NAMES.topic_part(subject) == (RETAINED if retain else PLAIN, subject_of(topic))
    assert subject.startswith(NAMES.of_origin(b"f-event").removesuffix(b">"))


def test_a_retained_one_is_read_from_its_own_stream_as_well() -> None:
    assert NAMES.topic_part(b"shop.RET." + subject_of(b"a/b")) == (RETAINED, subject_of(b"a/b"))
    assert NAMES.topic_part(b"shop.MSGS.c") == (b"", b"")


def test_a_client_id_of_any_length_makes_a_key_of_one_level() -> None:
    for client_id in (b"", b"ada", b"a.b *>" * 5000):
        key = NAMES.client(client_id)
        assert len(key) == 34
        assert key.count(b".") == 1
        assert NAMES.will(b"7", client_id) == b"w.7." + key[2:]
    assert NAMES.client(b"ada") != NAMES.client(b"adb")


def test_clusters_on_one_server_share_no_name() -> None:
    other = Names("shop2")
    assert not other.message(b"c", False, b"a").startswith(NAMES.messages_prefix)
    assert {NAMES.messages, NAMES.retained, NAMES.sessions}.isdisjoint(
        {other.messages, other.retained, other.sessions}
    )


def test_subjects_are_remembered_up_to_a_bound() -> None:
    names = Names("shop")
    topics = [b"t/%d" % number for number in range(KNOWN_MAX + 1)] + [b"x" * (KNOWN_BYTES + 1)]
    for _ in range(2):
        for topic in topics:
            assert names.message(b"c", False, topic) == b"shop.MSGS.c.m." + subject_of(topic)
            assert names.message(b"c", True, topic) == b"shop.MSGS.c.r." + subject_of(topic)
    assert len(names._known) <= KNOWN_MAX
    assert topics[-1] not in names._known
