"""What the reports are made of: read from the broker as it is, and ready only where nothing is in the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.peer import connected
from support.report_app import App, facts_of

from broker.config.model import Limits, Listener
from broker.feed.status import FeedStatus
from broker.links.listening.door import Door
from broker.reports.facts import Owed
from broker.reports.pulse import BEAT_S


def test_a_broker_that_does_all_it_should_is_ready() -> None:
    facts, _ = facts_of(App())
    assert facts.unready() == []
    assert facts.health("/readyz") == (200, "ready\n")
    assert facts.health("/healthz") == (200, "ok\n")
    assert facts.one_line() == "ready; 0 clients, 0 of 0 feeds live"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_listening": False}, "starting: the listeners are not open yet"),
        ({"is_draining": True}, "draining: clients are asked to go elsewhere"),
        ({"keeper": SimpleNamespace(trouble=lambda: "the disk is full")}, "persistence: the disk is full"),
        ({"keeper": SimpleNamespace(trouble=lambda: "")}, None),
        (
            {"cluster": SimpleNamespace(status=SimpleNamespace(unready=lambda: ["cluster: alone"]))},
            "cluster: alone",
        ),
    ],
)
def test_what_is_in_the_way_is_told(changes: dict[str, Any], reason: str | None) -> None:
    app = App()
    for name, value in changes.items():
        setattr(app, name, value)
    facts, _ = facts_of(app)
    assert facts.unready() == ([] if reason is None else [reason])
    assert facts.health("/readyz") == ((200, "ready\n") if reason is None else (503, f"{reason}\n"))
    assert facts.health("/healthz")[0] == 200
    assert facts.one_line().startswith("ready" if reason is None else f"not ready: {reason};")


def test_a_loop_that_does_not_turn_is_neither_healthy_nor_ready() -> None:
    facts, clock = facts_of(App())
    facts.pulse.beat(100.0, 100.0)
    clock[0] = 100.0 + BEAT_S + 7.0
    assert facts.stuck_s() == 7.0
    assert facts.health("/healthz") == (503, "the loop has not turned for 7.0 s\n")
    assert facts.health("/readyz") == (503, "loop: it has not turned for 7.0 s\n")


def test_feeds_count_when_they_are_live() -> None:
    app = App()
    for name, state in (("a", "live"), ("b", "waiting"), ("c", "live")):
        app.feeds[name] = FeedStatus(name)
        app.feeds[name].state = state
    connected(app.engine)
    facts, _ = facts_of(app)
    assert facts.one_line() == "not ready: feed b: waiting; 1 clients, 2 of 3 feeds live"


@pytest.mark.parametrize(
    ("sizes", "owed"),
    [
        ([], Owed()),
        ([5], Owed(5, 5, 5)),
        ([3, 1, 2], Owed(6, 3, 2)),
        ([0] * 99 + [1000], Owed(1000, 1000, 0)),
        ([0] * 98 + [7, 1000], Owed(1007, 1000, 7)),
    ],
)
def test_what_peers_have_yet_to_take(sizes: list[int], owed: Owed) -> None:
    app = App()
    app.links = [SimpleNamespace(outbox=SimpleNamespace(pending_bytes=size)) for size in sizes]
    assert facts_of(app)[0].owed() == owed


def test_a_listener_is_named_by_where_it_listens() -> None:
    app = App()
    listeners = [Listener(1883), Listener(1884, "127.0.0.1"), Listener(0, unix_path="/run/mqtt.sock")]
    app.doors = [Door(listener, Limits()) for listener in listeners]
    app.doors[1].enter()
    assert list(facts_of(app)[0].listeners()) == [
        ("1883", "mqtt", 0),
        ("127.0.0.1:1884", "mqtt", 1),
        ("/run/mqtt.sock", "mqtt", 0),
    ]


def test_what_a_broker_does_not_have_is_empty() -> None:
    facts, _ = facts_of(App())
    assert (facts.dialect_connections(), facts.dialect_links(), facts.sinks(), facts.calculators()) == (
        {},
        [],
        [],
        [],
    )
    assert (facts.cluster, facts.keeper) == (None, None)
