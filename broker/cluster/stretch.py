"""A stretch of a stream, read once from its beginning to its end.

That a consumer has nothing more to send is the word of one server, which may have yet to catch up with the others: it
counts once that server has looked as far as the end of the stretch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final
from uuid import uuid4

import trio

from broker.cluster.link import NatsLink, Unavailable
from broker.cluster.setup import ask
from protocol.nats import jetstream, ordered, wire
from protocol.nats.ordered import OrderedReader

SILENCE_S: Final = 30.0

LOOK_S: Final = 0.02
"""Between two questions how far a new consumer has looked; it takes a moment to begin."""

LOOKS: Final = 5
BEHIND_S: Final = 10.0
"""How long a server that has nothing more to send may take to catch up."""

LAST_LOOKED_AT: Final = b"Nats-Last-Stream"


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
        self.sent_all_at = math.inf
        """Since when the consumer says that it has nothing more to send."""

    def take(self, message: wire.Message) -> None:
        """Whatever the server sends."""
        reader = self.reader
        found = reader.take(message)
        self._heard.set()
        if found == ordered.NEXT:
            if reader.last <= self._end:
                self._keep(message)
            if reader.last >= self._end:
                self._done.set()
            self.sent_all_at = math.inf if reader.pending else trio.current_time()
        elif found == ordered.ANSWER:
            self._link.send(wire.publish(reader.reply, b""))
        elif found == ordered.LOST:
            self._is_lost = True
            self._done.set()
        elif message.status == 100:
            self._looked_up_to(message.headers.number(LAST_LOOKED_AT) or 0)

    def _looked_up_to(self, place: int) -> None:
        """The consumer has sent what there is up to this place of the stream."""
        if place >= self._end:
            self._done.set()

    async def until_done(self, stream: str, name: str) -> None:
        """Raises: Unavailable, ApiError, NatsProtocolError; nothing came for `SILENCE_S`, or something is missing."""
        looks = 0
        while not self._done.is_set():
            self._heard = trio.Event()
            if self.sent_all_at < math.inf and looks < LOOKS:  # heartbeats say it, too, but later
                looks += 1
                await self._look(stream, name)
                continue
            if trio.current_time() - self.sent_all_at > BEHIND_S:
                raise Unavailable(f"the server that has {stream} has yet to catch up with it")
            with trio.move_on_after(SILENCE_S) as waiting:
                await self._heard.wait()
            if waiting.cancelled_caught or not self._link.is_open:
                raise Unavailable(f"{stream} did not come")
        if self._is_lost:
            raise Unavailable(f"{stream} did not come whole")

    async def _look(self, stream: str, name: str) -> None:
        """Ask how far the consumer has looked.  Raises: Unavailable, ApiError, NatsProtocolError."""
        found = await ask(self._link, jetstream.consumer_info(stream, name))
        delivered = found.get("delivered") or {}
        if int(delivered.get("consumer_seq", 0)) == self.reader.consumer_last:  # else something is on its way
            self._looked_up_to(int(delivered.get("stream_seq", 0)))
        with trio.move_on_after(LOOK_S):
            await self._done.wait()


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
            reading.sent_all_at = trio.current_time()
        await reading.until_done(stream, name)
    finally:
        link.unsubscribe(sid)
        link.send(wire.publish(*jetstream.consumer_delete(stream, name)))
