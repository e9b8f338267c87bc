"""A node of a cluster with its real parts, on a NATS server in memory and the clock of a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from support.attached import Attached
from support.due_turns import make_due_turns
from support.memory_nats import MemoryNats

from broker.cluster.node import Node
from broker.cluster.will_record import WillRecord
from broker.config.cluster import ClusterConfig
from broker.core.engine import Engine
from broker.core.history import History, Ring
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.links.pump import Pump
from protocol.mqtt.packets import Connect

URL = "nats://memory:4222"


class MemoryNode:
    """Of the cluster `shop`; its parts run while it is `running`."""

    def __init__(self, server: MemoryNats, name: str, rings: tuple[Ring, ...] = ()) -> None:
        self.server = server
        self.engine = Engine()
        self.engine.turn.clock = trio.current_time
        self.pump = Pump(self.engine, lambda link: None, lambda link: None)
        self.history = History(Positions("before"), rings)
        self.config = ClusterConfig(nats=(URL,), name="shop", node=name, replicas=1)
        self.node = Node(self.config, self.engine, self.history, self.pump)
        self.owners = self.node.owners

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MemoryNode]:
        """Connected, with all that the log has; at the end it says nothing to anybody."""
        self.node.link.run = trio.sleep_forever  # type: ignore[method-assign]
        self.server.admit(self.node.link)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.beat)
            nursery.start_soon(make_due_turns, self.engine)
            await nursery.start(self.node.run, trio.Event())
            assert self.node.reader.current.is_set()
            yield self
            nursery.cancel_scope.cancel()

    async def comes(
        self, client_id: bytes = b"c", clean: bool = False, filters: tuple[tuple[bytes, int], ...] = ()
    ) -> Attached:
        """A client is let in, and subscribes to so much."""
        problem = await self.owners.claim(client_id, Connect(client_id, clean, 0), None)
        assert problem == ""
        with self.engine.turn:
            client = Attached(self.engine, client_id, clean)
            self.owners.arrived(client_id, None)
        with self.engine.turn:
            for topic_filter, granted in filters:
                self.engine.subscribe_session(client.session, topic_filter, granted)
            if filters and self.engine.keep is not None:
                self.engine.keep(client.session)
        return client

    async def comes_with_will(self) -> Attached:
        """The clean client `c` is let in; its will is `gone` on `w`, and has the message id `will:1`."""
        said = Publication(b"w", b"gone", 1, False, b"c")
        will = WillRecord(self.engine, self.node.link, self.node.names, b"will:1", said, 0, -1)
        assert await self.owners.claim(b"c", Connect(b"c", True, 0), will) == ""
        with self.engine.turn:
            client = Attached(self.engine, b"c", True)
            client.session.will = Publication(b"w", b"gone", 1, False, b"c")
            self.owners.arrived(b"c", will)
        return client

    async def goes(self, client: Attached) -> None:
        """A connection ends, and its record says so."""
        with self.engine.turn:
            client.close("it goes")
        await self.settled()

    def publish(self, topic: bytes, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """As a port or a program does."""
        with self.engine.turn:
            self.engine.publish(Publication(topic, payload, qos, retain))

    async def settled(self) -> None:
        """What was said is where it belongs."""
        await trio.sleep(0.5)


@asynccontextmanager
async def running(server: MemoryNats, *names: str) -> AsyncIterator[list[MemoryNode]]:
    """Nodes of these names."""
    if not names:
        yield []
        return
    async with MemoryNode(server, names[0]).running() as first, running(server, *names[1:]) as others:
        yield [first, *others]
