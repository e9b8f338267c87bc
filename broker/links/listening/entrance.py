"""From an accepted TCP connection to one that a link can have: PROXY header, TLS handshake, a WebSocket's first bytes.

Plain MQTT over TCP needs none of them and goes straight to the pump.
"""

from __future__ import annotations

import logging
import socket

import trio

from broker.core.limits import CONNECT_TIMEOUT_S
from broker.links.barrier import barrier
from broker.links.listening.acceptor import Take
from broker.links.listening.door import Door
from broker.links.listening.proxied import identity_in, refusal
from broker.links.server import Server
from broker.links.tls_socket import Socket
from broker.links.words import NOTICE
from protocol.proxy import ProxyError, ProxyHeader, parse_proxy

logger = logging.getLogger("broker.links")

PROXY_BYTES_MAX = 1024
"""More than any PROXY header has; what one look at the socket takes."""


class Entrance:
    """The way in through one listener that wants more than plain TCP.

    Args:
        server: where handshakes are made.
        proceed: has the connection from then on.
    """

    def __init__(self, server: Server, proceed: Take) -> None:
        self._server = server
        self._proceed = proceed

    def take(self, sock: Socket, door: Door, peer: str, identity: bytes | None) -> None:
        """One connection.  What the peer does wrong ends it and nothing else."""
        if door.listener.enable_proxy_protocol == 0:
            self._encrypt(sock, door, peer, identity)
        else:
            assert isinstance(sock, socket.socket)
            door.enter()
            self._server.nursery.start_soon(self._look_for_proxy, sock, door, peer)

    def _encrypt(self, sock: Socket, door: Door, peer: str, identity: bytes | None) -> None:
        if door.tls_context is None and door.listener.protocol != "websockets":
            self._proceed(sock, door, peer, identity)
            return
        assert isinstance(sock, socket.SocketType)
        if door.tls_context is None:
            assert isinstance(sock, socket.socket)
            self._server.arrivals.await_bytes(sock, door, peer, identity, self._proceed)
        else:
            self._server.arrivals.encrypt(sock, door, peer, identity, self._proceed)

    async def _look_for_proxy(self, sock: socket.socket, door: Door, peer: str) -> None:
        counters = self._server.engine.counters
        header: ProxyHeader | None = None
        with barrier(counters, peer):
            try:
                with trio.move_on_after(CONNECT_TIMEOUT_S):
                    header = await _accepted_header(trio.socket.from_stdlib_socket(sock), door)
            except ProxyError as error:
                counters.turn_away("proxy_header")
                logger.log(NOTICE, "Connection from %s rejected, %s", error.client or peer, error)
            except OSError as error:
                counters.turn_away("proxy_header")
                logger.log(NOTICE, "Client connection from %s failed: %s.", peer, error.strerror or error)
            finally:
                door.leave()
                if header is None:
                    sock.close()
            if header is not None:
                if header.host:
                    peer = f"{header.host}:{header.port}"
                with self._server.engine.turn:
                    self._encrypt(sock, door, peer, identity_in(header, door.listener))


async def _accepted_header(sock: trio.socket.SocketType, door: Door) -> ProxyHeader:
    """Who the proxy says the client is."""
    header = await _proxy_header(sock, door.listener.enable_proxy_protocol)
    if header.local:
        raise ProxyError("a health check of the proxy.")
    refused = refusal(header, door.listener)
    if refused is not None:
        error = ProxyError(refused)
        error.client = f"{header.host}:{header.port}" if header.host else ""
        raise error
    return header


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
