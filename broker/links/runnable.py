"""The tasks that could run: what an instrument of Trio's is told, and nothing else says.

Trio's own run queue does not have those of its present round.
"""

from __future__ import annotations

import trio


class RunnableTasks(trio.abc.Instrument):
    """Who could run now, besides whoever asks.  Those who could before this was added are known once they have run.

    Trio calls the set's own methods, at each step of each task: a method of ours would take as long again.
    """

    def __init__(self) -> None:
        self.runnable: set[trio.lowlevel.Task] = set()
        self.task_scheduled = self.runnable.add  # type: ignore[method-assign, assignment]
        self.before_task_step = self.runnable.discard  # type: ignore[method-assign, assignment]
