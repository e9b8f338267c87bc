"""A gap in the log, the counters, on $SYS, and where a dialect has a place for it."""

from __future__ import annotations

import json
import logging

import pytest
from support.feeds import SYSTEM_HEALTH, Collector

from broker.feed.gaps import announce, tell
from broker.feed.status import FeedStatus


def test_a_gap_is_counted_logged_and_published(caplog: pytest.LogCaptureFixture) -> None:
    status, outlet = FeedStatus("main"), Collector()
    status.uncaptured = ("public.b",)
    with caplog.at_level(logging.WARNING):
        announce(status, outlet, "the slot is gone", "0/1", "0/2", ["public.a"])
    assert (status.gaps, status.last_gap and status.last_gap.reason) == (1, "the slot is gone")
    assert caplog.messages == [
        "feed main: gap: the slot is gone; rows committed between 0/1 and 0/2 may be missing"
    ]
    [system, health] = outlet.announced
    assert (system[0], system[2:]) == (b"$SYS/feed/main/gap", (1, True))
    assert json.loads(system[1]) == {
        "feed": "main",
        "reason": "the slot is gone",
        "from": "0/1",
        "to": "0/2",
        "number": 1,
        "tables": ["public.a"],
        "uncaptured": ["public.b"],
    }
    assert (health[0], health[2:]) == (SYSTEM_HEALTH, (0, False))
    assert outlet.flushes == 1


def test_what_is_unknown_is_null_and_said_in_words(caplog: pytest.LogCaptureFixture) -> None:
    status, outlet = FeedStatus("main"), Collector()
    announce(status, outlet, "why", "", "now")
    body = json.loads(outlet.announced[0][1])
    assert (body["from"], body["tables"], body["uncaptured"]) == (None, None, [])
    assert "between an unknown position and now" in caplog.text


def test_one_that_was_counted_already_is_only_told(caplog: pytest.LogCaptureFixture) -> None:
    status, outlet = FeedStatus("main"), Collector()
    status.gap("why")
    tell(status, outlet, "why", "", "now")
    assert json.loads(outlet.announced[0][1])["number"] == 1
    assert (status.gaps, caplog.messages) == (1, [])
