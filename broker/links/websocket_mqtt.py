"""MQTT inside WebSocket messages, as a stream of bytes: a packet may span messages, a message hold several packets.

MQTT 3.1.1 §6.
"""

from __future__ import annotations

import trio
import trio_websocket

from broker.links.websocket_stream import CLOSE_GRACE_S, WebSocketStream
from protocol.websocket import CloseCode, binary_frame


class MqttMessages(trio.abc.Stream):
    """The bytes in one connection's binary messages.

    Its `aclose` leaves the WebSocket open; `close_websocket` closes it, with the code that is due.
    """

    def __init__(self, websocket: trio_websocket.WebSocketConnection, stream: WebSocketStream) -> None:
        self._close_code: int = CloseCode.NORMAL
        self._close_reason: str | None = None
        self._websocket = websocket
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while True:
            try:
                message = await self._websocket.get_message()
            except trio_websocket.ConnectionClosed:
                return b""
            self._stream.message_finished()
            if isinstance(message, str):  # [MQTT-6.0.0-1]
                self._close_code = CloseCode.UNSUPPORTED_DATA
                self._close_reason = "MQTT needs binary messages"
                return b""
            if message:
                return message

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        # One message at a time is owed to the socket; the rest waits in the MQTT link's outbox, under its limit.
        await self._stream.wait_drained()
        if self._websocket.closed is not None:
            raise trio.ClosedResourceError
        self._stream.outbox.push(binary_frame(bytes(data)))
        self._stream.outbox.flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_drained()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close_websocket(self) -> None:
        with trio.move_on_after(CLOSE_GRACE_S):
            await self._websocket.aclose(self._close_code, self._close_reason)
