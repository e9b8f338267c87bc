"""Waiting for the pump's sockets without a turn of Trio's loop, as long as nobody else in Trio wants one.

A turn costs about 15 µs, three times what a small message costs altogether.  So after a round the pump waits for
its own next event here, for a millisecond at most, and gives way at once when a task can run or Trio's own epoll
has an event: nobody is delayed by more than Trio's own timer resolution.

Trio does not publish its run queue and its epoll, so they are looked up with care: where they are not as expected,
`linger_for` gives None and every wait goes through Trio.
"""

from __future__ import annotations

import select
from collections.abc import Sized

import trio

LINGER_S = 0.001
"""The least that epoll can wait; Trio's own timeouts are rounded up to it, too."""


class Linger:
    """One pump's short way to its next event.

    Args:
        own: the pump's epoll.
        trios: Trio's epoll, as a file descriptor.
        runnable: the tasks that Trio would run next.
    """

    def __init__(self, own: select.epoll, trios: int, runnable: Sized) -> None:
        self._runnable = runnable
        self._trios = trios
        self._both = select.epoll()
        self._both.register(own.fileno(), select.EPOLLIN)
        self._both.register(trios, select.EPOLLIN)

    def wait(self) -> bool:
        """Whether the pump's sockets are ready and nobody else wants to run."""
        if self._runnable:
            return False
        ready = self._both.poll(LINGER_S)
        return len(ready) == 1 and ready[0][0] != self._trios

    def close(self) -> None:
        self._both.close()


def linger_for(own: select.epoll) -> Linger | None:
    """For the running Trio loop; None where this Trio keeps its things elsewhere."""
    try:
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        trios, runnable = runner.io_manager._epoll.fileno(), runner.runq
        len(runnable)
        return Linger(own, trios, runnable)
    except (AttributeError, TypeError, OSError):
        return None
