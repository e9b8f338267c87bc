"""A broker inside somebody else's Trio program."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import trio
from attrs import frozen

from broker.app import App
from broker.config.model import Config, Listener, Security
from broker.core.local import LocalSubscriber
from broker.core.publication import Publication
from broker.links.listening.door import Door
from broker.message_properties import NONE, MessageProperties, properties_of
from protocol.mqtt.topics import is_valid_topic_filter, is_valid_topic_name

NEEDS_TRIO = (
    "a Broker runs inside Trio: start your program with trio.run(), not asyncio.run();"
    " docs/how-to/embed.md shows both beside each other, as FastAPI needs it"
)


def _check_for_trio() -> None:
    """Raises: RuntimeError, where another event loop runs."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(NEEDS_TRIO) from None


@frozen
class Message:
    """What a subscriber inside the process gets.

    `retain` is True for a message that was there before the subscription.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: MessageProperties = NONE


class Broker:
    """A running broker for the length of an `async with`.

    Args:
        config: what to run; the default listens nowhere and has no feed.

    Raises (from `async with`):
        RuntimeError: asyncio's loop runs, not Trio's.
        broker.links.listening.accept.ListenError: a listener's address can't be had.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.app = App(Config() if config is None else config)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        _check_for_trio()
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        try:
            await nursery.start(self.app.run)
        except BaseException:
            # `async with` calls __aexit__ only if this returns, and the nursery must be closed in any case.
            nursery.cancel_scope.cancel()
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self.app.stop()
        return await self._stack.__aexit__(kind, error, traceback)

    @property
    def ports(self) -> list[int]:
        """The TCP ports that are open, in the order of the configuration's listeners."""
        return [port for _, port in self.app.addresses]

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: MessageProperties = NONE,
    ) -> None:
        """Hand a message to everybody subscribed; returns when it is on its way, waiting for nobody.

        Args:
            properties: for receivers that speak MQTT 5.0, but for the expiry, which holds for all.

        Raises:
            ValueError: not a topic name, a QoS other than 0, 1, 2, a topic that the broker keeps for itself, or
                properties that no packet can carry.
        """
        name = topic.encode()
        if not is_valid_topic_name(name):
            raise ValueError(
                f"{topic!r} is no topic name: wildcards, control characters and nothing at all are not"
            )
        if qos not in (0, 1, 2):
            raise ValueError(f"qos is 0, 1 or 2, not {qos!r}")
        publication = Publication(name, payload, qos, retain)
        publication.is_requested = True
        with self.app.engine.turn:
            properties.put_on(publication, self.app.engine.now)
            self.app.engine.publish(publication)
        await trio.lowlevel.checkpoint()

    async def subscribe(self, topic_filter: str) -> AsyncGenerator[Message, None]:
        """Iterate over messages: the retained ones first, then live ones as they come.

        At most `broker.core.limits.LOCAL_QUEUE_MESSAGES_MAX` wait for a slow reader; older ones are dropped.

        Raises:
            ValueError: not a topic filter.
        """
        name = topic_filter.encode()
        if not is_valid_topic_filter(name):
            raise ValueError(
                f"{topic_filter!r} is no topic filter: + and # stand for whole levels, # only at the end"
            )
        engine = self.app.engine
        ready = trio.Event()
        subscriber = LocalSubscriber(engine.counters, lambda: ready.set())
        retained = engine.retained.matching(name) + [
            Publication(part.topic, payload, part.qos, True)
            for part in engine.parts.matching(name)
            if part.retain
            for payload in part.state()
        ]
        engine.subscribe(subscriber, name, 2)
        try:
            for publication in retained:
                yield message_of(publication, True, engine.now)
            while True:
                waiting = subscriber.take()
                if waiting is None:
                    ready = trio.Event()
                    await ready.wait()
                else:
                    yield message_of(waiting, False, engine.now)
        finally:
            engine.unsubscribe(subscriber, name)

    def connect(self, listener: Listener | None = None) -> trio.abc.Stream:
        """An MQTT connection inside the process: the client's end of a pair of memory streams.

        Bytes written to it are read by the broker as if they had come over TCP; for tests and for clients
        that live in the same program.

        Args:
            listener: whose rules apply; the default admits everybody.
        """
        from trio.testing import memory_stream_pair  # here, because it imports pytest where that is installed

        ours, theirs = memory_stream_pair()
        config = self.app.config
        if listener is None:
            listener = Listener(port=0, security=Security(allow_anonymous=True))
        door = Door(listener, config.limits, config.logging.connection_messages)
        if door.rules.restricts_reading:
            self.app.engine.trie.restrict_always()
        self.app.server.nursery.start_soon(self.app.server.serve_stream, ours, door, "in-process")
        return theirs


def message_of(publication: Publication, retain: bool, now: float) -> Message:
    """What an embedding program is given of a publication; `now` reckons what is left of its expiry."""
    properties = properties_of(publication, now)
    return Message(publication.topic.decode(), publication.payload, publication.qos, retain, properties)
