"""From an address to a connection that NATS has let in: TCP, INFO, TLS if it is wanted, CONNECT."""

from __future__ import annotations

import os
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from broker.cluster.credentials import options
from broker.links.tls_socket import Buffers, Socket, TlsSocket
from protocol.nats.connection import CLOSED, OPEN, Connection, Subscriptions
from protocol.nats.errors import NatsProtocolError

if TYPE_CHECKING:
    from broker.config.cluster import ClusterConfig

PORT: Final = 4222
RECEIVE_BYTES: Final = 64 * 1024

_STRANGER: Final = (
    "authorization violation",
    "authentication",
    "user authentication",
    "account authentication",
)
_TRUST: Final = "name who has signed its certificate as ca_file in [cluster], and the host in nats as it does"
_PLAIN: Final = "write nats:// instead of tls://, or turn TLS on there"
_CURE: Final = "put the user, password, token or credentials that it wants into [cluster], and reload"


async def shake_hands(
    url: str, config: ClusterConfig, subscriptions: Subscriptions
) -> tuple[Socket, Connection]:
    """A non-blocking socket, and the conversation on it, which is open.

    Raises:
        OSError: there is no way, or TLS does not agree.
        NatsProtocolError: the server does not let us in, or is none.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or PORT
    sock: Socket = await _connected(host, port)
    try:
        connection = Connection(subscriptions)
        while not connection.info.fields:
            await take(sock, connection)
        if parts.scheme == "tls" or connection.info.flag("tls_required"):
            assert isinstance(sock, socket.socket)
            sock = await _secured(sock, _tls(config), host, connection)
        said = options(config, url, connection.info.text("nonce"))
        await send(sock, connection.hello(said))
        await _let_in(sock, connection)
    except BaseException:
        sock.close()
        raise
    return sock, connection


async def _let_in(sock: Socket, connection: Connection) -> None:
    """Until the server has let us in.  Raises: OSError, NatsProtocolError."""
    try:
        while connection.state not in (OPEN, CLOSED):
            await take(sock, connection)
    except NatsProtocolError as error:
        if connection.error.lower().startswith(_STRANGER):
            raise NatsProtocolError(f"{error} ({_CURE})") from None
        raise


async def _connected(host: str, port: int) -> socket.socket:
    stream = await trio.open_tcp_stream(host, port)
    async with stream:
        # The stream closes its own descriptor, and knows nothing of this one.
        sock = socket.socket(fileno=os.dup(stream.socket.fileno()))
    sock.setblocking(False)
    return sock


def _tls(config: ClusterConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
    if config.cert_file is not None:
        context.load_cert_chain(config.cert_file, config.key_file)
    return context


async def _secured(
    sock: socket.socket, context: ssl.SSLContext, host: str, connection: Connection
) -> TlsSocket:
    try:
        return await _encrypted(sock, context, host)
    except ssl.SSLCertVerificationError as error:
        raise NatsProtocolError(f"{error.verify_message} ({_TRUST})") from None
    except (OSError, NatsProtocolError) as error:
        info = connection.info
        if info.flag("tls_required") or info.flag("tls_available"):
            raise
        raise NatsProtocolError(f"the server has no TLS ({_PLAIN}): {error}") from None


async def _encrypted(sock: socket.socket, context: ssl.SSLContext, host: str) -> TlsSocket:
    encrypted = TlsSocket(sock, context, Buffers(), host)
    data = b""
    while not encrypted.shake_hands(data):
        await trio.lowlevel.wait_readable(sock)
        data = encrypted.receive_handshake()
        if not data:
            raise NatsProtocolError("the server closed the connection")
    return encrypted


async def take(sock: Socket, connection: Connection) -> None:
    """Wait for what comes, and handle it.  Raises: OSError, NatsProtocolError."""
    await trio.lowlevel.wait_readable(sock.fileno())
    try:
        data = sock.recv(RECEIVE_BYTES)
    except BlockingIOError:
        return
    if not data:
        raise NatsProtocolError("the server closed the connection")
    await send(sock, connection.receive(data))


async def send(sock: Socket, data: bytes) -> None:
    """All of it.  Raises: OSError."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock.fileno())
