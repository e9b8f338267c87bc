"""What the log brings goes on at once, or in groups where it goes to many; in its order either way."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from broker.cluster.gather import DELIVERIES_MIN, GATHER_S, HELD_BYTES_MAX, HELD_MAX, Gather
from broker.core.engine import Engine
from protocol.nats.wire import Message


class World:
    """A log whose every message goes to `fan_out` clients."""

    def __init__(self, fan_out: int) -> None:
        self.engine = Engine()
        self.engine.turn.clock = trio.current_time
        self.handed_on: list[bytes] = []
        self.fan_out = fan_out
        self.gather = Gather(self.engine, self._hand_on)

    def _hand_on(self, message: Message) -> None:
        self.handed_on.append(message.payload)
        self.engine.counters.publishes_sent += self.fan_out

    def read(self, *payloads: bytes) -> None:
        """One read of the socket."""
        with self.engine.turn:
            for payload in payloads:
                self.gather.take(Message(b"t", 1, b"", b"", payload))


async def test_what_goes_to_few_is_handed_on_at_once() -> None:
    world = World(DELIVERIES_MIN - 1)
    world.read(b"1", b"2")
    world.read(b"3")
    assert world.handed_on == [b"1", b"2", b"3"]


async def test_what_goes_to_many_comes_in_groups_and_the_first_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World(DELIVERIES_MIN)
    nursery.start_soon(world.gather.run)
    await trio.testing.wait_all_tasks_blocked()
    world.read(b"1", b"2")
    assert world.handed_on == [b"1", b"2"]
    world.read(b"3")
    world.read(b"4")
    assert world.handed_on == [b"1", b"2"]
    await trio.sleep(2 * GATHER_S)
    assert world.handed_on == [b"1", b"2", b"3", b"4"]
    await trio.sleep(2 * GATHER_S)
    world.read(b"5")
    assert world.handed_on[4:] == [b"5"]


async def test_what_is_held_before_anybody_waits_is_handed_on_all_the_same(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    world = World(DELIVERIES_MIN)
    world.read(b"1")
    world.read(b"2")
    nursery.start_soon(world.gather.run)
    await trio.sleep(2 * GATHER_S)
    assert world.handed_on == [b"1", b"2"]


async def test_any_turn_hands_on_when_the_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    world = World(DELIVERIES_MIN)
    world.read(b"1")
    world.read(b"2")
    with world.engine.turn:
        assert world.handed_on == [b"1"]
    await trio.sleep(GATHER_S)
    with world.engine.turn:
        pass
    assert world.handed_on == [b"1", b"2"]


async def test_as_much_as_fits_into_a_turn_does_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    world = World(DELIVERIES_MIN)
    world.read(b"1")
    world.read(*[b"2"] * HELD_MAX)
    assert len(world.handed_on) == 1 + HELD_MAX


async def test_as_many_bytes_as_one_read_brings_do_not_wait_for_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else they would not fit into a small outbox, from which nothing is sent meanwhile."""
    world = World(DELIVERIES_MIN)
    world.read(b"1")
    half = bytes(HELD_BYTES_MAX // 2)
    world.read(half)
    assert world.handed_on == [b"1"]
    world.read(half)
    assert world.handed_on == [b"1", half, half]
    world.read(half)
    assert len(world.handed_on) == 3


async def test_what_was_forgotten_is_not_handed_on(autojump_clock: trio.testing.MockClock) -> None:
    world = World(DELIVERIES_MIN)
    world.read(b"1")
    world.read(b"2")
    world.gather.forget()
    await trio.sleep(GATHER_S)
    world.read(b"3")
    assert world.handed_on == [b"1", b"3"]


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
