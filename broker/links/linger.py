"""Waiting for the pump's sockets without a turn of Trio's loop, as long as nobody else in Trio wants one.

A turn costs about 15 µs, three times what a small message costs altogether.  So after a round the pump waits for
its own next event here, for `LINGER_MAX_S` at most, and gives way at once when a task can run, when Trio's own
epoll has an event, and when somebody's deadline has come.  Which tasks can run an instrument of Trio's is told;
where the deadlines can't be asked for, it waits a millisecond, to which Trio's own timeouts are rounded up, too.

That costs more: a timer that is so near is set and taken back in the hardware for each wait.

One epoll is asked, the pump's, and meanwhile it has Trio's among its sockets; while Trio waits it is the other way
round, since the kernel has no circles.  A third one around both would take 3 µs more for each message.  To give Trio
the pump's makes the kernel look through all sockets in it, half a millisecond with 9 000: so that is done only after
some seconds in which nothing came.  Until then whoever else wants to run has a turn of Trio's, and the pump goes on.

Falling asleep and being woken costs some 10 µs of CPU and 50 µs until it has happened, more on a virtual machine.
So where most answers came within `QUICK_S` lately, three of five, the next one is looked out for during `SPIN_S` before
going to sleep: a quiet broker sleeps, and so does one whose peers take a little longer, such as those who compute a TLS
handshake.  Nobody looks out behind a round in which somebody came, entered or subscribed: that costs more CPU than it
saves, and clients that connect do not wait for microseconds.  What is found while looking out is served without asking
again, so a round then has one poll.

Trio does not publish its epoll, so it is looked up with care: where it is not as expected, `linger_for` gives None and
every wait goes through Trio.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sized
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import trio

from broker.core.turn import NEVER

LINGER_S: Final = 0.001
"""The least that epoll can wait; Trio's own timeouts are rounded up to it, too."""

LINGER_MAX_S: Final = 0.5
"""Where it is known when somebody wants to be woken."""

SELECTED_MAX: Final = 1024
"""Descriptors below it can be selected."""

SHORT_S: Final = 0.002
"""What is to be waited for no longer than this, `select` waits for: epoll would make a millisecond of each part."""

QUIET_S: Final = 5.0
"""After so long without an event the pump leaves the waiting to Trio."""

SPIN_S: Final = 0.00005
"""How long to look out for an event while awake."""

QUICK_S: Final = 2 * SPIN_S
"""Slept for less than this, waking included: it would have been better to stay awake."""

QUICK_POINTS: Final = 2
LATE_POINTS: Final = 3
"""What a quick answer adds to a pump's points, and a late one takes away."""

LOOK_OUT_POINTS: Final = 8
"""With so many the next answer is looked out for."""

POINTS_MAX: Final = 16


