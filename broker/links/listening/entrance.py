"""From an accepted TCP connection to one that a link can have: the PROXY header, then the TLS handshake.

Plain MQTT over TCP needs neither and goes straight to the pump.
"""

from __future__ import annotations

import logging
import socket
import ssl

import trio

from broker.core.limits import CONNECT_TIMEOUT_S
from broker.links.barrier import barrier
from broker.links.listening.accept import ServeStream
from broker.links.listening.door import Door
from broker.links.listening.proxy import ProxyError, ProxyHeader, identity_in, parse_proxy, refusal
from broker.links.listening.tls import peer_identity
from broker.links.server import Server
from broker.links.words import NOTICE

logger = logging.getLogger("broker.links")

PROXY_BYTES_MAX = 1024
"""More than any PROXY header has; what one look at the socket takes."""


class Entrance:
    """The way in through one listener that wants more than plain TCP.

    Args:
        server: where MQTT goes.
        websocket: where WebSocket connections go, on a `websockets` listener.
    """

    def __init__(self, server: Server, websocket: ServeStream | None) -> None:
        self._server = server
        self._websocket = websocket

    async def serve(self, stream: trio.SocketStream, door: Door, peer: str) -> None:
        """One connection, to its end.  What the peer does wrong ends it and nothing else."""
        with barrier(self._server.engine.counters, peer):
            ready: trio.abc.Stream | None = None
            identity: bytes | None = None
            door.open_count += 1
            try:
                with trio.move_on_after(CONNECT_TIMEOUT_S):
                    peer, identity = await self._read_proxy_header(stream, door, peer)
                    ready, identity = await self._encrypt(stream, door, identity)
            except ProxyError as error:
                self._server.engine.counters.turn_away("proxy_header")
                logger.log(NOTICE, "Connection from %s rejected, %s", peer, error)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self._server.engine.counters.turn_away("tls_handshake")
                logger.log(NOTICE, "Client connection from %s failed: %s.", peer, _cause(error))
            finally:
                door.open_count -= 1
            if ready is None:
                await trio.aclose_forcefully(stream)
            elif self._websocket is not None:
                await self._websocket(ready, door, peer, identity)
            elif ready is stream:
                sock = socket.socket(fileno=stream.socket.detach())
                self._server.add_socket(sock, door, peer, identity)
            else:
                await self._server.serve_stream(ready, door, peer, identity)

    async def _read_proxy_header(
        self, stream: trio.SocketStream, door: Door, peer: str
    ) -> tuple[str, bytes | None]:
        """Who the proxy says the client is: its `ADDRESS:PORT`, and its certificate's identity."""
        if door.listener.enable_proxy_protocol == 0:
            return peer, None
        header = await _proxy_header(stream.socket, door.listener.enable_proxy_protocol)
        if header.local:
            raise ProxyError("a health check of the proxy.")
        refused = refusal(header, door.listener)
        if refused is not None:
            raise ProxyError(refused)
        if header.host:
            peer = f"{header.host}:{header.port}"
        return peer, identity_in(header, door.listener)

    async def _encrypt(
        self, stream: trio.SocketStream, door: Door, identity: bytes | None
    ) -> tuple[trio.abc.Stream, bytes | None]:
        tls = door.listener.tls
        if door.tls_context is None or tls is None:
            return stream, identity
        encrypted = trio.SSLStream(stream, door.tls_context, server_side=True, https_compatible=True)
        try:
            await encrypted.do_handshake()
        except trio.BrokenResourceError:
            await _send_alert(encrypted, stream)
            raise
        if tls.use_identity_as_username or tls.use_subject_as_username:
            identity = peer_identity(tls, encrypted)
        return encrypted, identity


async def _proxy_header(sock: trio.socket.SocketType, version: int) -> ProxyHeader:
    """Read the header and not one byte more, so that what follows is still on the socket."""
    seen = b""
    while True:
        more = await sock.recv(PROXY_BYTES_MAX, socket.MSG_PEEK)
        if not more:
            raise ProxyError("closed before its PROXY header was whole.")
        size, header = parse_proxy(seen + more, version)
        await sock.recv(len(more) if header is None else size - len(seen))
        if header is not None:
            return header
        seen += more


async def _send_alert(encrypted: trio.SSLStream[trio.SocketStream], stream: trio.SocketStream) -> None:
    """Tell the client why its handshake failed: Trio leaves OpenSSL's alert unsent."""
    outgoing = getattr(encrypted, "_outgoing", None)
    if isinstance(outgoing, ssl.MemoryBIO) and outgoing.pending:
        await stream.send_all(outgoing.read())
        # Closed with the client's bytes unread, the kernel would send a reset, which may overtake the alert.
        await stream.send_eof()


def _cause(error: BaseException) -> str:
    """What OpenSSL or the system said."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return cause.reason or str(cause)
    return str(cause or error or "closed its connection")
