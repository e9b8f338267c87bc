"""A link on a Trio stream, beside links in the pump: what one does to the other shows at once."""

from __future__ import annotations

import socket

import trio
import trio.testing
from support.polling import until

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.links.listening.door import Door
from broker.links.server import Server
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Disconnect, Pingreq, Publish, Subscribe

CONNACK = b"\x20\x02\x00\x00"


async def test_taking_over_from_the_pump_closes_its_socket_without_waiting_for_a_sweep() -> None:
    """Nothing sweeps here, and nobody sends to the pump: only the end of the stream's turn can close the socket."""
    engine = Engine()
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        nursery.start_soon(server.pump.run)
        with trio.fail_after(60):
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            server.add_socket(theirs, door, "older")
            older = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            await older.send_all(encode(Connect(b"x", True, 60)))
            assert await older.receive_some(4) == CONNACK

            newer, shells = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, shells, door, "newer")
            await newer.send_all(encode(Connect(b"x", True, 60)))
            assert await newer.receive_some(4) == CONNACK
            assert await older.receive_some(4) == b""
        nursery.cancel_scope.cancel()


async def test_a_publish_on_a_stream_reaches_the_pump_in_the_same_turn() -> None:
    engine = Engine()
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        nursery.start_soon(server.pump.run)
        with trio.fail_after(60):
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            server.add_socket(theirs, door, "subscriber")
            subscriber = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            await subscriber.send_all(encode(Connect(b"s", True, 60)) + encode(Subscribe(1, ((b"t", 0),))))
            received = b""
            while len(received) < 9:
                received += await subscriber.receive_some(100)

            publisher, shells = trio.testing.memory_stream_pair()
            nursery.start_soon(server.serve_stream, shells, door, "publisher")
            message = encode(Publish(b"t", b"now"))
            await publisher.send_all(encode(Connect(b"p", True, 60)) + message)
            assert await subscriber.receive_some(100) == message
        nursery.cancel_scope.cancel()


class Breaking(trio.abc.SendStream):
    """Takes nothing, and then breaks."""

    def __init__(self) -> None:
        self.breaks = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.breaks.wait()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await self.breaks.wait()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_who_owes_reading_is_read_to_its_end_once_nothing_can_be_sent_to_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its time for that is seconds, which a busy machine may take; this clock waits for whoever has something to do."""
    engine = Engine()
    door = Door(
        Listener(port=0, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
    )
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        with trio.fail_after(60):
            client, shells = trio.testing.memory_stream_one_way_pair()
            sends = Breaking()
            nursery.start_soon(server.serve_stream, trio.StapledStream(sends, shells), door, "client")
            await client.send_all(encode(Connect(b"c", True, 60)) + encode(Pingreq()) * 40_000)
            await until(lambda: engine.counters.reading_held == 1)
            await client.send_all(encode(Publish(b"t", b"last", retain=True)) + encode(Disconnect()))
            await client.aclose()
            sends.breaks.set()
            await until(lambda: not server.links())
        nursery.cancel_scope.cancel()
    assert len(engine.retained) == 1
