"""The demo's counts: exact is what came of each message that was sent, not of each that its writer wanted to send."""

from __future__ import annotations

import io
from typing import Any

import trio

from broker.demo.clients import HOST, PacketReader
from broker.demo.nodes.run import Cluster, Counts
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Puback, Publish


class Nodes:
    """Two nodes, of which the one that is asked first takes a message and dies before it says so."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.took: list[tuple[bytes, bytes]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        reader = PacketReader(stream)
        await reader.next()
        await stream.send_all(encode(Connack(False, 0)))
        packet = await reader.next()
        assert isinstance(packet, Publish)
        self.took.append((packet.topic, bytes(packet.payload)))
        if len(self.took) > 1:
            await stream.send_all(encode(Puback(packet.packet_id)))
            await stream.receive_some(1)


async def test_what_the_writer_publishes_anew_is_another_message() -> None:
    nodes: Any = Nodes()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host=HOST)
        nodes.ports = [listeners[0].socket.getsockname()[1]]
        nursery.start_soon(trio.serve_listeners, nodes.serve, listeners)
        cluster = Cluster(nodes, io.StringIO(), False)
        client = await cluster._publish(None)
        await client.close()
        nursery.cancel_scope.cancel()
    assert nodes.took == [(b"chat/1", b"hello 1"), (b"chat/1", b"hello 2")]
    counts = cluster.counts
    counts.stays.update(nodes.took)
    figures = counts.figures()
    assert (figures["messages"], figures["published_anew"]) == (1, 1)
    assert (figures["stays_missing"], figures["stays_twice"], figures["moves_missing"]) == (0, 0, 1)


def test_one_message_that_comes_twice_is_told_of() -> None:
    counts = Counts(committed=2, acknowledged=1)
    counts.stays.update([(b"orders/1", b"{}"), (b"chat/1", b"hello 1"), (b"orders/1", b"{}")])
    figures = counts.figures()
    assert (figures["stays_missing"], figures["stays_twice"]) == (1, 1)
