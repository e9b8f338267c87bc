"""Who catches up is served in turns, in the order in which it asked, and everybody else in between."""

from __future__ import annotations

from typing import cast

import trio
import trio.testing

from broker.core.engine import Engine
from broker.links.websocket.following import FollowingLink
from broker.links.websocket.pacer import TURN_S_MAX, Pacer


class Link:
    """One that is behind by so many pieces."""

    def __init__(self, pacer: Pacer, name: str, served: list[str], pieces: int = 1) -> None:
        self.outbox = self
        self._pacer, self._name, self._served, self._pieces = pacer, name, served, pieces

    def ask(self) -> None:
        self._pacer.later(cast("FollowingLink", self))

    def catch_up(self) -> None:
        self._served.append(self._name)
        self._pieces -= 1
        if self._pieces:
            self.ask()

    def flush(self) -> None:
        self._served.append(f"{self._name} flushed")


async def test_each_gets_a_piece_in_its_turn_and_what_it_is_owed_leaves_at_once() -> None:
    served: list[str] = []
    async with trio.open_nursery() as nursery:
        pacer = Pacer(Engine(), nursery)
        Link(pacer, "a", served, 2).ask()
        Link(pacer, "b", served).ask()
    assert served == ["a", "a flushed", "b", "b flushed", "a", "a flushed"]


async def test_others_have_their_turn_once_the_time_is_over(mock_clock: trio.testing.MockClock) -> None:
    served: list[str] = []

    class Long(Link):
        def catch_up(self) -> None:
            mock_clock.jump(TURN_S_MAX / 2)
            super().catch_up()

        def flush(self) -> None:
            pass

    engine = Engine()
    engine.turn.on_batch_end(lambda: served.append("others"))
    async with trio.open_nursery() as nursery:
        pacer = Pacer(engine, nursery)
        for _ in range(4):
            Long(pacer, "a", served).ask()
    assert served == ["a", "a", "others", "a", "a", "others"]


async def test_who_asks_after_all_were_served_is_served_too() -> None:
    served: list[str] = []
    async with trio.open_nursery() as nursery:
        pacer = Pacer(Engine(), nursery)
        for name in ("a", "b"):
            Link(pacer, name, served).ask()
            await trio.testing.wait_all_tasks_blocked()
            assert served[-1] == f"{name} flushed"


async def test_it_serves_inside_a_turn() -> None:
    engine = Engine()
    engine.turn.clock = lambda: 5.0
    clocks: list[float] = []

    class Looking(Link):
        def catch_up(self) -> None:
            clocks.append(engine.now)

    async with trio.open_nursery() as nursery:
        Looking(Pacer(engine, nursery), "a", []).ask()
    assert clocks == [5.0]
