"""Tables that are not there are troubles until they are back."""

from __future__ import annotations

from broker.feed.listen.away import say_who_is_away
from broker.feed.status import FeedStatus


def test_each_is_a_trouble_until_it_is_back() -> None:
    status = FeedStatus("f")
    status.trouble("table a", "another one")
    say_who_is_away({"a": "gone", "b": "no key"}, status)
    assert set(status.troubles) == {"table a", "recover a", "recover b"}
    say_who_is_away({"b": "gone"}, status)
    assert set(status.troubles) == {"table a", "recover b"}
    assert "b can't be read again (gone)" in status.troubles["recover b"]
    say_who_is_away({}, status)
    assert set(status.troubles) == {"table a"}
