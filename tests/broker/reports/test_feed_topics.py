"""A feed's own topics."""

from __future__ import annotations

from broker.feed.status import FeedStatus
from broker.reports.feed_topics import FeedTopics


def test_only_what_changed_is_said_again() -> None:
    status = FeedStatus("shop")
    topics = FeedTopics(status)
    first = dict(topics.changed())
    assert first["$SYS/feed/shop/state"] == "connecting"
    assert first["$SYS/feed/shop/lag/bytes"] == "0"
    assert topics.changed() == []
    status.enter("live")
    status.lag_s = 1.25
    assert topics.changed() == [("$SYS/feed/shop/state", "live"), ("$SYS/feed/shop/lag/seconds", "1.2")]


def test_dropped_rows_are_counted_over_all_reasons() -> None:
    status = FeedStatus("shop")
    status.drop("null", "here", 0.0)
    status.drop("unsafe_value", "there", 0.0)
    assert ("$SYS/feed/shop/dropped", "2") in FeedTopics(status).changed()
