"""Clients that are not read from while too much waits."""

from __future__ import annotations

from support.attached import Attached

from broker.cluster.paused import Paused
from broker.core.engine import Engine


def test_who_is_here_is_paused_once_and_goes_on() -> None:
    engine = Engine()
    client = Attached(engine, b"c")
    paused = Paused(engine)
    paused.pause(b"c")
    paused.pause(b"c")
    paused.pause(b"not here")
    assert client.outbox.is_paused
    paused.go_on()
    assert not client.outbox.is_paused, "it was paused once"
    client.outbox.pause(True)
    paused.go_on()
    assert client.outbox.is_paused, "by somebody else"
