"""A thread that waits for the disk in the loop's place, for what is done so often that handing over counts.

What it has done it says with a byte to a socket: where the pump watches that, beside the sockets of clients, its own
turn goes on with what waited, and no task of Trio's has to be woken, which takes as long as an fsync of a fast disk.
Where nobody watches, a task waits for each job.

Hot: compiled.

Invariant: one job at a time; `done` of each is called once, in the loop's thread.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

import trio

Result = TypeVar("Result")
Job = Callable[[], object]
Done = Callable[[BaseException | None], None]


class DiskThread:
    """Runs one thing after the other; the thread begins with the first and ends with `close`.

    Attributes:
        is_watched: somebody calls `collect` when `fileno` is readable.
    """

    def __init__(self) -> None:
        self.is_watched = False
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._done: Done | None = None
        self._error: BaseException | None = None

    def fileno(self) -> int:
        """A descriptor that is readable when a job is done."""
        return self._here.fileno()

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` in the thread, and then tell the loop that it is done, and what it raised if it did.

        It can't be cancelled: the disk can't, either.
        """
        self._done = done
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="rowcast disk", daemon=True)
            self._worker.start()
        self._jobs.put(job)
        if not self.is_watched:
            trio.lowlevel.spawn_system_task(self._wait)

    async def run(self, job: Callable[[], Result]) -> Result:
        """What `job` returns or raises, in the thread."""
        task = trio.lowlevel.current_task()
        results: list[Result] = []
        errors: list[BaseException] = []

        def done(error: BaseException | None) -> None:
            if error is not None:
                errors.append(error)
            trio.lowlevel.reschedule(task)

        self.submit(lambda: results.append(job()), done)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if errors:
            raise errors[0]
        return results[0]

    def collect(self) -> None:
        """Tell what the thread has done, if it has."""
        try:
            self._here.recv(1)
        except BlockingIOError:
            return
        done, self._done = self._done, None
        error, self._error = self._error, None
        if done is not None:
            done(error)

    def unwatch(self) -> None:
        """Nobody watches any more; who waits for a job is told all the same."""
        if self.is_watched:
            self.is_watched = False
            if self._done is not None:
                trio.lowlevel.spawn_system_task(self._wait)

    def close(self) -> None:
        """Nothing more is to be run, and nothing is being run."""
        self._jobs.put(None)
        self.is_watched = False
        self._here.close()
        if self._worker is None:
            self._there.close()

    async def _wait(self) -> None:
        with suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(self._here)
            self.collect()

    def _work(self) -> None:
        with self._there:
            while (job := self._jobs.get()) is not None:
                try:
                    job()
                except (sqlite3.Error, OSError) as error:
                    self._error = error
                except BaseException as error:
                    self._error = error
                    self._there.send(b"\0")
                    raise
                self._there.send(b"\0")
