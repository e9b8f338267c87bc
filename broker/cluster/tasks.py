"""Tasks that synchronous code starts: none any more once the node has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple, Unpack

import trio

Words = TypeVarTuple("Words")


class Tasks:
    """The nursery of one part of a node, while there is one."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """While this lasts, tasks run.  What is started later finds nobody: the other nodes see to what it would do."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None

    def start(self, work: Callable[[Unpack[Words]], Awaitable[object]], *words: *Words) -> None:
        """Begin a task, if there is somebody to run it."""
        if self._nursery is not None:
            self._nursery.start_soon(work, *words)
