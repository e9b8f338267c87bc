"""One WebSocket of the admin port: opened, read message by message, answered.  Pings are answered meanwhile."""

from __future__ import annotations

import trio

from broker.admin.http import HttpError, Request
from broker.links.websocket.handshake import accept, is_nonce
from protocol.websocket import PING_FRAME, CloseCode, close_frame, pong_frame
from protocol.websocket_reader import Binary, FrameReader, PeerClose, Ping, Text, WebSocketError

SEND_TIMEOUT_S = 10.0
"""A peer that takes nothing for so long has gone."""

RECEIVE_BYTES_MAX = 64 * 1024

NOT_LOGGED_IN = 4401
TRY_LATER = 1013


class AdminSocket:
    """The connection.

    Args:
        stream: what the request came over; whoever gave it closes it.
        message_bytes_max: of one message.
        silence_max_s: after so long without a word a ping is sent, and after as long again the peer has gone.
    """

    def __init__(
        self, stream: trio.abc.Stream, message_bytes_max: int, silence_max_s: float = float("inf")
    ) -> None:
        self._stream = stream
        self._reader = FrameReader(message_bytes_max)
        self._silence_max_s = silence_max_s
        self._sending = trio.Lock()

    async def open(self, request: Request, rest: bytes) -> None:
        """Accept the handshake.

        Args:
            rest: what came after the request.

        Raises:
            HttpError: it is none.
        """
        key = request.headers.get("sec-websocket-key", "").encode()
        if not is_nonce(key) or request.headers.get("sec-websocket-version") != "13":
            raise HttpError(400, "not a WebSocket handshake of version 13")
        await self.send(accept(key, None))
        self._reader.feed(rest)

    async def send(self, frames: bytes) -> None:
        """Raises: trio.BrokenResourceError: the peer is gone, or takes nothing."""
        with trio.move_on_after(SEND_TIMEOUT_S) as patience:
            async with self._sending:
                await self._stream.send_all(frames)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError

    async def next_text(self) -> str | None:
        """The next message; None when the peer has left, or is made to because of what it sent."""
        while True:
            try:
                event = self._reader.next_event()
            except WebSocketError as error:
                await self.send(close_frame(error.code, error.reason))
                return None
            if event is None:
                data = await self._receive()
                if not data:
                    return None
                self._reader.feed(data)
            elif isinstance(event, Text):
                return event.text
            elif isinstance(event, Binary):
                await self.send(close_frame(CloseCode.UNSUPPORTED_DATA, "messages must be text"))
                return None
            elif isinstance(event, Ping):
                await self.send(pong_frame(event.payload))
            elif isinstance(event, PeerClose):
                await self.send(close_frame(event.code, event.reason))
                return None

    async def _receive(self) -> bytes:
        for _ in range(2):
            with trio.move_on_after(self._silence_max_s):
                return bytes(await self._stream.receive_some(RECEIVE_BYTES_MAX))
            await self.send(PING_FRAME)
        return b""
