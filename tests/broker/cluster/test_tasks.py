"""Tasks that synchronous code starts."""

from __future__ import annotations

import pytest
import trio

from broker.cluster.tasks import Tasks


async def test_they_run_while_there_is_somebody_and_not_before_or_after() -> None:
    tasks = Tasks()
    ran: list[str] = []

    async def work(name: str) -> None:
        ran.append(name)

    tasks.start(work, "before")
    async with tasks.opened():
        tasks.start(work, "meanwhile")
    assert ran == ["meanwhile"]
    tasks.start(work, "after")
    await trio.testing.wait_all_tasks_blocked()
    assert ran == ["meanwhile"]


async def test_they_end_with_who_has_opened_it(autojump_clock: object) -> None:
    tasks = Tasks()
    with trio.move_on_after(5) as scope:
        async with tasks.opened():
            tasks.start(trio.sleep_forever)
    assert scope.cancelled_caught
    with pytest.RaisesGroup(KeyError):
        async with tasks.opened():
            raise KeyError
    tasks.start(trio.sleep_forever)


async def test_what_fails_ends_all(autojump_clock: object) -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise KeyError

    with pytest.RaisesGroup(KeyError):
        async with tasks.opened():
            tasks.start(fail)
            await trio.sleep_forever()
