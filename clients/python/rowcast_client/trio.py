"""The client under Trio."""

from __future__ import annotations

import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from rowcast_client.core import Client, Event, Refused, Subscription
from rowcast_client.wire import LOST, Address, Wire

CONNECT_TIMEOUT_S = 10.0
Token = str | Callable[[], Awaitable[str]]


@asynccontextmanager
async def connect(
    url: str, token: Token | None = None, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Rowcast]:
    """A client that stays connected for as long as the block runs.

    Args:
        url: `ws://` or `wss://`.
        token: a token, or a function that fetches one whenever a connection wants it.
        options: see `core.Client`.

    Raises:
        Stopped: the server will not have this client.
    """
    rowcast = Rowcast(Address.of(url, tls), token, Client(**options))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rowcast.run)
        yield rowcast
        nursery.cancel_scope.cancel()


class Events:
    """The events of one subscription, as they come.  Iterate it in one place."""

    def __init__(self, rowcast: Rowcast, subscription: Subscription) -> None:
        self.subscription = subscription
        self.waiting: deque[Event] = deque()
        self.news = trio.Event()
        self._rowcast = rowcast

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """Raises: Refused."""
        while not self.waiting:
            if self.subscription.error is not None:
                raise self.subscription.error
            await self.news.wait()
            self.news = trio.Event()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.waiting.popleft()

    async def unsubscribe(self) -> None:
        self._rowcast.client.unsubscribe(self.subscription.topic)
        await self._rowcast.send_what_is_due()


BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError)
"""How a connection ends that nobody has said goodbye on."""


class Rowcast:
    """One client over all its connections; see `connect`."""

    def __init__(self, address: Address, token: Token | None, client: Client) -> None:
        self.client = client
        self._address = address
        self._token = token
        self._events: dict[str, Events] = {}
        self._wire: Wire | None = None
        self._stream: trio.abc.Stream | None = None
        self._sending = trio.Lock()
        self._due = trio.Event()

    def subscribe(self, topic: str, since: str | None = None, **options: bool) -> Events:
        """See `core.Client.subscribe`."""
        found = self._events[topic] = Events(self, self.client.subscribe(topic, since, **options))
        self._due.set()
        return found

    async def publish(self, topic: str, data: Any, **options: Any) -> None:
        """Publish, and wait for the answer.  Raises: Refused."""
        if not self.client.is_open:
            raise Refused("disconnected", "there is no connection")
        answers: list[Refused | None] = []
        answered = trio.Event()

        def take(answer: Refused | None) -> None:
            answers.append(answer)
            answered.set()

        self.client.publish(topic, data, take, **options)
        self._due.set()
        await answered.wait()
        if answers[0] is not None:
            raise answers[0]

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost.  Raises: Stopped."""
        while True:
            code, reason = LOST, ""
            try:
                code, reason = await self._one_connection()
            except BROKEN as error:
                reason = str(error)
            self._wire = None
            self.client.closed(code, reason)
            if self.client.stopped is not None:
                raise self.client.stopped
            await trio.sleep(self.client.delay(random.random()))

    async def send_what_is_due(self) -> None:
        """Send what the client and the wire have to say."""
        wire, stream = self._wire, self._stream
        if wire is None or stream is None:
            return
        async with self._sending:
            for text in self.client.take() if wire.is_open else ():
                wire.send(text)
            data = wire.take()
            if data:
                await stream.send_all(data)

    async def _one_connection(self) -> tuple[int, str]:
        token = await self._token() if callable(self._token) else self._token
        wire = Wire(self._address)
        with trio.move_on_after(CONNECT_TIMEOUT_S) as scope:
            stream: trio.abc.Stream = await trio.open_tcp_stream(self._address.host, self._address.port)
            if self._address.tls is not None:
                stream = trio.SSLStream(stream, self._address.tls, server_hostname=self._address.host)
        if scope.cancelled_caught:
            return LOST, "no connection in time"
        self._wire, self._stream = wire, stream
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_when_due)
                await self._read(wire, stream, token)
                nursery.cancel_scope.cancel()
        except* BROKEN as group:
            wire.closed, wire.reason = wire.closed or LOST, wire.reason or str(group.exceptions[0])
        finally:
            self._wire = self._stream = None
            await trio.aclose_forcefully(stream)
        return wire.closed or LOST, wire.reason

    async def _read(self, wire: Wire, stream: trio.abc.Stream, token: str | None) -> None:
        await self.send_what_is_due()
        while wire.closed is None:
            with trio.move_on_after(max(CONNECT_TIMEOUT_S, 2 * self.client.ping_s)) as silence:
                data = bytes(await stream.receive_some(65536))
            if silence.cancelled_caught:
                wire.closed = LOST
                return
            was_open = wire.is_open
            texts = wire.received(data)
            if wire.is_open and not was_open:
                self.client.opened(token, trio.current_time())
            for text in texts:
                for one, event in self.client.received(text, trio.current_time()):
                    self._hand_on(one, event)
            self._tell_refused()
            await self.send_what_is_due()

    def _hand_on(self, one: Subscription, event: Event) -> None:
        events = self._events.get(one.topic)
        if events is not None and events.subscription is one:
            events.waiting.append(event)
            events.news.set()

    def _tell_refused(self) -> None:
        for topic, events in list(self._events.items()):
            if events.subscription.error is not None:
                del self._events[topic]
                events.news.set()

    async def _send_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due = trio.Event()
            await self.send_what_is_due()
