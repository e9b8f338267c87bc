"""What goes on and on is said once a minute."""

from __future__ import annotations

from broker.cluster.complaints import KNOWN_MAX, SAY_AGAIN_S, Complaints


def test_the_same_is_due_once_a_minute_whatever_numbers_it_has() -> None:
    complaints = Complaints()
    assert complaints.is_due("nothing came for 2.5 s", 7.0)
    assert complaints.is_due("no quorum", 7.0)
    assert not complaints.is_due("nothing came for 12.7 s", 6.0 + SAY_AGAIN_S)
    assert complaints.is_due("nothing came for 3.0 s", 7.0 + SAY_AGAIN_S)


def test_of_very_many_not_all_are_remembered() -> None:
    complaints = Complaints()
    for number in range(10 * KNOWN_MAX):
        assert complaints.is_due("x" * number, 0.0)
    assert len(complaints._said) <= KNOWN_MAX
