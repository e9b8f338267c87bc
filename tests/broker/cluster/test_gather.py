"""What the log brings goes on at once, or in groups where many messages go to many; in its order either way."""

from __future__ import annotations

from random import Random
from statistics import mean

import pytest
import trio
from support.due_turns import make_due_turns
from trio.testing import MockClock

from broker.cluster.gather import (
    BUSY_S,
    DELIVERIES_MIN,
    GATHER_S,
    HELD_BYTES_MAX,
    HELD_MAX,
    RECENT_S,
    Gather,
)
from broker.core.engine import Engine
from protocol.nats.wire import Message


class World:
    """A log whose every message goes to `fan_out` clients.

    Attributes:
        handed_on: what was, and `handed_on_at`: when.
    """

    def __init__(self, fan_out: int) -> None:
        self.engine = Engine()
        self.engine.turn.clock = trio.current_time
        self.handed_on: list[bytes] = []
        self.handed_on_at: list[float] = []
        self.fan_out = fan_out
        self.gather = Gather(self.engine, self._hand_on)

    def _hand_on(self, message: Message) -> None:
        self.handed_on.append(message.payload)
        self.handed_on_at.append(trio.current_time())
        self.engine.counters.publishes_sent += self.fan_out

    def read(self, *payloads: bytes) -> None:
        """One read of the socket."""
        with self.engine.turn:
            for payload in payloads:
                self.gather.take(Message(b"t", 1, b"", b"", payload))

    async def busy(self) -> None:
        """Many come, one shortly after the other; none of them is held in the end."""
        for _ in range(100):
            self.read(b"x")
            await trio.sleep(GATHER_S / 4)
        await trio.sleep(GATHER_S)
        with self.engine.turn:
            pass
        self.handed_on.clear()


async def test_what_goes_to_few_is_handed_on_at_once(autojump_clock: MockClock) -> None:
    few = World(DELIVERIES_MIN - 1)
    await few.busy()
    few.read(b"1", b"2")
    few.read(b"3")
    assert few.handed_on == [b"1", b"2", b"3"]


async def test_many_that_go_to_many_come_in_groups(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World(DELIVERIES_MIN)
    nursery.start_soon(make_due_turns, world.engine)
    await world.busy()
    world.read(b"1", b"2")
    world.read(b"3")
    assert world.handed_on == []
    await trio.sleep(2 * GATHER_S)
    assert world.handed_on == [b"1", b"2", b"3"]


async def test_after_a_silence_the_first_does_not_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(DELIVERIES_MIN)
    nursery.start_soon(make_due_turns, world.engine)
    await world.busy()
    await trio.sleep(2 * RECENT_S)
    world.read(b"1")
    assert world.handed_on == [b"1"]


async def test_what_comes_seldom_does_not_wait_though_it_goes_to_many(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(DELIVERIES_MIN)
    nursery.start_soon(make_due_turns, world.engine)
    for number in range(1, 101):
        world.read(b"1")
        assert len(world.handed_on) == number
        await trio.sleep(0.002)


@pytest.mark.parametrize(
    ("apart_s", "longest_s"), [(0.00005, BUSY_S), (0.0004, GATHER_S), (0.0005, GATHER_S)]
)
async def test_where_many_come_they_leave_in_groups_and_the_first_waits_longest(
    autojump_clock: MockClock, nursery: trio.Nursery, apart_s: float, longest_s: float
) -> None:
    world = World(DELIVERIES_MIN)
    nursery.start_soon(make_due_turns, world.engine)
    drawn = Random(1)
    came_at: list[float] = []
    for _ in range(3000):
        came_at.append(trio.current_time())
        world.read(b"x")
        await trio.sleep(drawn.expovariate(1 / apart_s))
    await trio.sleep(2 * BUSY_S)
    waited_s = [end - begin for begin, end in zip(came_at, world.handed_on_at, strict=True)]
    assert max(waited_s) <= BUSY_S + 1e-9
    assert mean(waited_s) <= 0.75 * longest_s
    assert len(set(world.handed_on_at)) < 0.6 * len(came_at)


async def test_what_is_held_before_anybody_waits_is_handed_on_all_the_same(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World(DELIVERIES_MIN)
    await world.busy()
    world.read(b"1")
    nursery.start_soon(make_due_turns, world.engine)
    await trio.sleep(2 * GATHER_S)
    assert world.handed_on == [b"1"]


async def test_any_turn_hands_on_when_the_time_is_over(autojump_clock: MockClock) -> None:
    world = World(DELIVERIES_MIN)
    await world.busy()
    world.read(b"1")
    with world.engine.turn:
        pass
    assert world.handed_on == []
    await trio.sleep(2 * GATHER_S)
    with world.engine.turn:
        pass
    assert world.handed_on == [b"1"]


async def test_as_much_as_fits_into_a_turn_does_not_wait(autojump_clock: MockClock) -> None:
    world = World(DELIVERIES_MIN)
    await world.busy()
    world.read(b"1")
    assert world.handed_on == []
    world.read(*[b"2"] * (HELD_MAX - 1))
    assert len(world.handed_on) == HELD_MAX


async def test_as_many_bytes_as_one_read_brings_do_not_wait_for_more(autojump_clock: MockClock) -> None:
    """Else they would not fit into a small outbox, from which nothing is sent meanwhile."""
    world = World(DELIVERIES_MIN)
    await world.busy()
    half = bytes(HELD_BYTES_MAX // 2)
    world.read(half)
    assert world.handed_on == []
    world.read(half)
    assert world.handed_on == [half, half]
    world.read(half)
    assert len(world.handed_on) == 2


async def test_what_was_forgotten_is_not_handed_on(autojump_clock: MockClock) -> None:
    world = World(DELIVERIES_MIN)
    await world.busy()
    world.read(b"1")
    world.gather.forget()
    await trio.sleep(2 * RECENT_S)
    world.read(b"2")
    assert world.handed_on == [b"2"]


async def test_a_message_that_nobody_expected_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)
    world = World(1)

    def hand_on(message: Message) -> None:
        if message.payload == b"2":
            raise ZeroDivisionError
        world.handed_on.append(message.payload)

    world.gather = Gather(world.engine, hand_on)
    world.read(b"1", b"2", b"3")
    assert world.handed_on == [b"1", b"3"]
    assert world.engine.counters.link_bugs == 1
