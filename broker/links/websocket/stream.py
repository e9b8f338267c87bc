"""A WebSocket over a stream that the pump can't take (TLS, memory), with a task that reads."""

from __future__ import annotations

import socket
import ssl

import trio

from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.outbox import Outbox, nothing
from broker.links.barrier import barrier
from broker.links.server import Server
from broker.links.websocket.farewell import CLOSE_GRACE_S, part
from broker.links.websocket.link import KERNEL_SEND_BYTES, WebSocketLink
from broker.links.websocket.outbox import FramingOutbox


class StreamedWebSocket:
    """One connection, its handshake over.

    Args:
        server: the links of this broker; what the peer does not take at once is sent by a task in its nursery.
        stream: closed when `run` returns.
    """

    def __init__(self, server: Server, stream: trio.abc.Stream) -> None:
        self._server = server
        self._stream = stream
        self._outbox: Outbox
        self._link: WebSocketLink
        self._scope = trio.CancelScope()
        self._news = trio.Event()
        self._draining: trio.Event | None = None

    def dialect_outbox(self, bytes_max: int) -> Outbox:
        transport = (
            self._stream.transport_stream if isinstance(self._stream, trio.SSLStream) else self._stream
        )
        if isinstance(transport, trio.SocketStream):
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BYTES)
        self._outbox = Outbox(self._server.engine.round, bytes_max, None, self._start_draining, nothing)
        return self._outbox

    def mqtt_outbox(self, bytes_max: int) -> FramingOutbox:
        outbox = FramingOutbox(self._server.engine.round, bytes_max, None, self._start_draining, nothing)
        self._outbox = outbox
        return outbox

    def adopt(self, link: WebSocketLink) -> None:
        """Serve the link that was made for this connection's outbox, once `run` runs."""
        self._link = link
        link.on_close = self._scope.cancel
        link.on_pause = self._look_again
        self._outbox.on_hold = self._look_again

    async def run(self) -> None:
        """Serve until either side closes."""
        link = self._link
        try:
            with self._scope:
                await self._read(link)
        finally:
            with self._server.engine.turn:
                if not link.closing:
                    link.lost()
                with barrier(self._server.engine.counters, link.peer):
                    link.ended()
        with trio.move_on_after(CLOSE_GRACE_S):
            while self._draining is not None:
                await self._draining.wait()
        self._outbox.close()
        if self._draining is None:
            await part(self._stream, b"", link.hears_close)
        else:
            await trio.aclose_forcefully(self._stream)

    async def _read(self, link: WebSocketLink) -> None:
        engine = self._server.engine
        while True:
            while link.waits or self._outbox.holds_reading:
                await self._news.wait()
            try:
                data = bytes(await self._stream.receive_some(RECEIVE_BYTES_MAX))
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                data = b""
            if not data:
                return
            with engine.turn:
                link.received(data)

    def _look_again(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _start_draining(self) -> None:
        if self._draining is None:
            self._draining = trio.Event()
            self._server.nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        """Send what is owed, as the peer takes it."""
        assert self._draining is not None
        outbox = self._outbox
        try:
            while outbox.blocked and not outbox.closed:
                while data := outbox.take():
                    await self._stream.send_all(data)
                if outbox.on_drained is not None:
                    with self._server.engine.turn:
                        outbox.on_drained()
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            outbox.close()
            self._link.lost()
        finally:
            self._draining.set()
            self._draining = None
