"""A TCP proxy whose connections can be cut, frozen and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class TcpProxy:
    """Passes bytes between its clients and one server on 127.0.0.1, until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.accepted = 0
        self._target_port = target_port
        self._streams: set[trio.SocketStream] = set()
        self._flowing = trio.Event()
        self._flowing.set()
        self._refusing = False

    @property
    def open(self) -> int:
        """Connections that are passed on."""
        return len(self._streams) // 2

    def cut(self) -> None:
        """End all connections, without warning either side."""
        for stream in self._streams:
            stream.socket.close()
        self._streams.clear()

    def refuse(self) -> None:
        """`cut`, and end new connections at once, until `allow`."""
        self._refusing = True
        self.cut()

    def allow(self) -> None:
        self._refusing = False

    def freeze(self) -> None:
        """Let no byte through in either direction, keeping everything open, until `thaw`."""
        self._flowing = trio.Event()

    def thaw(self) -> None:
        self._flowing.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self._refusing:
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target_port)
        except OSError:
            return
        pair = {client, server}
        self._streams |= pair
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pass_on, server, client, nursery.cancel_scope)
        finally:
            self._streams -= pair
            await trio.aclose_forcefully(server)

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, ends: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await self._flowing.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        ends.cancel()


@asynccontextmanager
async def tcp_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(target_port)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxy._serve, listeners)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
