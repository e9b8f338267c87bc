"""The pump's short way to its next event: taken only while nobody else in Trio wants to run."""

from __future__ import annotations

import math
import select
import socket
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import pytest
import trio
import trio.lowlevel
import trio.testing

from broker.core.turn import NEVER
from broker.links.linger import (
    LATE_POINTS,
    LOOK_OUT_POINTS,
    POINTS_MAX,
    QUICK_POINTS,
    QUICK_S,
    QUIET_S,
    SPIN_S,
    Deadlines,
    Linger,
    _deadlines_of,
    linger_for,
)
from broker.links.readiness import Epoll
from broker.links.runnable import RunnableTasks


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
    others = RunnableTasks()
    trio.lowlevel.add_instrument(others)
    linger = linger_for(own, others.runnable)
    assert linger is not None, "this Trio keeps its epoll elsewhere: adapt linger_for"
    return linger


def lingering_without_deadlines(own: select.epoll) -> Linger:
    """One that reads the clock for its own purposes only."""
    linger = lingering(own)
    linger._deadlines = None
    return linger


async def test_a_ready_socket_is_waited_for(own: select.epoll, pair: socket.socket) -> None:
    linger = lingering(own)
    assert not linger.wait(8)
    pair.send(b"x")
    assert linger.wait(8)
    linger.close()


@pytest.mark.parametrize(("may_look_out", "learned"), [(True, QUICK_POINTS), (False, 0)])
async def test_nothing_is_learned_where_nobody_is_in_a_hurry(
    own: select.epoll, pair: socket.socket, may_look_out: bool, learned: int
) -> None:
    linger = lingering(own)
    linger._points = LOOK_OUT_POINTS
    pair.send(b"x")
    assert linger.wait(8, may_look_out)
    assert linger._points == LOOK_OUT_POINTS + learned
    linger.close()


@pytest.mark.parametrize("says", [True, False])
async def test_one_socket_is_waited_for_alone_and_no_longer_than_told(
    own: select.epoll, pair: socket.socket, says: bool
) -> None:
    linger = lingering(own)
    pair.send(b"x")
    near, far = socket.socketpair()
    with near, far:
        if says:
            far.send(b"answer")
        began = trio.current_time()
        linger.wait_for(near.fileno(), began + (60.0 if says else 0.02))
        assert (trio.current_time() - began >= 0.02) is not says
    linger.close()


async def test_no_socket_is_waited_for_alone_where_a_task_can_run_or_has_to_be_woken(
    own: select.epoll,
) -> None:
    linger = lingering(own)
    near, far = socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            linger.wait_for(near.fileno(), math.inf)
        with trio.move_on_after(0.01) as woken:
            await trio.lowlevel.checkpoint()
            linger.wait_for(near.fileno(), trio.current_time() + 60.0)
            await trio.sleep_forever()
        assert woken.cancelled_caught
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
        monkeypatch.setattr(
            "broker.links.linger._deadlines_of", lambda _: None
        )  # which would read the clock, too

    def goes(self, *times: float) -> None:
        assert not self.times, "it was read less often than before"
        self.times = list(times)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return Clock(monkeypatch)


def answers_come(linger: Linger, clock: Clock, after_s: float, count: int) -> None:
    for _ in range(count):
        clock.goes(0.0, after_s)  # asleep
        assert linger.wait(8)


def looks_out_in_vain(linger: Linger, clock: Clock, own: select.epoll, near: int) -> None:
    own.unregister(near)
    clock.goes(2.0, 2.0 + SPIN_S / 2, 2.0 + 2 * SPIN_S)  # awake, looking twice, then asleep in vain
    assert not linger.wait(8)
    own.register(near, select.EPOLLIN)


def looks_out(linger: Linger, clock: Clock) -> None:
    clock.goes(1.0)  # found at the first look
    assert linger.wait(8)


