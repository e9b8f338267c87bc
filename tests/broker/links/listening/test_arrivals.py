"""TLS handshakes in the pump: slow keys, silent peers, storms beside those who are connected."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from support.certificates import Authority
from support.polling import until

from broker import Broker
from broker.config.model import Config, Listener, Security, Tls
from broker.core.limits import ARRIVALS_TASKS_MAX
from broker.links.readiness import is_portable

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")

CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04%04d"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate signed by itself, with a key of 4096 bits."""
    folder = tmp_path_factory.mktemp("slow")
    words = "openssl req -x509 -newkey rsa:4096 -nodes -keyout server.key -out server.crt -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*words.split(), *names], cwd=folder, check=True, capture_output=True)
    return folder


@asynccontextmanager
async def secured(folder: Path) -> AsyncIterator[Broker]:
    listener = Listener(
        0,
        host="127.0.0.1",
        tls=Tls(folder / "server.crt", folder / "server.key"),
        security=Security(allow_anonymous=True),
    )
    async with Broker(Config((listener,))) as broker:
        yield broker


@asynccontextmanager
async def websocket_broker() -> AsyncIterator[Broker]:
    listener = Listener(0, host="127.0.0.1", protocol="websockets", security=Security(allow_anonymous=True))
    async with Broker(Config((listener,))) as broker:
        yield broker


async def client(broker: Broker, cafile: Path, number: int) -> trio.SSLStream[trio.SocketStream]:
    stream = await trio.open_ssl_over_tcp_stream(
        "localhost",
        broker.ports[0],
        https_compatible=True,
        ssl_context=ssl.create_default_context(cafile=cafile),
    )
    await stream.send_all(CONNECT % number)
    assert await stream.receive_some() == b"\x20\x02\x00\x00"
    return stream


@pytest.mark.parametrize("count", [1, 8])
async def test_a_slow_key_is_used_in_a_thread(slow: Path, count: int) -> None:
    async with secured(slow) as broker:
        assert broker.app.doors[0].slow_key
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(client, broker, slow / "server.crt", number)
        assert len(broker.app.engine.sessions) == count
        assert broker.app.engine.counters.link_bugs == 0


async def test_a_peer_that_leaves_while_a_thread_signs_is_forgotten(slow: Path) -> None:
    async with secured(slow) as broker:
        context = ssl.create_default_context(cafile=slow / "server.crt")
        outgoing = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
        stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
        await stream.send_all(outgoing.read())
        await stream.aclose()
        door = broker.app.doors[0]
        await until(lambda: bool(broker.app.engine.counters.refused))
        assert broker.app.engine.counters.refused == {"tls_handshake": 1}
        assert door.open_count == 0


async def test_silent_and_broken_peers_leave_nothing_and_others_are_served(authority: Authority) -> None:
    async with secured(authority.folder) as broker:
        server = broker.app.server
        silent = [await trio.open_tcp_stream("127.0.0.1", broker.ports[0]) for _ in range(20)]
        broken = [await trio.open_tcp_stream("127.0.0.1", broker.ports[0]) for _ in range(20)]
        for stream in broken:
            await stream.send_all(b"\x10\x10\x00\x04MQTT" + bytes(40))
        with trio.fail_after(60):
            served = await client(broker, authority.ca, 1)
            for stream in broken:
                while await stream.receive_some():
                    pass
        assert broker.app.doors[0].open_count == 21
        server.engine.now += 31
        server.arrivals.sweep()
        with trio.fail_after(60):
            for stream in silent:
                assert await stream.receive_some() == b""
        assert broker.app.doors[0].open_count == 1
        await served.send_all(b"\xc0\x00")
        assert await served.receive_some() == b"\xd0\x00"


async def test_the_end_of_the_broker_ends_handshakes(authority: Authority) -> None:
    async with secured(authority.folder) as broker:
        stream = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
        await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        assert await stream.receive_some() == b""


async def test_a_websocket_that_says_nothing_is_forgotten_in_time() -> None:
    async with websocket_broker() as broker:
        server = broker.app.server
        silent = await trio.open_tcp_stream("127.0.0.1", broker.ports[0])
        await until(lambda: broker.app.doors[0].open_count == 1)
        server.engine.now += 31
        server.arrivals.sweep()
        with trio.fail_after(60):
            assert await silent.receive_some() == b""
        assert broker.app.doors[0].open_count == 0


@pytest.mark.skipif(
    is_portable(), reason="without epoll, tasks of Trio's say who is readable, one after the other"
)
async def test_of_many_websockets_that_come_at_once_a_few_begin_at_a_time() -> None:
    async with websocket_broker() as broker:
        arrivals = broker.app.server.arrivals
        begun: list[int] = []

        def begin(number: int) -> None:
            begun.append(number)
            arrivals.started()

        mine, theirs = zip(*(socket.socketpair() for _ in range(100)), strict=True)
        for number, sock in enumerate(theirs):
            sock.setblocking(False)
            door = broker.app.doors[0]
            arrivals.await_bytes(sock, door, "pair", None, lambda *_, number=number: begin(number))
        for sock in mine:
            sock.send(b"GET")
        for _ in range(20):
            arrivals.readable()
        assert len(begun) == ARRIVALS_TASKS_MAX
        with trio.fail_after(60):
            await until(lambda: len(begun) == len(mine))
        assert sorted(begun) == list(range(len(mine)))
        for sock in (*mine, *theirs):
            sock.close()
