"""The client under asyncio."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from rowcast_client.core import Client, Event, Refused, Subscription
from rowcast_client.wire import LOST, Address, Wire

CONNECT_TIMEOUT_S = 10.0
Token = str | Callable[[], Awaitable[str]]


@asynccontextmanager
async def connect(
    url: str, token: Token | None = None, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Rowcast]:
    """A client that stays connected for as long as the block runs; as `rowcast_client.trio.connect`.

    A server that will not have this client ends the iterations with `Stopped`, and `publish`.
    """
    rowcast = Rowcast(Address.of(url, tls), token, Client(**options))
    task = asyncio.create_task(rowcast.run())
    try:
        yield rowcast
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Events:
    """The events of one subscription, as they come.  Iterate it in one place."""

    def __init__(self, rowcast: Rowcast, subscription: Subscription) -> None:
        self.subscription = subscription
        self.waiting: deque[Event] = deque()
        self.news = asyncio.Event()
        self._rowcast = rowcast

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """Raises: Refused, Stopped."""
        while not self.waiting:
            stopped = self._rowcast.client.stopped
            if self.subscription.error is not None or stopped is not None:
                raise self.subscription.error or stopped  # type: ignore[misc]
            self.news.clear()
            await self.news.wait()
        return self.waiting.popleft()

    async def unsubscribe(self) -> None:
        self._rowcast.client.unsubscribe(self.subscription.topic)
        self._rowcast.send_what_is_due()


class Rowcast:
    """One client over all its connections; see `connect`."""

    def __init__(self, address: Address, token: Token | None, client: Client) -> None:
        self.client = client
        self._address = address
        self._token = token
        self._events: dict[str, Events] = {}
        self._wire: Wire | None = None
        self._writer: asyncio.StreamWriter | None = None

    def subscribe(self, topic: str, since: str | None = None, **options: bool) -> Events:
        """See `core.Client.subscribe`."""
        found = self._events[topic] = Events(self, self.client.subscribe(topic, since, **options))
        self.send_what_is_due()
        return found

    async def publish(self, topic: str, data: Any, **options: Any) -> None:
        """Publish, and wait for the answer.  Raises: Refused."""
        if not self.client.is_open:
            raise self.client.stopped or Refused("disconnected", "there is no connection")
        answered: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()

        def take(answer: Refused | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.client.publish(topic, data, take, **options)
        self.send_what_is_due()
        if (refused := await answered) is not None:
            raise refused

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until the server will not have this client."""
        while True:
            code, reason = LOST, ""
            try:
                code, reason = await self._one_connection()
            except (TimeoutError, OSError, ssl.SSLError) as error:
                reason = str(error)
            self.client.closed(code, reason)
            if self.client.stopped is not None:
                for events in self._events.values():
                    events.news.set()
                return
            await asyncio.sleep(self.client.delay(random.random()))

    def send_what_is_due(self) -> None:
        """Send what the client and the wire have to say."""
        wire, writer = self._wire, self._writer
        if wire is None or writer is None:
            return
        for text in self.client.take() if wire.is_open else ():
            wire.send(text)
        data = wire.take()
        if data:
            writer.write(data)

    async def _one_connection(self) -> tuple[int, str]:
        token = await self._token() if callable(self._token) else self._token
        address = self._address
        wire = Wire(address)
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(address.host, address.port, ssl=address.tls), CONNECT_TIMEOUT_S
        )
        self._wire, self._writer = wire, writer
        try:
            await self._read(wire, reader, token)
        finally:
            self._wire = self._writer = None
            writer.close()
        return wire.closed or LOST, wire.reason

    async def _read(self, wire: Wire, reader: asyncio.StreamReader, token: str | None) -> None:
        loop = asyncio.get_running_loop()
        self.send_what_is_due()
        while wire.closed is None:
            data = await asyncio.wait_for(reader.read(65536), max(CONNECT_TIMEOUT_S, 2 * self.client.ping_s))
            was_open = wire.is_open
            texts = wire.received(data)
            if wire.is_open and not was_open:
                self.client.opened(token, loop.time())
            for text in texts:
                for one, event in self.client.received(text, loop.time()):
                    self._hand_on(one, event)
            self._tell_refused()
            self.send_what_is_due()

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