async def test_after_quick_answers_the_next_is_looked_out_for_until_some_are_late(
    own: select.epoll, pair: socket.socket, clock: Clock
) -> None:
    linger = lingering_without_deadlines(own)
    pair.send(b"x")
    near = own.poll(0)[0][0]
    answers_come(linger, clock, QUICK_S / 2, LOOK_OUT_POINTS // QUICK_POINTS - 1)
    answers_come(linger, clock, 2 * QUICK_S, 1)
    answers_come(linger, clock, QUICK_S / 2, LOOK_OUT_POINTS // QUICK_POINTS - 1)
    for _ in range(POINTS_MAX):
        looks_out(linger, clock)
    for _ in range((POINTS_MAX - LOOK_OUT_POINTS) // LATE_POINTS + 1):
        looks_out_in_vain(linger, clock, own, near)
    answers_come(linger, clock, QUICK_S / 2, 1)  # asleep at once
    linger.close()


@pytest.mark.parametrize(("late_of_five", "does"), [(2, True), (3, False)])
async def test_two_late_answers_of_five_are_worth_it_and_three_are_not(
    own: select.epoll, pair: socket.socket, clock: Clock, late_of_five: int, does: bool
) -> None:
    linger = lingering_without_deadlines(own)
    pair.send(b"x")
    near = own.poll(0)[0][0]
    answers_come(linger, clock, QUICK_S / 2, LOOK_OUT_POINTS // QUICK_POINTS)
    for number in range(50):
        is_late = number % 5 >= 5 - late_of_five
        if linger._points < LOOK_OUT_POINTS:
            answers_come(linger, clock, 2 * QUICK_S if is_late else QUICK_S / 2, 1)
        elif is_late:
            looks_out_in_vain(linger, clock, own, near)
        else:
            looks_out(linger, clock)
    assert (linger._points + LATE_POINTS >= LOOK_OUT_POINTS) is does
    linger.close()


@pytest.fixture
async def watched() -> AsyncIterator[tuple[Epoll, Linger, socket.socket, socket.socket]]:
    """A pump's epoll, its linger, a socket that it watches, and the far end of that."""
    readiness = Epoll()
    near, far = socket.socketpair()
    with near, far:
        readiness.register(near.fileno(), select.EPOLLIN)
        linger = readiness.linger()
        assert linger is not None
        yield readiness, linger, near, far
    readiness.close()


Watched = tuple[Epoll, Linger, socket.socket, socket.socket]


async def test_trio_has_its_epoll_back_while_it_waits(watched: Watched) -> None:
    readiness, linger, near, far = watched
    for _ in range(3):
        far.send(b"x")
        with trio.fail_after(60):
            await readiness.wait()
        assert linger.wait(8) == [(near.fileno(), select.EPOLLIN)]
        near.recv(1)
        linger._quiet_s = QUIET_S
    far.send(b"x")
    with trio.fail_after(60):
        await readiness.wait()


async def test_after_an_event_others_have_a_turn_and_trio_is_not_given_all_sockets(watched: Watched) -> None:
    readiness, linger, near, far = watched
    far.send(b"x")
    await readiness.wait()
    assert linger.wait(8)
    near.recv(1)
    ran: list[int] = []

    async def other() -> None:
        ran.append(len(ran))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert not linger.wait(8)
        await readiness.wait()  # though there is nothing to read
    assert ran
    assert linger._has_trios
    assert linger._quiet_s == 0.0


async def test_what_was_waited_in_vain_is_counted(watched: Watched) -> None:
    _, linger, near, far = watched
    far.send(b"x")
    assert linger.wait(8)
    assert linger.goes_on()
    near.recv(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0.01)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert not linger.wait(8)  # until that one wants to be woken
        assert linger._quiet_s > 0.0
    linger._quiet_s = QUIET_S
    assert not linger.goes_on()
    far.send(b"x")
    assert linger.wait(8)
    assert linger.goes_on()


async def test_who_waits_until_nothing_goes_on_is_told_while_a_pump_waits(watched: Watched) -> None:
    readiness, linger, near, far = watched

    async def pump() -> None:
        while True:
            await readiness.wait()
            if (near.fileno(), select.EPOLLIN) in (readiness.poll(0, 8) or linger.wait(8)):
                near.recv(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump)
        far.send(b"x")
        with trio.fail_after(60):
            for _ in range(3):
                await trio.testing.wait_all_tasks_blocked()
                far.send(b"x")
        nursery.cancel_scope.cancel()


class Heap:
    """Deadlines as Trio has them, of which the first may be of somebody who need not be woken any more."""

    def __init__(self, *deadlines: float) -> None:
        self._heap = [(deadline, 0, None) for deadline in deadlines]
        self.asked = 0

    def next_deadline(self) -> float:
        self.asked += 1
        return self._heap[-1][0] if self._heap else math.inf


@pytest.mark.parametrize(
    ("heap", "within", "asked"),
    [
        (Heap(), 0.5, 0),
        (Heap(100.5), 0.5, 0),
        (Heap(200.0), 0.5, 0),
        (Heap(100.25), 0.25, 0),
        (Heap(100.25, 200.0), 0.25, 0),
        (Heap(99.0), -1.0, 1),
        (Heap(99.0, 200.0), 0.5, 1),
        (Heap(101), 0.5, 1),
    ],
)
def test_trio_is_asked_for_a_deadline_only_if_one_may_have_come(
    heap: Heap, within: float, asked: int
) -> None:
    assert Deadlines(heap.next_deadline, heap).within(0.5, 100.0) == within
    assert heap.asked == asked


def test_where_there_is_no_heap_trio_is_asked() -> None:
    assert Deadlines(Soon().next_deadline, Soon()).within(0.5, 0.75) == 0.25


async def test_who_wants_to_be_woken_goes_first(own: select.epoll, pair: socket.socket) -> None:
    linger = lingering(own)
    pair.send(b"x")
    woken = trio.Event()

    async def sleep() -> None:
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(0):
            await trio.sleep_forever()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep)
        while not woken.is_set():
            assert not linger.wait(8)
            await trio.lowlevel.checkpoint()
    assert linger.wait(8)
    linger.close()


async def test_a_deadline_that_has_come_is_waited_for_no_longer(own: select.epoll) -> None:
    linger = lingering(own)
    deadlines = linger._deadlines
    assert deadlines is not None, "this Trio keeps its deadlines elsewhere: adapt _deadlines_of"
    assert deadlines._has_heap, "this Trio keeps its heap elsewhere: adapt Deadlines"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0.01)
        await trio.testing.wait_all_tasks_blocked()
        waits = 0
        while deadlines.within(1.0, trio.current_time()) > 0.0:
            assert not linger.wait(8)
            waits += 1
        assert waits < 100  # each sleeps
    linger.close()


async def test_it_waits_no_longer_than_it_is_told(own: select.epoll) -> None:
    linger = lingering(own)
    assert not linger.has_come(NEVER)
    until = trio.current_time() + 0.01
    waits = 0
    while not linger.has_come(until):
        assert not linger.wait(8, until=until)
        waits += 1
    assert waits < 100  # each sleeps
    assert not linger.wait(8, until=until)
    linger.close()


def test_a_mocked_clock_and_a_guest_are_not_asked_for_deadlines() -> None:
    async def asks() -> bool:
        return _deadlines_of(SimpleNamespace(is_guest=False, deadlines=Soon())) is not None

    async def asks_a_guest() -> bool:
        return _deadlines_of(SimpleNamespace(is_guest=True, deadlines=Soon())) is not None

    async def asks_another() -> bool:
        return _deadlines_of(SimpleNamespace(is_guest=False)) is not None

    assert trio.run(asks)
    assert not trio.run(asks_a_guest)
    assert not trio.run(asks_another)
    assert not trio.run(asks, clock=trio.testing.MockClock())


class Soon:
    """A loop's deadlines."""

    def next_deadline(self) -> float:
        return 1.0


async def test_on_one_core_nothing_is_looked_out_for(
    own: select.epoll, pair: socket.socket, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    linger = lingering_without_deadlines(own)
    pair.send(b"x")
    for _ in range(POINTS_MAX):
        assert linger.wait(8)  # asleep each time, and no clock is read
    linger.close()


async def test_another_trio_is_simply_gone_through(
    own: select.epoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = SimpleNamespace(runner=SimpleNamespace())
    with monkeypatch.context() as patch:
        patch.setattr("trio._core._run.GLOBAL_RUN_CONTEXT", elsewhere)
        assert linger_for(own, ()) is None
