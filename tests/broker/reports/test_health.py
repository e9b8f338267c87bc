"""What keeps a feed or a sink from being called ready: nothing at the limit, and a sentence beyond it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from broker.config.model import Config
from broker.feed.status import STANDBY, FeedStatus, Gap
from broker.reports.health import Behind, feed_reasons, sink_reasons

BEHIND = Behind(lag_s=30.0, lag_bytes=1000, gap_s=60.0)
NOW = 10_000.0


def status(**changes: Any) -> FeedStatus:
    found = FeedStatus("f")
    found.state = "live"
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"state": STANDBY}, []),
        ({"state": "waiting"}, ["feed f: waiting"]),
        ({"state": "waiting", "problem": "refused"}, ["feed f: waiting: refused"]),
        ({"lag_s": 30.0}, []),
        ({"lag_s": 30.6}, ["feed f: 31 s behind"]),
        ({"lag_bytes": 1000}, []),
        ({"lag_bytes": 1001}, ["feed f: 1001 bytes of write-ahead log behind"]),
        ({"troubles": {"a": "one", "b": "two"}}, ["feed f: one", "feed f: two"]),
    ],
)
def test_a_feed_is_ready_while_it_is_live_and_not_too_far_behind(
    changes: dict[str, Any], reasons: list[str]
) -> None:
    assert feed_reasons(status(**changes), BEHIND, NOW) == reasons


@pytest.mark.parametrize(("ago_s", "is_shown"), [(0.0, True), (59.9, True), (60.0, False)])
def test_a_gap_is_shown_for_so_long_with_what_clears_it(ago_s: float, is_shown: bool) -> None:
    found = status(gaps=3, last_gap=Gap("dropped", NOW - ago_s))
    wanted = ["feed f: gap 3: dropped (`rowcast ctl feeds --acknowledge f` clears this)"]
    assert feed_reasons(found, BEHIND, NOW) == (wanted if is_shown else [])


@pytest.mark.parametrize(
    ("state", "problem", "full", "reasons"),
    [
        ("live", "", False, []),
        ("live", "old", False, []),
        ("waiting", "", False, ["sink s: waiting"]),
        ("waiting", "refused", False, ["sink s: waiting: refused"]),
        ("live", "", True, ["sink s: full: 5 messages wait"]),
        ("waiting", "refused", True, ["sink s: waiting: refused", "sink s: full: 5 messages wait"]),
    ],
)
def test_a_sink_is_ready_while_it_writes_and_has_room(
    state: str, problem: str, full: bool, reasons: list[str]
) -> None:
    sink: Any = SimpleNamespace(
        config=SimpleNamespace(name="s"),
        state=state,
        problem=problem,
        is_full=lambda: full,
        waiting=[1, 2],
        unsettled=3,
    )
    assert sink_reasons(sink) == reasons


def test_the_limits_are_the_configurations_and_the_least_of_all_feeds() -> None:
    config = Config()
    assert Behind.of(config) == evolve(Behind(), lag_s=config.health.lag_s, gap_s=config.health.gap_s)
    feeds: Any = [SimpleNamespace(replication=SimpleNamespace(lag_alarm_bytes=size)) for size in (50, 20, 90)]
    several: Any = SimpleNamespace(feeds=feeds, health=SimpleNamespace(lag_s=7.0, gap_s=8.0))
    assert Behind.of(several) == Behind(7.0, 20, 8.0)
