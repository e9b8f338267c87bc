"""Clients that are not read from while too much waits."""

from __future__ import annotations

from support.attached import Attached
from support.peer import connected

from broker.core.engine import Engine
from broker.core.paused import SWEEP_AT, Paused


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


def test_those_who_have_gone_are_not_kept_for_as_long_as_there_is_no_room() -> None:
    engine = Engine()
    paused = Paused(engine)
    stays = Attached(engine, b"stays")
    paused.pause(b"stays")
    for _ in range(3 * SWEEP_AT):
        client = Attached(engine, b"c")
        paused.pause(b"c")
        client.outbox.close()
    assert len(paused) <= SWEEP_AT
    paused.go_on()
    assert not stays.outbox.is_paused


def test_one_that_is_sent_away_is_closed_when_the_others_go_on_by_whoever_has_it_then() -> None:
    engine = Engine()
    former, successor = Paused(engine), Paused(engine)
    clients = {name: connected(engine, name) for name in (b"away", b"back", b"stays")}
    assert [former.send_away(name) for name in (b"away", b"back", b"not here")] == [True, True, False]
    former.pause(b"stays")
    back = connected(engine, b"back")  # what it was stopped for has ended with its connection
    successor.take_over(former)
    former.go_on()
    assert clients[b"away"].outbox.is_paused
    assert not clients[b"away"].closed
    successor.go_on()
    assert (clients[b"away"].closed, back.closed, clients[b"stays"].closed) == (True, False, False)
    assert not clients[b"stays"].outbox.is_paused
