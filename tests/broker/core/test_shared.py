"""Groups of shared subscriptions: who belongs to one, and whose turn it is."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.shared import SharedGroup, lacks_filter, split_shared


class Member(Receiver):
    def __init__(self, may: bool = True) -> None:
        super().__init__(plain=False)
        self.may = may
        self.heard: list[tuple[bytes, int]] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.heard.append((publication.payload, granted))

    def may_read(self, topic: bytes) -> bool:
        return self.may


def group(*members: Member) -> SharedGroup:
    made = SharedGroup((b"g", b"t"))
    for granted, member in enumerate(members):
        made.add(member, granted % 3)
    return made


def test_each_message_goes_to_one_member_and_they_take_turns() -> None:
    members = [Member() for _ in range(3)]
    shared = group(*members)
    for number in range(9):
        shared.deliver(Publication(b"t", b"%d" % number), 2, False)
    assert [[payload for payload, _ in one.heard] for one in members] == [
        [b"0", b"3", b"6"],
        [b"1", b"4", b"7"],
        [b"2", b"5", b"8"],
    ]
    assert [one.heard[0][1] for one in members] == [0, 1, 2]


def test_who_may_not_read_is_passed_over_and_nobody_else_gets_more_than_their_turn() -> None:
    allowed, forbidden, other = Member(), Member(may=False), Member()
    shared = group(allowed, forbidden, other)
    for number in range(10):
        shared.deliver(Publication(b"t", b"%d" % number), 1, False)
    assert forbidden.heard == []
    assert Counter(len(one.heard) for one in (allowed, other)) == {5: 2}


def test_nobody_gets_what_nobody_may_read() -> None:
    forbidden = Member(may=False)
    group(forbidden).deliver(Publication(b"t", b"x"), 1, False)
    assert forbidden.heard == []


def test_joining_twice_changes_the_qos_and_leaving_is_said_once() -> None:
    member = Member()
    shared = SharedGroup((b"g", b"t"))
    assert shared.add(member, 0)
    assert not shared.add(member, 2)
    shared.deliver(Publication(b"t", b"x"), 2, False)
    assert member.heard == [(b"x", 2)]
    assert shared.remove(member)
    assert not shared.remove(member)
    assert shared.is_empty()


@pytest.mark.parametrize(
    ("topic_filter", "split", "lacks"),
    [
        (b"a/b", (b"", b"a/b"), False),
        (b"$share/g/a/b", (b"g", b"a/b"), False),
        (b"$share/g/#", (b"g", b"#"), False),
        (b"$share/g//a", (b"g", b"/a"), False),
        (b"$share/g", (b"", b""), True),
        (b"$share/g/", (b"", b""), True),
        (b"$share//a", (b"", b""), False),
        (b"$share/+/a", (b"", b""), False),
        (b"$share/g#/a", (b"", b""), False),
        (b"$shared/g/a", (b"", b"$shared/g/a"), False),
    ],
)
def test_a_filter_is_split(topic_filter: bytes, split: tuple[bytes, bytes], lacks: bool) -> None:
    assert split_shared(topic_filter) == split
    assert lacks_filter(topic_filter) is lacks
