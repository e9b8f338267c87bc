"""A descriptor in the pump's loop that is no peer's: what it rings for happens in a turn, as long as it is watched."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from support.polling import until

from broker.core.engine import Engine
from broker.core.outbox import nothing
from broker.links.bell import Bell
from broker.links.pump import Pump


@asynccontextmanager
async def pumping() -> AsyncIterator[Pump]:
    engine = Engine()
    pump = Pump(engine, lambda link: None, lambda link: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump.run)
        with trio.fail_after(60):
            yield pump
        nursery.cancel_scope.cancel()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


class Ringing:
    """Reads what has come, and notes whether that was in a turn."""

    def __init__(self, pump: Pump, near: socket.socket) -> None:
        self.came = b""
        self.in_turn: list[bool] = []
        self._pump = pump
        self._near = near
        self._more = trio.Event()

    def __call__(self) -> None:
        self.came += self._near.recv(100)
        self.in_turn.append(self._pump.engine.turn.is_under_way)
        self._more.set()
        self._more = trio.Event()

    async def until(self, came: bytes) -> None:
        while self.came != came:
            await self._more.wait()


async def test_it_rings_in_a_turn_while_it_hangs(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    async with pumping() as pump:
        rung = Ringing(pump, near)
        bell = Bell(pump, near.fileno(), rung, nothing, is_awaited=False)
        far.send(b"1")
        await trio.testing.wait_all_tasks_blocked()
        assert rung.came == b""
        bell.begin()
        await rung.until(b"1")
        far.send(b"2")
        await rung.until(b"12")
        bell.end()
        far.send(b"3")
        await trio.testing.wait_all_tasks_blocked()
        assert rung.came == b"12"
        bell.begin()
        await rung.until(b"123")
        bell.end()
        bell.end()
    assert set(rung.in_turn) == {True}


@pytest.mark.parametrize("is_awaited", [False, True])
async def test_what_nobody_answers_at_once_is_not_looked_out_for(
    pair: tuple[socket.socket, socket.socket], is_awaited: bool
) -> None:
    near, far = pair
    async with pumping() as pump:
        rung = Ringing(pump, near)
        bell = Bell(pump, near.fileno(), rung, nothing, is_awaited)
        bell.hang()
        far.send(b"1")
        await rung.until(b"1")
        assert pump.may_look_out is is_awaited
        pump.serve_round([])
        assert pump.may_look_out


async def test_who_hung_it_is_told_when_the_pump_ends(pair: tuple[socket.socket, socket.socket]) -> None:
    told: list[bool] = []
    async with pumping() as pump:
        Bell(pump, pair[0].fileno(), nothing, lambda: told.append(True)).hang()
    assert told == [True]


async def test_a_descriptor_that_its_owner_has_closed_is_let_go(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    async with pumping() as pump:
        bell = Bell(pump, near.fileno(), near.close, nothing, is_awaited=False)
        bell.begin()
        far.send(b"1")
        await until(lambda: near.fileno() < 0)
        bell.end()
        bell.end()
