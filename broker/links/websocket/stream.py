"""A connection as a Trio stream, for the time before the pump has it and after the pump has let it go."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from broker.core.limits import RECEIVE_BYTES_MAX
from broker.links.tls_socket import Socket, TlsSocket


def stream_of(sock: Socket) -> trio.abc.HalfCloseableStream:
    """A stream over a socket whose handshake, if there is one, is complete."""
    if isinstance(sock, TlsSocket):
        return TlsStream(sock)
    assert isinstance(sock, socket.socket)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


class TlsStream(trio.abc.HalfCloseableStream):
    """What `trio.SocketStream` is to a plain socket."""

    def __init__(self, sock: TlsSocket) -> None:
        self.sock = sock
        self._came_already = sock.take_rest()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `trio.SocketStream.send_all`, encrypted."""
        await trio.lowlevel.checkpoint()
        owed = bytes(data)
        try:
            while owed:
                with suppress(BlockingIOError):
                    owed = owed[self.sock.send(owed) :]
                if owed:
                    await trio.lowlevel.wait_writable(self.sock.fileno())
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least a record's worth, which may be more than `max_bytes`."""
        await trio.lowlevel.checkpoint()
        data, self._came_already = self._came_already, b""
        if data:
            return data
        while True:
            try:
                return self.sock.recv(RECEIVE_BYTES_MAX)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.sock.fileno())
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """As `trio.SocketStream` has it."""
        await trio.lowlevel.wait_writable(self.sock.fileno())

    async def send_eof(self) -> None:
        """Send close_notify; nothing may be sent afterwards."""
        await trio.lowlevel.checkpoint()
        self.sock.hang_up()

    async def aclose(self) -> None:
        """Close the socket, without waiting for the other side."""
        self.sock.close()
        await trio.lowlevel.checkpoint()
