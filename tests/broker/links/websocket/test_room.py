from __future__ import annotations

import trio
import trio.testing

from broker.links.websocket.room import LOOK_S, READINGS_HELD_MAX, Room


async def test_there_is_room_for_so_many_readings_and_for_the_next_when_one_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    room, held = Room(), set(range(READINGS_HELD_MAX))

    def add(number: int) -> None:
        room.add(lambda: number in held)

    for number in range(READINGS_HELD_MAX):
        await room.wait()
        add(number)
    with trio.move_on_after(10 * LOOK_S) as waiting:
        await room.wait()
    assert waiting.cancelled_caught
    held.remove(3)
    with trio.fail_after(LOOK_S):
        await room.wait()
    await room.wait()  # nobody has taken it meanwhile
    add(0)
    with trio.move_on_after(LOOK_S) as waiting:
        await room.wait()
    assert waiting.cancelled_caught
