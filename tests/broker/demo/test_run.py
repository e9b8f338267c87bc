"""The demo as a whole: when it is right, what it waits for, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from broker import Broker
from broker.demo import gateway, run
from broker.demo.clients import ClientError
from broker.demo.measure import Summary
from broker.demo.postgres import Postgres
from broker.demo.run import (
    FEEDS_TIMEOUT_S,
    LAST_MESSAGES_TIMEOUT_S,
    SETTLE_S,
    Options,
    Stop,
    _conclude,
    _invitations,
    arrivals,
    cancel_on_signal,
    demonstrate,
    feeds_live,
)
from broker.demo.view import Figures, Transport

EXACT = Summary(expected=5, received=5, lost=0, duplicated=0, unexpected=0, p50_s=0.001, p99_s=0.001)
TWICE = attrs.evolve(EXACT, duplicated=1)


def figures(events: int, *summaries: Summary) -> Figures:
    transports = tuple(Transport(f"T{number}", one, 1.0) for number, one in enumerate(summaries))
    return Figures("15", 1.0, events, 2, 5.0, transports, (), ())


@pytest.mark.parametrize(
    ("events", "final", "status"),
    [
        (None, [], 0),
        (5, [], 1),
        (None, [figures(3, EXACT, EXACT)], 0),
        (None, [figures(3, EXACT, TWICE)], 0),
        (5, [figures(5, EXACT, EXACT)], 0),
        (5, [figures(6, EXACT, EXACT)], 0),
        (5, [figures(4, EXACT, EXACT)], 1),
        (5, [figures(5, EXACT, TWICE)], 1),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_it_is_right_when_all_that_was_asked_for_came_once(
    events: int | None, final: list[Figures], status: int, as_json: bool
) -> None:
    out = io.StringIO()
    assert _conclude(Options(events, json=as_json), out, final) == status
    lines = out.getvalue().splitlines()
    if not final:
        assert lines == []
        return
    assert (len(lines) == 1) is as_json
    if as_json or events is not None:
        summary = json.loads(lines[-1])
        is_exact = all(one.summary.is_exact for one in final[0].transports)
        assert summary["ok"] is (status == 0 and is_exact)
        assert (summary["events"], summary["kind"], summary["seed"]) == (final[0].events, "wal", 0)


def broker_of(*feeds: Any) -> Broker:
    return cast("Broker", SimpleNamespace(app=SimpleNamespace(feeds={one.name: one for one in feeds})))


async def test_feeds_are_waited_for(autojump_clock: MockClock) -> None:
    slow = SimpleNamespace(name="slow", state="connecting", problem="")
    live = SimpleNamespace(name="live", state="live", problem="")

    async def later() -> None:
        await trio.sleep(FEEDS_TIMEOUT_S - 1)
        slow.state = "live"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        await feeds_live(broker_of(live, slow))
    assert trio.current_time() == pytest.approx(FEEDS_TIMEOUT_S - 1, abs=0.1)


async def test_a_feed_that_does_not_come_says_why(autojump_clock: MockClock) -> None:
    feeds = [
        SimpleNamespace(name="a", state="waiting", problem="no slot"),
        SimpleNamespace(name="b", state="connecting", problem=""),
    ]
    with pytest.raises(ClientError, match="a: no slot; b: connecting"):
        await feeds_live(broker_of(*feeds))


@pytest.mark.parametrize(
    ("after_s", "took_s"), [(0.0, SETTLE_S), (3.0, 3.0 + SETTLE_S), (99.0, LAST_MESSAGES_TIMEOUT_S)]
)
async def test_the_last_messages_are_waited_for_and_what_comes_twice(
    autojump_clock: MockClock, after_s: float, took_s: float
) -> None:
    class Account:
        @property
        def awaited(self) -> int:
            return int(trio.current_time() < after_s)

    await arrivals(Account())
    assert trio.current_time() == pytest.approx(took_s, abs=0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_ends_what_runs_and_no_more(number: int) -> None:
    before = signal.getsignal(number)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_signal, Stop(scope))
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), number)
            with trio.fail_after(30):
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("events", "status"), [(None, 0), (5, 1)])
async def test_a_signal_before_anything_runs_leaves_nothing_to_show(
    monkeypatch: pytest.MonkeyPatch, events: int | None, status: int
) -> None:
    async def never(*words: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()

    async def begins(*words: object) -> None:
        await trio.testing.wait_all_tasks_blocked()
        await never()

    monkeypatch.setattr(run, "_run", begins)
    out = io.StringIO()
    with trio.fail_after(30):
        assert await demonstrate(Options(events), out) == status
    assert out.getvalue() == "", "it is no terminal"


def test_a_visitor_is_told_how_to_join_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {("mqtt", "mqtt"): 1884, ("websockets", "econia"): 3001}
    monkeypatch.setattr(gateway, "port_of", lambda broker, protocol, dialect="mqtt": ports[protocol, dialect])
    postgres = cast("Postgres", SimpleNamespace(psql="psql -h /x"))
    mqtt, websocket, psql = _invitations(broker_of(), "s" * 32, postgres)
    assert mqtt.startswith("mosquitto_sub -p 1884 -v -t 'fill/+/0x")
    assert websocket.startswith("ws://127.0.0.1:3001/fill_event/")
    assert psql == "psql -h /x"
