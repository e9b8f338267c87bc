"""A connection of the cluster's demo: it is there, or it is an error that whoever tries again expects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from broker.demo.clients import HOST, ClientError, PacketReader
from broker.demo.nodes.client import GONE, Connection
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connack, Connect, Packet, Puback, Publish, Will


class Node:
    def __init__(self, *answers: Packet) -> None:
        self.answers = answers
        self.got: list[Packet] = []
        self.asked = trio.Event()
        self.ended = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        reader = PacketReader(stream)
        for answer in self.answers:
            self.got.append(await reader.next())
            await stream.send_all(encode(answer))
        with suppress(*GONE):
            while True:
                self.got.append(await reader.next())
                self.asked.set()
        self.ended.set()


@asynccontextmanager
async def listening(node: Node) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host=HOST)
        nursery.start_soon(trio.serve_listeners, node.serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        with trio.fail_after(30):
            await node.ended.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("present", [False, True])
async def test_it_says_whether_its_session_was_there(present: bool) -> None:
    node = Node(Connack(present, 0), Puback(1))
    will = Will(b"w", b"", 0, False)
    async with listening(node) as port:
        connection = await Connection.open(port, b"c", not present, will, 7)
        assert connection.is_present is present
        await connection.send(Publish(b"t", b"", 1, False, False, 1))
        assert await connection.receive() == Puback(1)
        await connection.close()
    assert node.got[0] == Connect(b"c", not present, 7, will=will)


async def test_who_is_refused_hears_why_and_leaves_nothing_open() -> None:
    async with listening(Node(Connack(False, 3))) as port:
        with pytest.raises(ClientError, match="return code 3"):
            await Connection.open(port, b"c", True)


async def test_also_where_it_is_cancelled() -> None:
    node = Node()
    async with listening(node) as port, trio.open_nursery() as nursery:
        nursery.start_soon(Connection.open, port, b"c", True)
        with trio.fail_after(30):
            await node.asked.wait()
        nursery.cancel_scope.cancel()
