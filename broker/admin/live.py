"""`/api/v1/live`: what the page shows, once a second, over a WebSocket.

The first message must be `{"token": TEXT}`, since a browser can't send a header with a handshake.  Then come
`{"type": "overview", …}`, as `/api/v1/overview`, and `{"type": "log", "lines": [{"severity", "text"}, …]}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import trio

from broker.admin.http import HttpError, Request
from broker.links.websocket.handshake import OpeningRequest, accept, is_nonce
from broker.reports import listing
from broker.reports.facts import Facts
from broker.reports.log_tail import LogTail
from protocol.websocket import close_frame, pong_frame, text_frame
from protocol.websocket_reader import FrameReader, PeerClose, Ping, Text, WebSocketError

INTERVAL_S: Final = 1.0
LOGIN_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
"""A page that takes nothing for so long has gone."""

MESSAGE_BYTES_MAX: Final = 16 * 1024
CONNECTIONS_MAX: Final = 32
NOT_LOGGED_IN: Final = 4401
TRY_LATER: Final = 1013


class Live:
    """Serves the pages that are open.

    Args:
        facts: of the broker.
        tail: the last lines of its log.
        is_right: whether a token is the right one.
    """

    def __init__(self, facts: Facts, tail: LogTail, is_right: Callable[[str], bool]) -> None:
        self._facts = facts
        self._tail = tail
        self._is_right = is_right
        self._open = 0

    async def serve(self, stream: trio.abc.Stream, request: Request, rest: bytes) -> None:
        """One page, until it leaves."""
        key = request.headers.get("sec-websocket-key", "").encode()
        if not is_nonce(key) or request.headers.get("sec-websocket-version") != "13":
            raise HttpError(400, "not a WebSocket handshake of version 13")
        opening = OpeningRequest("/", key, (), None, "")
        await stream.send_all(await accept(opening, None))
        reader = FrameReader(MESSAGE_BYTES_MAX)
        reader.feed(rest)
        if self._open >= CONNECTIONS_MAX:
            await stream.send_all(close_frame(TRY_LATER, "too many pages are open"))
            return
        self._open += 1
        try:
            await self._serve(stream, reader)
        except WebSocketError as error:
            await stream.send_all(close_frame(error.code, error.reason))
        finally:
            self._open -= 1

    async def _serve(self, stream: trio.abc.Stream, reader: FrameReader) -> None:
        sending = trio.Lock()
        said = None
        with trio.move_on_after(LOGIN_TIMEOUT_S):
            said = await self._next_text(stream, reader, sending)
        if said is None:
            return
        if not self._is_right(_token_in(said)):
            await stream.send_all(close_frame(NOT_LOGGED_IN, "the token is missing or wrong"))
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, stream, sending, nursery.cancel_scope)
            while await self._next_text(stream, reader, sending) is not None:
                pass
            nursery.cancel_scope.cancel()

    async def _tell(self, stream: trio.abc.Stream, sending: trio.Lock, page: trio.CancelScope) -> None:
        seen = 0
        while True:
            news: list[dict[str, object]] = [{"type": "overview", **listing.overview(self._facts)}]
            seen, lines = self._tail.since(seen)
            if lines:
                news.append(
                    {"type": "log", "lines": [{"severity": kind, "text": text} for kind, text in lines]}
                )
            frames = b"".join(text_frame(json.dumps(one).encode()) for one in news)
            with trio.move_on_after(SEND_TIMEOUT_S) as patience:
                async with sending:
                    await stream.send_all(frames)
            if patience.cancelled_caught:
                page.cancel()
            await trio.sleep(INTERVAL_S)

    async def _next_text(
        self, stream: trio.abc.Stream, reader: FrameReader, sending: trio.Lock
    ) -> str | None:
        """The next message; None when the page has left.  Pings are answered meanwhile."""
        while True:
            event = reader.next_event()
            if event is None:
                data = await stream.receive_some(MESSAGE_BYTES_MAX)
                if not data:
                    return None
                reader.feed(bytes(data))
            elif isinstance(event, Text):
                return event.text
            elif isinstance(event, Ping):
                async with sending:
                    await stream.send_all(pong_frame(event.payload))
            elif isinstance(event, PeerClose):
                async with sending:
                    await stream.send_all(close_frame(event.code, event.reason))
                return None


def _token_in(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    token = value.get("token", "") if isinstance(value, dict) else ""
    return token if isinstance(token, str) else ""
