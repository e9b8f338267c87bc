"""Receivers of a topic, against a dictionary that says the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.targets import RECEIVERS_UNPACED_MAX, Leaf, Targets

BEYOND_QOS = 3
"""Granted with more than a QoS: such a receiver takes no raw packets, whatever it is."""


class Somebody(Receiver):
    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        raise AssertionError("nothing is delivered here")


RECEIVERS = [Somebody(plain=number % 2 == 0) for number in range(4)]

ACTS = st.lists(
    st.tuples(st.sampled_from(["add", "add_highest", "remove"]), st.integers(0, 3), st.integers(0, 2)),
    max_size=30,
)


@given(ACTS)
def test_receivers_are_those_of_a_dictionary(acts: list[tuple[str, int, int]]) -> None:
    targets = Targets()
    expected: dict[Receiver, int] = {}
    for act, number, granted in acts:
        receiver = RECEIVERS[number]
        if act == "remove":
            assert targets.remove(receiver) is (expected.pop(receiver, None) is not None)
        elif act == "add":
            targets.add(receiver, granted)
            expected[receiver] = granted
        else:
            targets.add_highest(receiver, granted)
            expected[receiver] = max(granted, expected.get(receiver, 0))
        assert dict(targets.pairs()) == expected
        assert targets.count() == len(expected)
        assert targets.is_empty() is (not expected)
        assert targets.not_plain == sum(not receiver.plain for receiver in expected)
        assert [targets.get(receiver) for receiver in RECEIVERS] == [
            expected.get(one, -1) for one in RECEIVERS
        ]


def test_who_was_granted_more_than_a_quality_takes_no_raw_packets() -> None:
    leaf = Leaf(b"t")
    plain = RECEIVERS[0]
    leaf.add(plain, BEYOND_QOS | 8)
    assert leaf.not_plain == 1
    leaf.add(plain, 1)
    assert leaf.not_plain == 0
    leaf.add(plain, BEYOND_QOS | 8)
    assert leaf.remove(plain)
    assert (leaf.not_plain, leaf.is_empty()) == (0, True)


class Reading(Somebody):
    def __init__(self, level: int) -> None:
        super().__init__(plain=True)
        self.level = level
        self.got: list[tuple[bytes, int, int]] = []

    def forward(self, packets: bytes, count: int, payload_bytes: int) -> None:
        self.got.append((packets, count, payload_bytes))


@pytest.mark.parametrize("levels", [(), (4,), (5,), (4, 5, 5)], ids=str)
@pytest.mark.parametrize("written", [4, 5])
def test_packets_go_to_each_as_its_version_writes_them(levels: tuple[int, ...], written: int) -> None:
    packets = {4: b"\x30\x04\x00\x01tx", 5: b"\x30\x05\x00\x01t\x00x"}
    targets = Targets()
    readers = [Reading(level) for level in levels]
    for reader in readers:
        targets.add(reader, 0)
    targets.forward(packets[written], written, 1, 1)
    assert [reader.got for reader in readers] == [[(packets[level], 1, 1)] for level in levels]


def test_of_copies_for_each_filter_those_count_who_take_packets() -> None:
    """There are several `parts`, and each receiver is in one."""
    parts = []
    for plain in (True, False):
        part = Targets()
        for _ in range(RECEIVERS_UNPACED_MAX + 16):
            part.add(Somebody(plain), 0)
        parts.append(part)
    merged = Targets()
    merged.parts = parts
    merged.not_plain = sum(part.not_plain for part in parts)
    assert merged.plain_steps() == parts[0].plain_steps() == (RECEIVERS_UNPACED_MAX + 16) >> 4
