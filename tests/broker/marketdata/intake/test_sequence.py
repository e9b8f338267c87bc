"""Goal: numbered messages as exchanges send them, and holes in them.  Method: a stream of numbered changes is cut into
messages of all three forms; what is left out, doubled or late is drawn, and a model knows what is missing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.market import SequencePaths
from broker.marketdata.intake.sequence import Sequences, Unnumbered

PLAIN = SequencePaths(("u",))
RANGES = SequencePaths(("u",), first=("U",), by=("s",))
AFTER = SequencePaths(("u",), previous=("pu",), by=("s",))


def messages(rng: random.Random, paths: SequencePaths, count: int) -> list[dict[str, Any]]:
    """Of one symbol, complete and in order."""
    last = rng.randint(0, 10**9)
    made = []
    for _ in range(count):
        previous = last
        last += 1 if paths is PLAIN else rng.randint(1, 50)
        made.append({"s": "X", "U": str(previous + 1), "u": str(last), "pu": str(previous)})
    return made


@given(st.integers(0, 2**32), st.sampled_from((PLAIN, RANGES, AFTER)))
def test_holes_and_nothing_else_are_reported(seed: int, paths: SequencePaths) -> None:
    rng = random.Random(seed)
    whole = messages(rng, paths, 60)
    sequences = Sequences(paths)
    known = -1
    holes = new = 0
    sent: list[dict[str, Any]] = []
    reported = counted = 0
    for place, message in enumerate(whole):
        if place and rng.random() < 0.1:
            continue
        sent.append(message)
        number = int(message["u"])
        holes += known >= 0 and int(message["pu"]) != known
        known = number
        taken = sequences.take(message)
        new += 1
        counted += taken.is_new
        reported += taken.missing > 0
        if rng.random() < 0.2:
            again = sequences.take(rng.choice(sent))
            assert (again.is_new, again.missing) == (False, 0)
    assert (reported, counted) == (holes, new)


def test_a_symbol_has_its_own_count() -> None:
    sequences = Sequences(RANGES)
    for symbol, first, last in (("A", 1, 3), ("B", 900, 950), ("A", 4, 4), ("B", 951, 951), ("B", 940, 960)):
        taken = sequences.take({"s": symbol, "U": str(first), "u": str(last)})
        assert (taken.is_new, taken.missing, taken.of) == (True, 0, symbol)
    taken = sequences.take({"s": "A", "U": "7", "u": "9"})
    assert (taken.missing, taken.known, taken.number) == (2, 4, 9)


def test_a_message_that_says_all_begins_the_count() -> None:
    """A book snapshot with the number it is of, among changes that have a range or a previous number."""
    sequences = Sequences(RANGES)
    sequences.take({"s": "A", "u": "100"})
    assert not sequences.take({"s": "A", "U": "90", "u": "100"}).is_new
    assert sequences.take({"s": "A", "U": "95", "u": "104"})[:2] == (True, 0)
    assert sequences.take({"s": "A", "u": "50"})[:2] == (True, 0)
    assert sequences.take({"s": "A", "U": "51", "u": "51"})[:2] == (True, 0)
    after = Sequences(AFTER)
    assert after.take({"s": "A", "pu": "-1", "u": "10"})[:2] == (True, 0)
    assert after.take({"s": "A", "pu": "10", "u": "10"})[:2] == (True, 0)  # nothing has happened
    assert after.take({"s": "A", "pu": "10", "u": "3"})[:2] == (True, 0)  # they begin anew
    assert after.take({"s": "A", "pu": "9", "u": "12"}).missing == 6


def test_numbers_that_begin_anew_are_said_to() -> None:
    for paths in (PLAIN, RANGES, AFTER):
        sequences = Sequences(paths)
        sequences.take({"s": "A", "U": "5000", "u": "5000", "pu": "4999"})
        assert sequences.take({"s": "A", "U": "1", "u": "1", "pu": "0"})[:2] == (True, -1)
        assert sequences.take({"s": "A", "U": "2", "u": "2", "pu": "1"})[:2] == (True, 0)


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"u": None, "s": "A"},
        {"u": "x", "s": "A"},
        {"u": True, "s": "A"},
        {"u": "-5", "s": "A"},
        {"u": "1" * 20, "s": "A"},
        {"u": "٣", "s": "A"},
        {"u": "1", "U": "2", "s": "A"},
        {"u": "1", "U": "0.5", "s": "A"},
        {"u": "3", "U": "2", "s": 1},
        {"u": "3", "U": "2"},
    ],
)
def test_what_is_no_number_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(Unnumbered):
        Sequences(RANGES).take(row)
