"""Who delivers what a listening feed's connection has: the feed's task, or the loop of its outlet that saw it come.

A turn of Trio's takes longer than a row does.  So where the outlet's loop can watch the connection, rows are delivered
there, in a turn of its own, and the task sleeps on.  The task has what must wait for something, and what fails.

Invariant: one of the two reads the connection, the loop while the task is in `wait`, the task at all other times.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import trio

from broker.feed.listen.listener import MUCH, PIECE, Listener
from broker.feed.outlet import FeedOutlet, Watch, Watching
from protocol.notifications import Notification


class Attention:
    """From the moment on that a feed is live, until `close`.

    Args:
        deliver: hands on a few that have come, from inside a turn; False if something is left that the task has to do.
        deliver_many: the same for what `Listener.arrivals` has.
    """

    def __init__(
        self,
        outlet: FeedOutlet,
        listener: Listener,
        deliver: Callable[[list[Notification]], bool],
        deliver_many: Callable[[], bool],
    ) -> None:
        self._listener = listener
        self._deliver = deliver
        self._deliver_many = deliver_many
        self._watch: Watch | None = None
        if isinstance(outlet, Watching):
            self._watch = outlet.watch(listener.fileno(), self._rung)
        self._is_watched = False
        self._news: trio.Event | None = None
        """What the task waits for while it leaves the connection to the loop."""
        self._error: psycopg.Error | None = None

    async def wait(self) -> None:
        """Until there is something for the task: then `Listener.arrivals` is to be asked.

        Raises:
            psycopg.OperationalError: the connection has ended.
        """
        watch = self._watch
        if watch is None or self._listener.has_arrived:
            await self._listener.wait()
            return
        if not self._is_watched:
            watch.begin()
            self._is_watched = True
        news = self._news = trio.Event()
        try:
            await news.wait()
        finally:
            self._news = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """The connection is not watched any more."""
        if self._watch is not None and self._is_watched:
            self._is_watched = False
            self._watch.end()

    def _rung(self) -> None:
        news = self._news
        if news is None:  # the task is at work, and will see it
            self.close()
            return
        try:
            is_all = self._deliver_what_comes()
        except psycopg.Error as error:  # no matter of the outlet's loop
            self._error = error
            is_all = False
        if not is_all:
            self._news = None
            news.set()

    def _deliver_what_comes(self) -> bool:
        """Whether there is nothing left for the task.

        Where several came, the next are often there when these are handed on: then one send to each reader has both.
        """
        taken = 0
        while True:
            few = self._listener.few()
            if few is None:
                return self._deliver_many()
            if not self._deliver(few):
                return False
            taken += len(few)
            if len(few) < MUCH or taken > PIECE:
                return True
