"""The demo's counts: exact is what came of each message that was sent, not of each that its writer wanted to send."""

from __future__ import annotations

import io
from typing import Any

import trio

from broker.demo.clients import HOST, PacketReader
from broker.demo.nodes.run import Cluster, Counts
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Puback, Publish, Suback, Subscribe


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


class ClosesOnce:
    """A node that lets a client go in the middle, as one without a quorum does, and takes it back."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.connected = 0
        self.everything = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        reader = PacketReader(stream)
        connect = await reader.next()
        assert isinstance(connect, Connect)
        assert not connect.clean_session
        self.connected += 1
        await stream.send_all(encode(Connack(self.connected > 1, 0)))
        if self.connected == 1:
            assert isinstance(await reader.next(), Subscribe)
            await stream.send_all(encode(Suback(1, (1, 1))))
        for number in range(self.connected):
            await stream.send_all(
                encode(Publish(b"orders/%d" % (number + 1), b"{}", 1, False, False, number + 1))
            )
            assert await reader.next() == Puback(number + 1)
        if self.connected > 1:
            self.everything.set()
            await stream.receive_some(1)


async def test_the_client_that_stays_comes_back_where_its_node_closes_it() -> None:
    """What its node had not written down comes a second time then."""
    node: Any = ClosesOnce()
    out = io.StringIO()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host=HOST)
        node.ports = [listeners[0].socket.getsockname()[1]]
        nursery.start_soon(trio.serve_listeners, node.serve, listeners)
        cluster = Cluster(node, out, False)
        await nursery.start(cluster.stay)
        await node.everything.wait()
        nursery.cancel_scope.cancel()
    cluster.counts.committed = 2
    cluster.counts.moves = cluster.counts.stays
    assert cluster.conclude() == 0
    assert "0 missing, 1 twice.\n  It came back to its node 1x" in out.getvalue()
    cluster.counts.returned = 0
    assert cluster.conclude() == 1, "where it was never closed, twice is a fault"


def test_one_message_that_comes_twice_is_told_of() -> None:
    counts = Counts(committed=2, acknowledged=1)
    counts.stays.update([(b"orders/1", b"{}"), (b"chat/1", b"hello 1"), (b"orders/1", b"{}")])
    figures = counts.figures()
    assert (figures["stays_missing"], figures["stays_twice"]) == (1, 1)
