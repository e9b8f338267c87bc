"""What a feed says about itself: troubles come and go, a gap stays until it is acknowledged."""

from __future__ import annotations

import logging

import pytest

from broker.feed.status import FeedStatus


def test_a_trouble_is_logged_when_it_begins_when_its_text_changes_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = FeedStatus("main")
    with caplog.at_level(logging.WARNING):
        for text in ("no such table", "no such table", "no permission"):
            status.trouble("table public.orders", text)
        assert status.troubles == {"table public.orders": "no permission"}
        for _ in range(2):
            status.over("table public.orders")
    assert status.troubles == {}
    assert [record.getMessage() for record in caplog.records] == [
        "feed main: no such table",
        "feed main: no permission",
        "feed main: over: table public.orders",
    ]


def test_a_gap_is_counted_and_remembered() -> None:
    status = FeedStatus("main")
    assert status.last_gap is None
    status.gap("the slot was lost")
    assert status.gaps == 1
    assert status.last_gap is not None
    assert status.last_gap.reason == "the slot was lost"
