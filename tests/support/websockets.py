"""A WebSocket listener on a real socket, and clients for it: trio-websocket's, and one that may misbehave."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import jwt
import trio
import trio_websocket
from attrs import frozen
from support.polling import until

from broker.config.dialects.econia import Econia
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import Limits, Listener, Security
from broker.config.tokens import JwtConfig
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.gateway.channels import topic_of
from broker.gateway.gateway import Gateway
from broker.gateway.identity import Identifier
from broker.links.listening.accept import accept_forever, open_sockets
from broker.links.listening.door import Door
from broker.links.listening.entrance import Entrance
from broker.links.server import Server
from broker.links.websocket.server import WebSocketServer

SECRET = "econia_0000000000000000000000000"
ECONIA = Econia(JwtConfig(SECRET))


def token(**claims: object) -> str:
    return jwt.encode(claims, SECRET, algorithm="HS256")


def reader(*channels: str, **claims: object) -> str:
    return token(mode="r", channels=list(channels), **claims)


@frozen
class Running:
    """A broker that listens for WebSockets on loopback."""

    engine: Engine
    gateway: Gateway
    websockets: WebSocketServer
    server: Server
    door: Door
    port: int

    def connect(
        self, path: str, *subprotocols: str, origin: str | None = None
    ) -> AbstractAsyncContextManager[trio_websocket.WebSocketConnection]:
        headers = [] if origin is None else [(b"Origin", origin.encode())]
        return trio_websocket.open_websocket(
            "127.0.0.1",
            self.port,
            path,
            use_ssl=False,
            subprotocols=list(subprotocols),
            extra_headers=headers,
        )

    def publish(self, dialect: str, channel: str, text: str) -> None:
        self.engine.publish(Publication(topic_of(dialect, channel), text.encode()))
        self.engine.flush()

    def stand_at(self, unix_s: float) -> None:
        """It is this time from now on, to all who ask the clock of turns; so no test hurries to be before it."""
        now = unix_s - time.time() + trio.current_time()
        self.engine.turn.clock = lambda: now

    async def links_left(self, count: int) -> None:
        """Wait until no more than `count` dialect connections are open."""
        await until(lambda: self.gateway.count() <= count)

    async def raw(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def raw_websocket(self, path: str, subprotocol: str = "") -> RawClient:
        """A connection after its handshake, to write any bytes to."""
        stream = await self.raw()
        wanted = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        key = base64.b64encode(os.urandom(16)).decode()
        await stream.send_all(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{wanted}\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return RawClient(stream, head.partition(b"\r\n\r\n")[2])


class RawClient:
    """Writes bytes as they are given; reads what the server sends."""

    def __init__(self, stream: trio.abc.Stream, received: bytes) -> None:
        self.stream = stream
        self._received = received

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame's first byte and payload."""
        head = await self._take(2)
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(await self._take(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._take(8), "big")
        return head[0], await self._take(size)

    async def close_code(self) -> int | None:
        """Read until the close frame; its code (1005: it has none), or None if the connection just ended."""
        try:
            while True:
                first_byte, payload = await self.frame()
                if first_byte == 0x88:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except (EOFError, trio.BrokenResourceError):
            return None

    async def at_end(self) -> bool:
        """Whether the server closes the connection, whatever it still sends."""
        try:
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        return True

    async def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            more = await self.stream.receive_some()
            if not more:
                raise EOFError
            self._received += more
        data, self._received = self._received[:size], self._received[size:]
        return data


class FrameParser:
    """Frames of a server, which are not masked, by way of a reader that wants them masked."""

    def __init__(self) -> None:
        self._data = b""

    def texts(self, data: bytes) -> tuple[list[str], int | None]:
        self._data += data
        texts: list[str] = []
        while len(self._data) >= 2:
            size, head = self._data[1], 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if len(self._data) < 2 + width:
                    break
                size, head = int.from_bytes(self._data[2 : 2 + width], "big"), 2 + width
            if len(self._data) < head + size:
                break
            first, payload = self._data[0], self._data[head : head + size]
            self._data = self._data[head + size :]
            if first == 0x81:
                texts.append(payload.decode())
            elif first == 0x88:
                return texts, int.from_bytes(payload[:2], "big")
        return texts, None


async def closed_with(ws: trio_websocket.WebSocketConnection) -> int:
    """Read until the server closes; its code."""
    with trio.fail_after(60):
        while True:
            try:
                await ws.get_message()
            except trio_websocket.ConnectionClosed as closed:
                return 1006 if closed.reason is None else closed.reason.code


def masked(first_byte: int, payload: bytes) -> bytes:
    """A client's frame; its mask is zero, which is allowed and readable."""
    size = len(payload)
    if size <= 125:
        head = bytes((first_byte, 0x80 | size))
    elif size <= 0xFFFF:
        head = bytes((first_byte, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first_byte, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


@asynccontextmanager
async def listening(
    config: GatewayConfig | None = None,
    dialects: tuple[str, ...] = ("mqtt", "econia"),
    identifiers: Mapping[str, Identifier] | None = None,
    origins: tuple[str, ...] = (),
) -> AsyncIterator[Running]:
    """A listener for these dialects on a free port of 127.0.0.1."""
    if config is None:
        config = GatewayConfig(econia=ECONIA)
    listener = Listener(
        0,
        host="127.0.0.1",
        protocol="websockets",
        dialects=dialects,
        security=Security(allow_anonymous=True),
        websockets_origins=origins,
    )
    engine = Engine()
    gateway = Gateway(config, engine, identifiers)
    [sock] = open_sockets(listener)
    door = Door(listener, Limits())
    async with trio.open_nursery() as nursery:
        server = Server(engine, nursery)
        websockets = WebSocketServer(server, gateway)
        nursery.start_soon(server.pump.run)
        nursery.start_soon(gateway.run)
        nursery.start_soon(accept_forever, sock, door, server, Entrance(server, websockets.take).take)
        yield Running(engine, gateway, websockets, server, door, sock.getsockname()[1])
        nursery.cancel_scope.cancel()
