"""The pump's short way to its next event: taken only while nobody else in Trio wants to run."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from broker.links.linger import QUICK_S, SPIN_S, Linger, linger_for


@pytest.fixture
def own() -> Iterator[select.epoll]:
    epoll = select.epoll()
    yield epoll
    epoll.close()


@pytest.fixture
def pair(own: select.epoll) -> Iterator[socket.socket]:
    """The far end of a socket that `own` watches."""
    near, far = socket.socketpair()
    with near, far:
        own.register(near.fileno(), select.EPOLLIN)
        yield far


def lingering(own: select.epoll) -> Linger:
    linger = linger_for(own)
    assert linger is not None, "this Trio keeps its run queue or its epoll elsewhere: adapt linger_for"
    return linger


async def test_a_ready_socket_is_waited_for(own: select.epoll, pair: socket.socket) -> None:
    linger = lingering(own)
    assert not linger.wait(8)
    pair.send(b"x")
    assert linger.wait(8)
    linger.close()


async def test_a_task_that_can_run_goes_first(own: select.epoll, pair: socket.socket) -> None:
    linger = lingering(own)
    pair.send(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        assert not linger.wait(8)
    assert linger.wait(8)
    linger.close()


async def test_an_event_for_another_task_goes_first(own: select.epoll, pair: socket.socket) -> None:
    linger = lingering(own)
    ours, far = socket.socketpair()
    near = trio.socket.from_stdlib_socket(ours)
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await near.recv(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        far.send(b"y")
        pair.send(b"x")
        assert not linger.wait(8)
    assert received == [b"y"]
    linger.close()
    near.close()
    far.close()


async def test_others_wait_while_a_task_can_run_or_has_an_event(own: select.epoll) -> None:
    linger = lingering(own)
    assert not linger.others_wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        assert linger.others_wait()
    ours, far = socket.socketpair()
    near = trio.socket.from_stdlib_socket(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.recv, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not linger.others_wait()
        far.send(b"y")
        assert linger.others_wait()
    linger.close()
    near.close()
    far.close()


class Clock:
    """The times that a linger reads, and how often it has read since the last count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: list[float] = []
        monkeypatch.setattr("broker.links.linger.perf_counter", lambda: self.times.pop(0))

    def goes(self, *times: float) -> None:
        assert not self.times, "it was read less often than before"
        self.times = list(times)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return Clock(monkeypatch)


async def test_after_a_quick_answer_the_next_is_looked_out_for_until_one_is_late(
    own: select.epoll, pair: socket.socket, clock: Clock
) -> None:
    linger = lingering(own)
    pair.send(b"x")
    clock.goes(0.0, QUICK_S / 2)
    assert linger.wait(8)
    clock.goes(1.0)  # awake: found at the first look
    assert linger.wait(8)
    own.unregister(next(fd for fd, _ in own.poll(0)))
    clock.goes(2.0, 2.0 + SPIN_S / 2, 2.0 + 2 * SPIN_S, 3.0)  # awake, looking twice, then asleep in vain
    assert not linger.wait(8)
    own.register(pair.fileno(), select.EPOLLOUT)
    clock.goes(4.0, 4.0 + 2 * QUICK_S)  # asleep at once; and it took long
    assert linger.wait(8)
    clock.goes(5.0, 5.0)
    assert linger.wait(8)
    linger.close()


async def test_on_one_core_nothing_is_looked_out_for(
    own: select.epoll, pair: socket.socket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    linger = lingering(own)
    pair.send(b"x")
    for _ in range(2):
        clock.goes(0.0, 0.0)  # asleep, for no time, each time
        assert linger.wait(8)
    linger.close()


async def test_another_trio_is_simply_gone_through(
    own: select.epoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = SimpleNamespace(runner=SimpleNamespace())
    with monkeypatch.context() as patch:
        patch.setattr("trio._core._run.GLOBAL_RUN_CONTEXT", elsewhere)
        assert linger_for(own) is None
