"""A peer that asks and does not read the answers is not read from, on every kind of link; and loses none of them."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from support.certificates import Authority
from support.polling import until
from support.websockets import masked
from trio.testing import wait_all_tasks_blocked

from broker import Broker
from broker.config.model import Config, Listener, Security, Tls
from broker.core.limits import ANSWERS_OWED_BYTES_MAX, RECEIVE_BYTES_MAX

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01p"
CONNACK = b"\x20\x02\x00\x00"
UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
KERNEL_BYTES_MAX = 12 * 1024 * 1024
"""More than loopback's buffers of both directions hold here."""

ASKS = {
    "pings": (b"\xc0\x00", b"\xd0\x00"),
    "releases": (b"\x62\x02\x00\x07", b"\x70\x02\x00\x07"),
    "receipts": (b"\x50\x02\x00\x07", b"\x62\x02\x00\x07"),
    "publishes": (b"\x32\x05\x00\x01t\x00\x07", b"\x40\x02\x00\x07"),
    "unsubscribes": (b"\xa2\x05\x00\x07\x00\x01t", b"\xb0\x02\x00\x07"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates")
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


@asynccontextmanager
async def connected(authority: Authority, kind: str) -> AsyncIterator[tuple[Broker, trio.abc.Stream]]:
    """A client that is connected, over a socket that takes little."""
    folder: Path = authority.folder
    listener = Listener(
        0,
        host="127.0.0.1",
        protocol="websockets" if "ws" in kind else "mqtt",
        tls=Tls(folder / "server.crt", folder / "server.key") if kind in ("tls", "wss") else None,
        security=Security(allow_anonymous=True),
    )
    async with Broker(Config((listener,), shutdown_grace_s=0.2)) as broker:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        sock.connect(("127.0.0.1", broker.ports[0]))
        stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        if listener.tls is not None:
            context = ssl.create_default_context(cafile=authority.ca)
            stream = trio.SSLStream(stream, context, server_hostname="localhost")
        if "ws" in kind:
            await stream.send_all(UPGRADE + framed(kind, CONNECT))
            answer = b""
            while not answer.endswith(CONNACK):
                answer += bytes(await stream.receive_some())
        else:
            await stream.send_all(CONNECT)
            assert await stream.receive_some() == CONNACK
        for descriptor in broker.app.server.pump._connections:
            hold_little(descriptor)
        yield broker, stream
        await trio.aclose_forcefully(stream)


def hold_little(descriptor: int) -> None:
    """Let the kernel hold little on the broker's side, too: megabytes of it would take seconds to fill."""
    if descriptor < 0 or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return  # what holds several, a listener's pipe, or the like
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)


def framed(kind: str, packets: bytes) -> bytes:
    return masked(0x82, packets) if "ws" in kind else packets


async def ask_forever(stream: trio.abc.Stream, piece: bytes) -> None:
    """Raises: AssertionError: more was taken than fits between the two."""
    sent = 0
    while sent < KERNEL_BYTES_MAX:
        await stream.send_all(piece)
        sent += len(piece)
    raise AssertionError(f"{sent} bytes were taken from a peer that reads nothing")


async def ask_until_closed(stream: trio.abc.Stream, piece: bytes) -> None:
    with suppress(trio.BrokenResourceError):
        await ask_forever(stream, piece)


@pytest.mark.parametrize(
    ("kind", "ask"),
    [
        *((kind, "releases") for kind in ("tcp", "ws", "tls", "wss")),
        *(pytest.param("tcp", ask, marks=pytest.mark.slow) for ask in ASKS if ask != "releases"),
    ],
)
async def test_who_does_not_read_is_not_read_from(authority: Authority, kind: str, ask: str) -> None:
    question, _ = ASKS[ask]
    async with connected(authority, kind) as (broker, stream):
        [link] = broker.app.server.links()
        async with trio.open_nursery() as asking:
            asking.start_soon(ask_forever, stream, framed(kind, question * (16 * 1024 // len(question))))
            # It is not read from for a moment, too, whenever it has asked for more than one turn does.
            await until(lambda: link.outbox._owes_reading)
            await trio.sleep(1)  # the chance to be read from nevertheless
            await until(lambda: link.outbox._owes_reading)
            owed = link.outbox.pending_bytes
            asking.cancel_scope.cancel()
        # An answer is as long as its question, or shorter; as a WebSocket message two bytes longer.
        assert owed <= ANSWERS_OWED_BYTES_MAX + 2 * RECEIVE_BYTES_MAX


@pytest.mark.parametrize("kind", ["tcp", "ws", "tls", "wss"])
async def test_who_is_not_read_from_and_is_closed_ends_alone(authority: Authority, kind: str) -> None:
    question, _ = ASKS["releases"]
    async with connected(authority, kind) as (broker, stream):
        [link] = broker.app.server.links()
        async with trio.open_nursery() as asking:
            asking.start_soon(ask_until_closed, stream, framed(kind, question * 4000))
            # The kernel may take more in the next moment, and it is read from again.
            await until(lambda: link.outbox._owes_reading)
            assert link.outbox.holds_reading
            with (
                broker.app.engine.turn
            ):  # its keep-alive is over, say, or another client has come with its id
                link.close("disconnected.")
            asking.cancel_scope.cancel()
        await until(lambda: not broker.app.server.links())
        await wait_all_tasks_blocked()
        async with await trio.open_tcp_stream("127.0.0.1", broker.ports[0]):
            await until(lambda: broker.app.engine.counters.sockets_closed > 0)


@pytest.mark.parametrize("kind", ["tcp", "ws", "tls", "wss"])
async def test_who_reads_again_gets_every_answer(authority: Authority, kind: str) -> None:
    question, answer = ASKS["releases"]
    asked = received = 0
    held = False
    async with connected(authority, kind) as (broker, stream):

        async def ask() -> None:
            nonlocal asked
            while not held:
                await stream.send_all(framed(kind, question * 4000))
                asked += 4000

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                while not held:
                    held = broker.app.engine.counters.reading_held > 0
                    await trio.sleep(0.01)
                # The question under way ends only when something is read.
                size = len(answer) + (2 if "ws" in kind else 0)
                while nursery.child_tasks or received < asked * size:
                    more = await stream.receive_some()
                    assert more
                    received += len(more)
        assert received == asked * size
