"""A bug in one link ends that link, is counted and told, and costs nobody else anything."""

from __future__ import annotations

import logging

import pytest
from support.interpreted import interpreted_only
from support.peer import Peer, connected

from broker.core.counters import Counters
from broker.core.engine import Engine
from broker.links.barrier import attempt, receive
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Pingreq, Pingresp

pytestmark = interpreted_only


@pytest.fixture(autouse=True)
def goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier._said", {})
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)


def failing(peer: Peer) -> Peer:
    """One whose next packet meets a bug."""

    def bug(data: bytes) -> None:
        raise ArithmeticError("secret")

    peer.link.received = bug  # type: ignore[method-assign]
    return peer


def test_what_a_link_receives_costs_it_alone(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    broken, other = failing(connected(engine, b"broken")), connected(engine, b"other")
    with caplog.at_level(logging.ERROR):
        for peer in (broken, other):
            receive(peer.link, encode(Pingreq()))
    engine.flush()
    assert broken.closed
    assert not other.closed
    assert other.read() == [Pingresp()]
    assert engine.counters.link_bugs == 1
    (line,) = caplog.messages
    assert "127.0.0.1:50000" in line
    assert "secret" not in line


def test_work_that_fails_is_counted_and_its_link_told() -> None:
    counters = Counters()
    ended: list[str] = []
    done: list[str] = []

    def bug() -> None:
        raise ArithmeticError

    attempt(lambda: done.append("work"), counters, "10.0.0.1:5", lambda: ended.append("end"))
    assert (done, ended, counters.link_bugs) == (["work"], [], 0)
    attempt(bug, counters, "10.0.0.1:5", lambda: ended.append("end"))
    assert (ended, counters.link_bugs) == (["end"], 1)


def test_what_ends_a_task_passes_and_ends_no_link() -> None:
    ended: list[str] = []

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, Counters(), "x", lambda: ended.append("end"))
    assert ended == []


def test_in_a_test_run_a_bug_is_raised_after_it_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", True)
    engine = Engine()
    peer = failing(connected(engine))
    with pytest.raises(ArithmeticError):
        receive(peer.link, b"")
    assert engine.counters.link_bugs == 1
    with pytest.raises(ArithmeticError):
        attempt(lambda: peer.link.received(b""), engine.counters, "x", lambda: None)
    assert engine.counters.link_bugs == 2
