"""A peer that asked for much at once goes on in its turns, and a bug in one of them ends it alone."""

from __future__ import annotations

import pytest
from support.interpreted import interpreted_only
from support.peer import Peer, connected

from broker.core.engine import Engine
from broker.links.mqtt.link import MqttLink
from broker.links.mqtt.stalled import Stalled

pytestmark = interpreted_only


class Working:
    """As much of a link as `Stalled` knows."""

    def __init__(self, peer: Peer, turns: int) -> None:
        self.engine = peer.engine
        self.peer = peer.link.peer
        self.stalled: Stalled | None = None
        self.turns = turns
        self.closed: list[str] = []

    def go_on(self, steps: int) -> int:
        self.turns -= 1
        if self.turns < 0:
            raise ArithmeticError("a bug")
        if self.turns == 0:
            self.stalled = None
        return steps - 1

    def close(self, why: str) -> None:
        self.closed.append(why)
        self.stalled = None


def stalled(turns: int) -> tuple[Stalled, Working]:
    link = Working(connected(Engine()), turns)
    work = Stalled(link)  # type: ignore[arg-type]
    link.stalled = work
    return work, link


def test_it_is_over_when_the_link_waits_for_no_more_turns() -> None:
    work, link = stalled(2)
    assert work.go_on(10) == 9
    assert not work.is_over
    assert work.go_on(5) == 4
    assert work.is_over
    assert link.closed == []


def test_a_link_that_waits_anew_has_another_turn_for_it() -> None:
    work, link = stalled(5)
    link.stalled = Stalled(link)  # type: ignore[arg-type]
    work.go_on(10)
    assert work.is_over


def test_a_bug_ends_the_link_counts_and_uses_up_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    work, link = stalled(0)
    assert work.go_on(10) == 10
    assert link.closed == ["disconnected: internal error."]
    assert link.engine.counters.link_bugs == 1
    assert work.is_over


def test_a_link_that_was_closed_meanwhile_is_over_at_once() -> None:
    link: MqttLink = connected(Engine()).link
    link.stalled = Stalled(link)
    work = link.stalled
    link.close("gone.")
    assert work.go_on(10) == 0
    assert work.is_over
