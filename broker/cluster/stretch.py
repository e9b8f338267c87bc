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
    done = trio.Event()
    heard = trio.Event()
    reader = OrderedReader(start)
    lost = False

    def take(message: wire.Message) -> None:
        nonlocal heard, lost
        found = reader.take(message)
        heard.set()
        if found == ordered.NEXT:
            if reader.last <= end:
                keep(message)
            if reader.last >= end or reader.pending == 0:
                done.set()
        elif found == ordered.ANSWER:
            link.send(wire.publish(reader.reply, b""))
        elif found == ordered.LOST:
            lost = True
            done.set()
        elif message.status == 100 and reader.pending == 0:
            done.set()

    inbox = link.new_inbox()
    name = f"copy-{uuid4().hex[:12]}"
    sid = link.subscribe(inbox, take)
    reader.begun(sid)
    try:
        config = jetstream.ordered_config(inbox, start, ordered.HEARTBEAT_S, filters)
        made = await ask(link, jetstream.consumer_create(stream, name, config))
        if made.get("num_pending") == 0:
            return
        while not done.is_set():
            heard = trio.Event()
            with trio.move_on_after(SILENCE_S) as waiting:
                await heard.wait()
            if waiting.cancelled_caught or not link.is_open:
                raise Unavailable(f"{stream} did not come")
        if lost:
            raise Unavailable(f"{stream} did not come whole")
    finally:
        link.unsubscribe(sid)
        link.send(wire.publish(*jetstream.consumer_delete(stream, name)))
