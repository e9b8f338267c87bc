"""What the loop has the disk's thread do for it."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from broker.storage.disk_thread import DiskThread


def fail() -> None:
    raise OSError("no room")


async def test_it_returns_and_raises_what_the_job_does_in_one_thread_that_is_not_the_loops() -> None:
    disk = DiskThread()
    first = await disk.run(threading.get_ident)
    with pytest.raises(OSError, match="no room"):
        await disk.run(fail)
    assert await disk.run(threading.get_ident) == first != threading.get_ident()
    disk.close()


async def test_others_go_on_while_the_disk_takes_its_time_and_nothing_cancels_it() -> None:
    disk = DiskThread()
    is_ready = threading.Event()
    done: list[bool] = []

    async def wait() -> None:
        done.append(await disk.run(is_ready.wait))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        nursery.cancel_scope.cancel()
        is_ready.set()
    assert done == [True]
    disk.close()


async def test_its_thread_ends_with_it() -> None:
    disk = DiskThread()
    thread = await disk.run(threading.current_thread)
    disk.close()
    await trio.to_thread.run_sync(thread.join)
    disk.close()
