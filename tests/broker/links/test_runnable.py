"""Which tasks could run is known from when they are woken until they run."""

from __future__ import annotations

import trio

from broker.links.runnable import RunnableTasks


async def test_a_task_is_there_from_when_it_can_run_until_it_does() -> None:
    tasks = RunnableTasks()
    trio.lowlevel.add_instrument(tasks)
    ran = trio.Event()

    async def run() -> None:
        ran.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        assert len(tasks.runnable) == 1
        await ran.wait()
        assert not tasks.runnable
    trio.lowlevel.remove_instrument(tasks)
