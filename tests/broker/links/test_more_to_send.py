"""For how long a round waits before it sends to many."""

from __future__ import annotations

from broker.links.more_to_send import MANY, OFTEN_S, VAIN_MAX, WAIT_S_MAX, MoreToSend


def busy(since: float = 0.0) -> MoreToSend:
    """Many were sent to at this time."""
    more = MoreToSend()
    assert more.wait_s(MANY, since) == 0.0
    return more


def test_who_sends_to_many_for_the_first_time_or_seldom_does_not_wait() -> None:
    more = busy()
    assert more.wait_s(MANY, OFTEN_S) == 0.0
    assert more.wait_s(MANY, 3 * OFTEN_S) == 0.0


def test_who_sends_to_many_again_and_again_waits_the_longer_the_more_there_are_but_never_long() -> None:
    more = busy()
    few, many, all_there_are = (more.wait_s(sends, OFTEN_S / 2) for sends in (MANY, 2 * MANY, 100_000))
    assert 0.0 < few < many < all_there_are == WAIT_S_MAX


def test_a_few_are_sent_to_at_once_and_change_nothing() -> None:
    more = busy()
    assert more.wait_s(MANY - 1, OFTEN_S / 2) == 0.0
    assert more.wait_s(MANY, OFTEN_S / 2) > 0.0


def test_what_comes_for_a_few_was_not_worth_the_wait() -> None:
    more = busy()
    for _ in range(VAIN_MAX):
        more.waited(MANY - 1)
    assert more.wait_s(MANY, OFTEN_S / 2) == 0.0


def test_who_has_waited_in_vain_for_long_waits_no_more_until_it_was_quiet() -> None:
    more = busy()
    now = 0.0
    for _ in range(VAIN_MAX):
        now += OFTEN_S / 2
        assert more.wait_s(MANY, now) > 0.0
        more.waited(0)
    for _ in range(3):
        now += OFTEN_S / 2
        assert more.wait_s(MANY, now) == 0.0
    now += OFTEN_S
    assert more.wait_s(MANY, now) == 0.0
    assert more.wait_s(MANY, now + OFTEN_S / 2) > 0.0


def test_what_comes_once_is_waited_for_as_often_as_before() -> None:
    more = busy()
    for _ in range(VAIN_MAX - 1):
        more.waited(0)
    more.waited(MANY)
    for _ in range(VAIN_MAX - 1):
        more.waited(0)
    assert more.wait_s(MANY, OFTEN_S / 2) > 0.0
