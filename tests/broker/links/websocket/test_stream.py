"""A connection as a stream, plain or TLS: the same to whoever speaks over it."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from support.certificates import Authority

from broker.config.model import Tls
from broker.links.listening.tls import server_context
from broker.links.tls_socket import Buffers, TlsSocket
from broker.links.websocket.stream import TlsStream, stream_of

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.issue("server", "/CN=localhost", host=True)
    return made


@asynccontextmanager
async def secured(authority: Authority) -> AsyncIterator[tuple[TlsStream, trio.SSLStream[trio.SocketStream]]]:
    """The server's end, its handshake over, and a client."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    context = server_context(Tls(authority.folder / "server.crt", authority.folder / "server.key"))
    server = TlsSocket(ours, context, Buffers())
    client = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
        ssl.create_default_context(cafile=authority.ca),
        server_hostname="localhost",
        https_compatible=True,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        is_done = False
        while not is_done:
            await trio.lowlevel.wait_readable(ours.fileno())
            is_done = server.shake_hands(server.receive_handshake())
    stream = stream_of(server)
    assert isinstance(stream, TlsStream)
    with trio.fail_after(60):
        yield stream, client
    await trio.aclose_forcefully(client)
    await stream.aclose()


async def test_a_plain_socket_is_a_stream_of_trios_own() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with stream_of(ours) as stream:
        theirs.send(b"x")
        assert await stream.receive_some() == b"x"
        await stream.send_all(b"y")
        assert theirs.recv(1) == b"y"
    theirs.close()


@needs_openssl
@pytest.mark.parametrize("size", [1, 20_000, 1_000_000])
async def test_bytes_of_any_number_arrive_as_they_were_sent(authority: Authority, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    for direction in ("out", "in"):
        async with secured(authority) as (server, client):
            sender, receiver = (server, client) if direction == "out" else (client, server)
            found = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_all, data)
                while len(found) < size:
                    found += await receiver.receive_some()
            assert found == data


@needs_openssl
async def test_the_clients_end_is_an_end_and_ours_is_one_for_it(authority: Authority) -> None:
    async with secured(authority) as (server, client):
        await server.send_all(b"last")
        await server.send_eof()
        assert await client.receive_some() == b"last"
        assert await client.receive_some() == b""
        await client.aclose()
        assert await server.receive_some() == b""


@needs_openssl
async def test_a_record_that_nobody_encrypted_is_the_end(authority: Authority) -> None:
    async with secured(authority) as (server, client):
        await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await server.receive_some() == b""


@needs_openssl
async def test_a_peer_that_has_gone_breaks_the_stream(authority: Authority) -> None:
    async with secured(authority) as (server, client):
        await trio.aclose_forcefully(client)
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(bytes(10_000_000))


@needs_openssl
async def test_every_call_is_a_checkpoint(authority: Authority) -> None:
    async with secured(authority) as (server, client):
        await client.send_all(b"x")
        for call in (server.receive_some, lambda: server.send_all(b"x"), server.send_eof, server.aclose):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
