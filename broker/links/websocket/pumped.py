"""WebSockets in the pump: an idle client has no task and no buffer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from broker.core.outbox import Outbox
from broker.links.connection import Connection
from broker.links.listening.door import Door
from broker.links.pump import Pump
from broker.links.readiness import GONE, NEWS
from broker.links.tls_socket import Socket
from broker.links.websocket.link import KERNEL_SEND_BYTES, LOST, WebSocketLink
from broker.links.websocket.outbox import FramingOutbox

RECEIVES_OF_DEPARTED_MAX: Final = 8
KEPT_OF_DEPARTED_BYTES: Final = 16 * 1024
"""Of a peer that left while an answer was awaited, so many receives of so many bytes are looked at afterwards."""


class PumpedWebSocket(Connection):
    """A socket with a WebSocket client, its handshake over.

    Args:
        part: asks for the goodbye of a connection that is to be closed; see `farewell.py`.
        over: told of a connection that is closed already.
        may_stay: whether one whose peer has gone may stay until what it sent has been looked at.
    """

    def __init__(
        self,
        pump: Pump,
        sock: Socket,
        door: Door,
        part: Callable[[PumpedWebSocket], None],
        over: Callable[[WebSocketLink], None],
        may_stay: Callable[[WebSocketLink], bool],
    ) -> None:
        super().__init__(pump, sock, door)
        self.link: WebSocketLink
        self._part = part
        self._over = over
        self._may_stay = may_stay

    def dialect_outbox(self, bytes_max: int) -> Outbox:
        """The outbox of a JSON dialect, written to this socket."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BYTES)
        self.outbox = Outbox(self.pump.engine.round, bytes_max, self.sock.send, self)
        return self.outbox

    def mqtt_outbox(self, bytes_max: int) -> FramingOutbox:
        """The outbox of MQTT, each flush of which is one binary frame."""
        outbox = FramingOutbox(self.pump.engine.round, bytes_max, self.sock.send, self)
        self.outbox = outbox
        return outbox

    def adopt(self, link: WebSocketLink) -> None:
        """Serve the link that was made for this connection's outbox."""
        self.link = link
        link.on_close = self._closed
        link.on_pause = self.look_again
        self.pump.take(self)

    def received(self, data: bytes) -> None:
        self.link.received(data)

    def lost(self) -> None:
        link = self.link
        if link.departed:
            return
        if link.leaves_something() and self._may_stay(link):
            link.departed = True
            self.look_again()
        else:
            link.lost()

    def stop(self) -> None:
        self.link.lost()

    def gone(self) -> None:
        self._over(self.link)

    def readable(self) -> None:
        if self.link.departed:
            return
        if self.link.waits:
            self._take_the_rest()  # the events that are asked for then say that the peer has gone
        else:
            super().readable()

    def _take_the_rest(self) -> None:
        """The peer has gone while an answer is awaited: what it sent before is looked at when that has come."""
        for _ in range(RECEIVES_OF_DEPARTED_MAX):
            try:
                data = self.sock.recv(KEPT_OF_DEPARTED_BYTES)
            except BlockingIOError:
                continue  # part of a record
            except OSError:
                break
            if not data:
                break
            self.received(data)
        self.lost()

    def events(self) -> int:
        if self.link.departed:
            return NEWS
        return GONE if self.link.waits else super().events()

    def _closed(self) -> None:
        if self.link.closing == LOST:
            self.end_soon()
            return
        try:
            self._part(self)
        except Exception:
            self.end_soon()  # nobody else does
            raise
