"""Turns at something slow: who comes next, and what those leave who give up."""

from __future__ import annotations

import trio
import trio.testing

from broker.links.listening.turns import Turns


class Played:
    """A run whose turns end when they are told to."""

    def __init__(self, turns: Turns, nursery: trio.Nursery) -> None:
        self.turns = turns
        self.nursery = nursery
        self.begun: list[str] = []
        self.ends: dict[str, trio.Event] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def ask(self, who: str, address: str, name: bytes = b"") -> None:
        self.ends[who] = trio.Event()
        self.scopes[who] = trio.CancelScope()

        async def take() -> None:
            with self.scopes[who]:
                async with self.turns.one(address, name):
                    self.begun.append(who)
                    await self.ends[who].wait()

        self.nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()

    async def end(self, who: str) -> None:
        self.ends[who].set()
        await trio.testing.wait_all_tasks_blocked()


async def test_a_crowd_of_one_address_delays_another_by_one_turn() -> None:
    async with trio.open_nursery() as nursery:
        played = Played(Turns(1, 1), nursery)
        for number in range(5):
            await played.ask(f"crowd {number}", "10.0.0.9")
        await played.ask("alice", "10.0.0.1")
        await played.end("crowd 0")
        await played.end("crowd 1")
        assert played.begun == ["crowd 0", "crowd 1", "alice"]
        nursery.cancel_scope.cancel()


async def test_within_an_address_names_take_turns() -> None:
    async with trio.open_nursery() as nursery:
        played = Played(Turns(1, 1), nursery)
        for number in range(4):
            await played.ask(f"mallory {number}", "a", b"mallory")
        await played.ask("alice", "a", b"alice")
        await played.end("mallory 0")
        await played.end("mallory 1")
        assert played.begun == ["mallory 0", "mallory 1", "alice"]
        nursery.cancel_scope.cancel()


async def test_one_address_has_its_share_at_most() -> None:
    async with trio.open_nursery() as nursery:
        played = Played(Turns(4, 2), nursery)
        for number in range(9):
            await played.ask(f"crowd {number}", "a")
        assert played.begun == ["crowd 0", "crowd 1"]
        await played.ask("alice", "b")
        assert played.begun[2:] == ["alice"]
        nursery.cancel_scope.cancel()


async def test_who_gives_up_has_no_turn_and_leaves_nothing() -> None:
    async with trio.open_nursery() as nursery:
        turns = Turns(1, 1)
        played = Played(turns, nursery)
        for who in ("one", "two", "three"):
            await played.ask(who, who)
        played.scopes["two"].cancel()
        played.scopes["one"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert played.begun == ["one", "three"]
        await played.end("three")
        assert (turns.waiting(), turns._taken, turns._taken_count, turns._waiting) == (0, {}, 0, {})
