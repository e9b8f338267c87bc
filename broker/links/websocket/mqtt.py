"""MQTT inside binary WebSocket messages: a packet may span messages, a message hold several packets (MQTT 3.1.1 §6)."""

from __future__ import annotations

from broker.core.shell import Shell
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink
from broker.links.server import Server
from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.outbox import FramingOutbox
from protocol.websocket import CloseCode
from protocol.websocket_reader import FrameReader


class MqttWebSocket(WebSocketLink):
    """One MQTT client's WebSocket, and its MQTT link.

    Args:
        server, door, peer: as for any MQTT connection.
        identity: the verified certificate's, if there is one.
    """

    def __init__(
        self, server: Server, door: Door, outbox: FramingOutbox, peer: str, identity: bytes | None
    ) -> None:
        # Messages in pieces: how large a packet may be, the MQTT link knows, and refuses it by its head.
        super().__init__(server.engine, outbox, FrameReader(0, in_pieces=True), peer)
        self._server = server
        self._frames = outbox
        self._mqtt = MqttLink(server.engine, door, outbox, peer, _Around(self))
        self._mqtt.certificate_identity = identity

    def open(self) -> None:
        self._server.opened(self._mqtt)

    def binary(self, data: bytes) -> None:
        self._mqtt.received(data)

    def push(self, frames: bytes) -> None:
        self._frames.push_frames(frames)

    def ended(self) -> None:
        self._server.closed(self._mqtt)

    def _end(self, code: int) -> None:
        super()._end(code)
        # At once: what came to the session from now on would be framed behind the close frame.
        if code == CloseCode.GOING_AWAY:
            self._mqtt.close("disconnected: the broker is stopping.")
        else:
            self._mqtt.lost()
            self._frames.hushed = self._mqtt.stalled is not None  # it goes on with what came before


class _Around(Shell):
    """What the MQTT link takes for its shell: the WebSocket that it is in."""

    def __init__(self, websocket: MqttWebSocket) -> None:
        self._websocket = websocket

    def hear_out(self) -> int:
        return self._websocket.outbox.shell.hear_out()

    def end_soon(self) -> None:
        self._websocket.close(CloseCode.NORMAL, "")
