"""The tasks that could run: what an instrument of Trio's is told, and nothing else says.

Trio's own run queue does not have those of its present round.
"""

from __future__ import annotations

import trio


class Others(trio.abc.Instrument):
    """Who could run now, besides whoever asks.  Those who could before this was added are known once they have run."""

    def __init__(self) -> None:
        self.runnable: set[trio.lowlevel.Task] = set()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """It can run from now on."""
        self.runnable.add(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """It runs now."""
        self.runnable.discard(task)
