"""Clients that are not read from while too much waits."""

from __future__ import annotations

from support.attached import Attached

from broker.core.engine import Engine
from broker.core.paused import Paused


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


def test_it_says_who_was_read_from_before() -> None:
    engine = Engine()
    Attached(engine, b"c")
    paused = Paused(engine)
    assert paused.is_empty()
    assert [paused.pause(client_id) for client_id in (b"c", b"c", b"not here")] == [True, False, False]
    assert not paused.is_empty()


def test_who_waits_for_one_that_has_ended_waits_for_the_next() -> None:
    engine = Engine()
    both, former_only = Attached(engine, b"both"), Attached(engine, b"former")
    former, successor = Paused(engine), Paused(engine)
    for client_id in (b"both", b"former"):
        former.pause(client_id)
    successor.pause(b"both")
    successor.take_over(former)
    assert former.is_empty()
    former.go_on()
    assert (both.outbox.is_paused, former_only.outbox.is_paused) == (True, True)
    successor.go_on()
    assert (both.outbox.is_paused, former_only.outbox.is_paused) == (False, False)
