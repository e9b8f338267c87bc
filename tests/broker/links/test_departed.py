"""Peers that have gone while somebody decides about them: so many of all, and of each address, and no more."""

from __future__ import annotations

from broker.core.limits import DEPARTED_MAX, DEPARTED_SHARE_MAX
from broker.links.departed import Departed


def test_an_address_has_a_share_and_leaves_room_for_others() -> None:
    departed = Departed()
    assert [departed.stay("a") for _ in range(DEPARTED_SHARE_MAX + 1)] == [True] * DEPARTED_SHARE_MAX + [
        False
    ]
    assert departed.stay("b")
    departed.leave("a")
    assert departed.stay("a")
    assert len(departed) == DEPARTED_SHARE_MAX + 1


def test_all_addresses_together_have_a_limit() -> None:
    departed = Departed()
    assert all(departed.stay(str(number)) for number in range(DEPARTED_MAX))
    assert not departed.stay("one more")
    departed.leave("0")
    assert departed.stay("one more")
    assert len(departed) == DEPARTED_MAX
