"""Waiting for the pump's sockets without a turn of Trio's loop, as long as nobody else in Trio wants one.

A turn costs about 15 µs, three times what a small message costs altogether.  So after a round the pump waits for
its own next event here, for a millisecond at most, and gives way at once when a task can run or Trio's own epoll
has an event: nobody is delayed by more than Trio's own timer resolution.

Falling asleep and being woken costs some 10 µs of CPU and 50 µs until it has happened, more on a virtual machine.
So where the last answer came within `SPIN_S`, the next one is looked out for as long before going to sleep.  One
that does not come ends the looking out until an answer is that quick again, so that a quiet broker sleeps.  What is
found while looking out is served without asking again, so a round then has one poll.

Trio does not publish its run queue and its epoll, so they are looked up with care: where they are not as expected,
`linger_for` gives None and every wait goes through Trio.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sized
from time import perf_counter

import trio

LINGER_S = 0.001
"""The least that epoll can wait; Trio's own timeouts are rounded up to it, too."""

SPIN_S = 0.00005
"""How long to look out for an event while awake."""

QUICK_S = 2 * SPIN_S
"""Slept for less than this, waking included: it would have been better to stay awake."""


class Linger:
    """One pump's short way to its next event.

    Args:
        own: the pump's epoll.
        trios: Trio's epoll, as a file descriptor.
        runnable: the tasks that Trio would run next.
        may_spin: whether the peers have a core to themselves, so that looking out takes nothing from them.
    """

    def __init__(self, own: select.epoll, trios: int, runnable: Sized, may_spin: bool) -> None:
        self._own = own
        self._runnable = runnable
        self._may_spin = may_spin
        self._spinning = False
        self._trios = trios
        self._both = select.epoll()
        self._both.register(own.fileno(), select.EPOLLIN)
        self._both.register(trios, select.EPOLLIN)

    def wait(self, count_max: int) -> list[tuple[int, int]]:
        """What is ready of the pump's sockets, as their epoll tells it; nothing where somebody else wants to run.

        Args:
            count_max: how many at most.
        """
        if self._runnable:
            return []
        if self._spinning:
            ready = self._spin(count_max)
            if ready:
                return ready
        asleep_since = perf_counter()
        ready = self._both.poll(LINGER_S, 2)
        was_quick = len(ready) > 0 and perf_counter() - asleep_since < QUICK_S
        self._spinning = was_quick and self._may_spin
        if len(ready) == 1 and ready[0][0] != self._trios:
            return self._own.poll(0, count_max)
        return []

    def others_wait(self) -> bool:
        """Whether a task of Trio's could run, or an event of Trio's own is there for one."""
        if self._runnable:
            return True
        ready = [fd for fd, _ in self._both.poll(0, 2)]
        return self._trios in ready

    def _spin(self, count_max: int) -> list[tuple[int, int]]:
        # Trio's events are not looked at meanwhile: the pump's turn, which ends soon, is not theirs anyway.
        poll = self._own.poll
        until = perf_counter() + SPIN_S
        while True:
            ready = poll(0, count_max)
            if ready or perf_counter() > until:
                return ready

    def close(self) -> None:
        """Close the descriptors that lingering needed."""
        self._both.close()


class SteadyClock:
    """Trio's own clock without its four calls: the same seconds.

    Args:
        offset: what Trio's adds to `perf_counter`.
    """

    def __init__(self, offset: float) -> None:
        self._offset = offset

    def now(self) -> float:
        """The time in seconds, as `trio.current_time` gives it."""
        return perf_counter() + self._offset


def clock_of_trio() -> Callable[[], float]:
    """What `trio.current_time` says, in the shortest way for the clock of the running loop."""
    clock = trio.lowlevel.current_clock()
    offset = getattr(clock, "offset", None)
    if type(clock).__name__ == "SystemClock" and isinstance(offset, float):
        return SteadyClock(offset).now
    return trio.current_time


def linger_for(own: select.epoll) -> Linger | None:
    """For the running Trio loop; None where this Trio keeps its things elsewhere."""
    try:
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        trios, runnable = runner.io_manager._epoll.fileno(), runner.runq
        len(runnable)
        return Linger(own, trios, runnable, (os.cpu_count() or 1) > 1)
    except (AttributeError, TypeError, OSError):
        return None