class Linger:
    """One pump's short way to its next event.

    Args:
        own: the pump's epoll.
        trios: Trio's epoll.
        runnable: the tasks that could run now, without the pump's own.
        deadlines: when Trio has to wake somebody, by `clock`; None where that is not known.
        clock: seconds.
        may_spin: whether the peers have a core to themselves, so that looking out takes nothing from them.
        idle_awaited: who wants to be told that nothing in Trio goes on; None where that is not known.

    Invariant: `_has_trios` says whether `own` watches Trio's epoll; if so, Trio's does not watch `own`.
    """

    def __init__(
        self,
        own: select.epoll,
        trios: select.epoll,
        runnable: Sized,
        deadlines: Deadlines | None,
        clock: Callable[[], float],
        may_spin: bool,
        idle_awaited: Sized | None = None,
    ) -> None:
        self._own = own
        self._own_fd = own.fileno()
        self._runnable = runnable
        self.knows_deadlines = deadlines is not None
        self._deadlines = deadlines
        self._clock = clock
        self._may_spin = may_spin
        self._points = 0
        """How well it went lately; none where nothing is ever looked out for."""
        self._trios = trios
        self._trios_fd = trios.fileno()
        self._has_trios = False
        self._idle_awaited = idle_awaited
        self._quiet_s = 0.0
        """How long it was waited since the last event of the pump's."""
        self._is_asked = False
        """The last wait has asked Trio's epoll, too."""
        self._others = select.epoll()
        self._others.register(self._trios_fd, select.EPOLLIN)

    def wait(self, count_max: int, may_look_out: bool = True, until: float = NEVER) -> list[tuple[int, int]]:
        """What is ready of the pump's sockets, as their epoll tells it; nothing where somebody else wants to run.

        From now on that epoll may tell of Trio's, too, which is no socket of the pump's.

        Args:
            count_max: how many at most.
            may_look_out: somebody may wait for a message; if not, nothing is learned from how long it takes.
            until: no longer than up to then, by `clock`.
        """
        if self._runnable or self._idle_awaited:
            return []
        if not self._has_trios:
            self._take_trios()
            self._quiet_s = 0.0
        if not may_look_out:
            return self._sleep(count_max, until)
        if self._points >= LOOK_OUT_POINTS:
            ready = self._look_out(count_max)
            self._note(len(ready) > 0)
            if ready:
                return self._unless_trios(ready)
        elif self._may_spin:
            return self._sleep_and_note(count_max, until)
        return self._sleep(count_max, until)

    def _sleep(self, count_max: int, until: float) -> list[tuple[int, int]]:
        seconds = LINGER_S
        if self._deadlines is not None:
            now = self._clock()
            most_s = LINGER_MAX_S if until == NEVER else min(LINGER_MAX_S, until - now)
            seconds = self._deadlines.within(most_s, now)
            if seconds <= 0.0:
                return []
            if until != NEVER and seconds < SHORT_S and self._own_fd < SELECTED_MAX:
                if not select.select((self._own_fd,), (), (), seconds)[0]:
                    self._quiet_s += seconds
                    return []
                seconds = 0.0
        ready = self._own.poll(seconds, count_max)
        if not ready:
            self._quiet_s += seconds
        return self._unless_trios(ready)

    def _sleep_and_note(self, count_max: int, until: float) -> list[tuple[int, int]]:
        asleep_since = perf_counter()
        ready = self._sleep(count_max, until)
        self._note(len(ready) > 0 and perf_counter() - asleep_since < QUICK_S)
        return ready

    def wait_for(self, fd: int, until: float) -> None:
        """Wait for this one alone, no longer than up to then, by `clock`; not where somebody in Trio wants to run."""
        if self._runnable or self._idle_awaited or self._deadlines is None or fd >= SELECTED_MAX:
            return
        now = self._clock()
        seconds = self._deadlines.within(until - now, now)
        if seconds > 0.0:
            select.select((fd,), (), (), seconds)

    def has_come(self, due: float) -> bool:
        """Whether it is so late, by `clock`."""
        return due != NEVER and due <= self._clock()

    def others_wait(self) -> bool:
        """Whether a task of Trio's could run, or wants to be woken by now, or has an event of Trio's own."""
        if self._runnable or (
            self._deadlines is not None and self._deadlines.within(1.0, self._clock()) <= 0.0
        ):
            return True
        if self._is_asked:
            self._is_asked = False
            return False
        return len(self._others.poll(0, 1)) > 0

    def goes_on(self) -> bool:
        """Whether the next wait is to be one of these again, after a turn of Trio's loop."""
        waiting = self._idle_awaited
        return self._has_trios and self._quiet_s < QUIET_S and waiting is not None and not waiting

    def give_trios_back(self) -> None:
        """Trio is going to wait for the pump's epoll."""
        if self._has_trios:
            self._has_trios = False
            self._own.unregister(self._trios_fd)

    def _take_trios(self) -> None:
        with suppress(OSError):  # it is not there before Trio has waited for the first time
            self._trios.unregister(self._own.fileno())
        self._own.register(self._trios_fd, select.EPOLLIN)
        self._has_trios = True

    def _note(self, was_quick: bool) -> None:
        if was_quick:
            self._points = min(POINTS_MAX, self._points + QUICK_POINTS)
        else:
            self._points = max(0, self._points - LATE_POINTS)

    def _unless_trios(self, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Nothing where Trio has an event; the sockets are ready after its turn, too."""
        for fd, _ in ready:
            if fd == self._trios_fd:
                return []
        if ready:
            self._quiet_s = 0.0
            self._is_asked = True
        return ready

    def _look_out(self, count_max: int) -> list[tuple[int, int]]:
        poll = self._own.poll
        until = perf_counter() + SPIN_S
        while True:
            ready = poll(0, count_max)
            if ready or perf_counter() > until:
                return ready

    def close(self) -> None:
        """Close the descriptor that lingering needed."""
        self._others.close()


class Deadlines:
    """When a loop of Trio's has to wake somebody.

    Args:
        next_deadline: says it; interpreted code.
        of: Trio's own object, whose heap tells at least that nobody has to be woken before.
    """

    def __init__(self, next_deadline: Callable[[], float], of: Any) -> None:
        self._next_deadline = next_deadline
        self._of = of
        self._has_heap = isinstance(getattr(of, "_heap", None), list)

    def within(self, most_s: float, now: float) -> float:
        """The seconds until then, or fewer, `most_s` at most; none, or less, where it has come."""
        if self._has_heap:
            heap: list[tuple[object, ...]] = self._of._heap
            if not heap:
                return most_s
            first = heap[0][0]  # perhaps of somebody who need not be woken any more; nobody has to be before
            if isinstance(first, float) and first > now:
                left_s = first - now
                return left_s if left_s < most_s else most_s
        return min(most_s, self._next_deadline() - now)


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


def linger_for(own: select.epoll, runnable: Sized) -> Linger | None:
    """For the running Trio loop; None where this Trio keeps its things elsewhere."""
    try:
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        trios = runner.io_manager._epoll
        trios.fileno()
    except (AttributeError, OSError):
        return None
    may_spin = (os.cpu_count() or 1) > 1
    deadlines = _deadlines_of(runner)
    idle_awaited = None if deadlines is None else getattr(runner, "waiting_for_idle", None)
    return Linger(own, trios, runnable, deadlines, clock_of_trio(), may_spin, idle_awaited)


def _deadlines_of(runner: object) -> Deadlines | None:
    """What says when this loop has to wake somebody, in seconds of a clock that goes as ours does.

    A loop that is a guest in another must not be kept from it.
    """
    if getattr(runner, "is_guest", True) or type(trio.lowlevel.current_clock()).__name__ != "SystemClock":
        return None
    trios = getattr(runner, "deadlines", None)
    found = getattr(trios, "next_deadline", None)
    return Deadlines(found, trios) if callable(found) and isinstance(found(), float) else None
