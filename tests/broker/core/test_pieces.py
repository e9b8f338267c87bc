"""Which pieces are the same, and how many make a send."""

from __future__ import annotations

import pytest

from broker.core.pieces import LOOSE_MAX, SMALL_BYTES, are_the_same, count_within, settle

ONE, TWO = bytearray(b"one"), bytearray(b"two")
PIECES = [bytes(ONE), bytes(TWO)]


@pytest.mark.parametrize(
    ("others", "same"),
    [
        (PIECES[:], True),
        (PIECES[:1], False),
        ([*PIECES, PIECES[0]], False),
        (PIECES[::-1], False),
        ([PIECES[0], bytes(TWO)], False),
        ([], False),
    ],
    ids=["same", "fewer", "more", "turned round", "equal only", "none"],
)
def test_only_the_very_objects_are_the_same(others: list[bytes], same: bool) -> None:
    assert are_the_same(PIECES, others) is same
    assert are_the_same(others, PIECES) is same


@pytest.mark.parametrize(("size_max", "count"), [(1, 1), (3, 1), (4, 2), (6, 2), (7, 2)])
def test_pieces_are_counted_until_they_are_enough(size_max: int, count: int) -> None:
    assert count_within(PIECES, size_max) == count


def test_of_none_there_are_none() -> None:
    assert count_within([], 1) == 0
    assert are_the_same([], [])


@pytest.mark.parametrize("start", [0, 1, 5])
def test_many_small_pieces_become_one_behind_those_that_were_looked_at(start: int) -> None:
    looked_at = [b"%d" % number for number in range(start)]
    small = [b"y" * SMALL_BYTES] * (LOOSE_MAX + 1)
    pieces = looked_at + small
    assert settle(pieces, start) == start + 1
    assert pieces == [*looked_at, b"".join(small)]


@pytest.mark.parametrize("last", [b"y" * (SMALL_BYTES + 1), b""], ids=["longer", "fewer"])
def test_others_stay_since_somebody_may_be_owed_the_same(last: bytes) -> None:
    pieces = [b"y" * SMALL_BYTES] * LOOSE_MAX + ([last] if last else [])
    kept = pieces[:]
    assert settle(pieces, 0) == (len(pieces) if last else 0)
    assert are_the_same(pieces, kept)
