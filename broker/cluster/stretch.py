"""A stretch of a stream, read once from its beginning to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import uuid4

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.setup import ask
from protocol.nats import jetstream, ordered, wire
from protocol.nats.ordered import OrderedReader

SILENCE_S: Final = 30.0


class _Reading:
    """How far a consumer has come with a stretch."""

    def __init__(self, link: NatsLink, start: int, end: int, keep: Callable[[wire.Message], None]) -> None:
        self.reader = OrderedReader(start)
        self._link = link
        self._end = end
        self._keep = keep
        self._done = trio.Event()
        self._heard = trio.Event()
        self._is_lost = False

    def take(self, message: wire.Message) -> None:
        """Whatever the server sends."""
        reader = self.reader
        found = reader.take(message)
        self._heard.set()
        if found == ordered.NEXT:
            if reader.last <= self._end:
                self._keep(message)
            if reader.last >= self._end or reader.pending == 0:
                self._done.set()
        elif found == ordered.ANSWER:
            self._link.send(wire.publish(reader.reply, b""))
        elif found == ordered.LOST:
            self._is_lost = True
            self._done.set()
        elif message.status == 100 and reader.pending == 0:
            self._done.set()

    async def until_done(self, stream: str) -> None:
        """Raises: Unavailable, if nothing comes for `SILENCE_S`, or something is missing."""
        while not self._done.is_set():
            self._heard = trio.Event()
            with trio.move_on_after(SILENCE_S) as waiting:
                await self._heard.wait()
            if waiting.cancelled_caught or not self._link.is_open:
                raise Unavailable(f"{stream} did not come")
        if self._is_lost:
            raise Unavailable(f"{stream} did not come whole")


async def read_all(
    link: NatsLink,
    stream: str,
    start: int,
    end: int,
    filters: tuple[bytes, ...],
    keep: Callable[[wire.Message], None],
) -> None:
    """Hand on every message of a stream from `start` to `end`, in order.

    Args:
        filters: subjects, which do not overlap; () for all.
        keep: called inside a turn; it may see a message again that it saw in a call that failed.

    Raises:
        Unavailable: they did not come, or not whole.
        ApiError: the server refuses.
    """
    reading = _Reading(link, start, end, keep)
    inbox = link.new_inbox()
    name = f"copy-{uuid4().hex[:12]}"
    sid = link.subscribe(inbox, reading.take)
    reading.reader.begun(sid)
    try:
        config = jetstream.ordered_config(inbox, start, ordered.HEARTBEAT_S, filters)
        made = await ask(link, jetstream.consumer_create(stream, name, config))
        if made.get("num_pending") == 0:
            return
        await reading.until_done(stream)
    finally:
        link.unsubscribe(sid)
        link.send(wire.publish(*jetstream.consumer_delete(stream, name)))
