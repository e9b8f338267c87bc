"""One WebSocket as bytes in and texts out, with wsproto; and what an address means.  No I/O."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

LOST = 1006


@dataclass(frozen=True)
class Address:
    """Where a `ws://` or `wss://` address leads."""

    host: str
    port: int
    target: str
    tls: ssl.SSLContext | None

    @staticmethod
    def of(url: str, tls: ssl.SSLContext | None = None) -> Address:
        """Raises: ValueError: it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f'an address such as "wss://example.org/rowcast" is wanted, not "{url}"')
        is_secure = parts.scheme == "wss"
        context = (tls or ssl.create_default_context()) if is_secure else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Address(parts.hostname, parts.port or (443 if is_secure else 80), target, context)


class Wire:
    """One connection.

    Attributes:
        outgoing: bytes to send; the shell takes them.
        is_open: the handshake is complete.
        closed: the close code, once it is over.
    """

    def __init__(self, address: Address) -> None:
        self.is_open = False
        self.closed: int | None = None
        self.reason = ""
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._text = ""
        host = f"{address.host}:{address.port}"
        self.outgoing = self._connection.send(Request(host=host, target=address.target))

    def send(self, text: str) -> None:
        """Nothing where the server has said goodbye, perhaps with what this is the answer to."""
        try:
            self.outgoing += self._connection.send(TextMessage(text))
        except LocalProtocolError:
            self.closed = self.closed or LOST

    def goodbye(self) -> None:
        if self.closed is None and self.is_open:
            try:
                self.outgoing += self._connection.send(CloseConnection(1000))
            except LocalProtocolError:
                self.closed = LOST

    def received(self, data: bytes) -> list[str]:
        """Bytes came, b"" at the end; the texts in them."""
        texts: list[str] = []
        try:
            self._connection.receive_data(data or None)
            for event in self._connection.events():
                if isinstance(event, AcceptConnection):
                    self.is_open = True
                elif isinstance(event, TextMessage):
                    self._text += event.data
                    if event.message_finished:
                        texts.append(self._text)
                        self._text = ""
                elif isinstance(event, Ping):
                    self.outgoing += self._connection.send(event.response())
                elif isinstance(event, CloseConnection):
                    self.closed, self.reason = event.code, event.reason or ""
                    if self._connection.state.name == "REMOTE_CLOSING":
                        self.outgoing += self._connection.send(event.response())
                elif isinstance(event, RejectConnection):
                    self.closed, self.reason = LOST, f"HTTP status {event.status_code}"
        except (RemoteProtocolError, LocalProtocolError) as error:
            self.closed, self.reason = LOST, str(error)
        if not data and self.closed is None:
            self.closed = LOST
        return texts

    def take(self) -> bytes:
        data, self.outgoing = self.outgoing, b""
        return data
