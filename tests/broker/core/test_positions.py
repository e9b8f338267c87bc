"""The numbers of publications, and which of them are understood again."""

from __future__ import annotations

import pytest

from broker.core.positions import EPOCHS_MAX, Positions
from broker.core.publication import Publication


def publication() -> Publication:
    return Publication(b"t", b"")


def test_a_publication_keeps_the_number_that_it_was_given_first() -> None:
    positions = Positions("E", 41)
    first, second = publication(), publication()
    assert positions.stamp(first) == b"E/42"
    assert positions.stamp(second) == b"E/43"
    assert positions.stamp(first) == b"E/42"
    assert (first.sequence, positions.number, positions.here()) == (42, 43, "E/43")


def test_where_numbers_are_given_elsewhere_none_is_made() -> None:
    positions = Positions("E", 41, {"D": 7})
    positions.begin("S", 100)
    one = publication()
    assert positions.stamp(one) == b"S/100"
    assert one.sequence == 0
    one.sequence = 99
    assert positions.stamp(one) == b"S/99"
    assert positions.number_of("D/7") is None
    assert positions.number_of("S/100") == 100


@pytest.mark.parametrize(
    ("position", "number"),
    [
        ("E/42", 42),
        ("E/0", 0),
        ("E/43", None),
        ("D/7", 7),
        ("D/8", None),
        ("C/1", None),
        ("E", None),
        ("", None),
    ]
    + [(f"E/{digits}", None) for digits in ("", "-1", "+1", " 1", "1 ", "1/2", "x", "٣", "²", "9" * 5000)],
)
def test_only_what_was_handed_out_is_understood(position: str, number: int | None) -> None:
    assert Positions("E", 42, {"D": 7}).number_of(position) == number


def test_of_many_epochs_the_newest_are_understood() -> None:
    positions = Positions("E", 0, {f"e{one}": one for one in range(EPOCHS_MAX + 1)})
    assert positions.number_of("e0/0") is None
    assert positions.number_of("e1/1") == 1
    assert positions.number_of(f"e{EPOCHS_MAX}/{EPOCHS_MAX}") == EPOCHS_MAX


def test_ahead_is_what_another_process_may_have_handed_out() -> None:
    positions = Positions("E", 42)
    assert not positions.is_ahead("E/43")  # nobody else hands out any
    positions.when_current = lambda done: done()
    assert positions.is_ahead("E/43")
    for other in ("E/42", "F/43", "E/x", "E/", "E", "E/-43", "E/" + "9" * 19):
        assert not positions.is_ahead(other)
