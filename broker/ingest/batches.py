"""What is written next: batches off a sink, the one after the next made ready while the next is being written.

Invariant: batches leave in the order in which they were taken; at most `TAKEN_MAX` are off the sink.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from broker.ingest.rows import Rows
from broker.ingest.sink import Sink, Waiting
from broker.ingest.values import Value

Made = tuple[list[Waiting], list[list[Value]], list[tuple[Waiting, str]]]
"""The messages that make rows, their columns, and the other messages with reasons."""

TAKEN_MAX: Final = 2
"""Batches off the sink: one that is written, and one that is ready."""


class Batch:
    """Messages that are written together.

    Attributes:
        messages: those that are not settled.
        rows: what `made` was made by.
        made: None before `make`.
    """

    def __init__(self, messages: list[Waiting]) -> None:
        self.messages = messages
        self.rows: Rows | None = None
        self.made: Made | None = None

    def make(self, rows: Rows) -> Made:
        """The columns of its messages, made at most once for each `rows`."""
        made = self.made
        if made is None or rows is not self.rows:
            self.rows = rows
            made = self.made = rows.columns(self.messages)
        return made

    def forget_settled(self) -> None:
        """What is left of it is to be written again."""
        self.messages = [one for one in self.messages if not one.is_settled]
        self.made = None


class Batches:
    """Takes batches off a sink.

    A batch is taken when it is full, or when nothing is being written and its first message has waited long enough.

    Args:
        sink: what waits.

    Attributes:
        rows: makes columns, as soon as it is known what the table is like.
    """

    def __init__(self, sink: Sink) -> None:
        self.rows: Rows | None = None
        self._sink = sink
        self._taken: deque[Batch] = deque()
        self._changed = trio.Event()
        self._is_ending = False
        sink.on_waiting = self._change

    def end(self) -> None:
        """Nothing more comes: what waits is taken at once."""
        self._is_ending = True
        self._change()

    @property
    def is_done(self) -> bool:
        """Whether the end has come and all is written."""
        return self._is_ending and not self._taken and not self._sink.waiting

    async def first(self) -> Batch | None:
        """The batch to write now, the same until `written`; None at the end."""
        while not self._taken:
            if self.is_done:
                return None
            await self._wait()
        return self._taken[0]

    def written(self) -> None:
        """Nothing of the first is left to do."""
        self._taken.popleft()
        self._change()

    def unsettled(self) -> list[Waiting]:
        """All that was taken and is not settled, in order."""
        return [one for batch in self._taken for one in batch.messages if not one.is_settled]

    @property
    def holds_any(self) -> bool:
        """Whether something was taken and is not written."""
        return bool(self._taken)

    def give_up(self) -> list[Waiting]:
        """Everything that is off the sink and not settled; it is not to be written any more."""
        left = self.unsettled()
        self._taken.clear()
        self._change()
        return left

    async def keep_taking(self) -> None:
        """Take batches, and make their columns, until cancelled."""
        while True:
            due_s = self._due_s()
            if due_s > 0.0:
                with trio.move_on_after(due_s):
                    await self._wait()
                continue
            batch = Batch(self._sink.next_batch())
            self._taken.append(batch)
            if self.rows is not None:
                batch.make(self.rows)
            self._change()
            await trio.lowlevel.checkpoint()

    def _due_s(self) -> float:
        """Seconds until a batch is to be taken, if nothing else happens."""
        sink = self._sink
        batch = sink.config.batch
        count = len(sink.waiting)
        if count == 0 or len(self._taken) == TAKEN_MAX:
            return float("inf")
        if count >= batch.rows:
            return 0.0
        if self._taken:
            return float("inf")
        if self._is_ending:
            return 0.0
        waited_s = (sink.clock_ns() - sink.waiting[0].received_ns) / 1e9
        return max(0.0, min(batch.every_s, batch.every_s - waited_s))

    def _change(self) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        """Until something has changed."""
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()
