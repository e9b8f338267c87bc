"""MQTT inside WebSocket messages: a packet may span messages, a message hold several packets (MQTT 3.1.1 §6).

Invariant: at most one message's worth waits in the stream's outbox; the rest waits in the MQTT link's own, under
its limit and with its rules for what may be dropped.
"""

from __future__ import annotations

import trio
import trio_websocket

from broker.core.outbox import Outbox
from broker.links.door import Door
from broker.links.mqtt import MqttLink
from broker.links.server import Server
from broker.links.websocket_stream import CLOSE_GRACE_S, WebSocketStream
from protocol.mqtt.framing import frame_at
from protocol.websocket import CloseCode, binary_frame


class MqttConnection:
    """One MQTT client's WebSocket and link, until either side closes.

    Args:
        server, door, peer: as for any MQTT connection.
        identity: the verified certificate's, if there is one.
    """

    def __init__(
        self,
        websocket: trio_websocket.WebSocketConnection,
        stream: WebSocketStream,
        server: Server,
        door: Door,
        peer: str,
        identity: bytes | None,
    ) -> None:
        engine = server.engine
        self._websocket = websocket
        self._stream = stream
        self._server = server
        self._scope = trio.CancelScope()
        self._outbox = Outbox(engine.round, door.outbox_bytes_max, self._send, _wait, self._scope.cancel)
        self._link = MqttLink(engine, door, self._outbox, peer, self._scope.cancel)
        self._link.certificate_identity = identity
        self._close_code: int = CloseCode.NORMAL
        self._close_reason: str | None = None
        self._half_packet = b""
        """What a large debt was cut at; its rest comes with the next send."""
        stream.on_sent_all = self._sent_all

    async def run(self) -> None:
        self._server.opened(self._link)
        try:
            with self._scope:
                await self._read()
        except trio_websocket.ConnectionClosed:
            pass
        finally:
            self._server.engine.now = trio.current_time()
            self._link.close("closed its connection.")
            self._server.settle()
            self._server.closed(self._link)
        with trio.move_on_after(CLOSE_GRACE_S):
            while self._outbox.pending_bytes and not self._stream.outbox.closed:
                self._outbox.writable()
                await self._stream.wait_drained()
            await self._websocket.aclose(self._close_code, self._close_reason)

    async def _read(self) -> None:
        engine = self._server.engine
        while True:
            message = await self._websocket.get_message()
            self._stream.message_finished()
            engine.now = trio.current_time()
            if isinstance(message, str):  # [MQTT-6.0.0-1]
                self._close_code = CloseCode.UNSUPPORTED_DATA
                self._close_reason = "MQTT needs binary messages"
                return
            if message:
                self._link.received(message)
                self._server.settle()

    def _framed(self, data: bytes) -> bytes:
        """As mosquitto: one packet per message.  Some clients look for no second one (paho C)."""
        data = self._half_packet + data
        frames = []
        position = 0
        while position < len(data):
            _, end = frame_at(data, position, 0)
            if end == 0:
                break
            frames.append(binary_frame(data[position:end]))
            position = end
        self._half_packet = data[position:]
        return b"".join(frames)

    def _send(self, data: bytes) -> int:
        """A message per packet of all that is owed, as long as the last ones have left."""
        under = self._stream.outbox
        if under.closed:
            raise BrokenPipeError
        if under.blocked:
            raise BlockingIOError
        under.push(self._framed(data))
        under.flush()
        # Counted by the outbox below already, with the frame's head.
        self._server.engine.counters.bytes_sent -= len(data)
        return len(data)

    def _sent_all(self) -> None:
        self._outbox.writable()


def _wait() -> None:
    """The stream says when it has sent everything."""
