"""`/api/v1/live`: what the page shows, once a second, over a WebSocket.

The first message must be `{"token": TEXT}`, since a browser can't send a header with a handshake.  Then come
`{"type": "overview", …}`, as `/api/v1/overview`, and `{"type": "log", "lines": [{"severity", "text"}, …]}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from broker.admin.http import Request
from broker.admin.sockets import NOT_LOGGED_IN, TRY_LATER, AdminSocket
from broker.reports import listing
from broker.reports.facts import Facts
from broker.reports.log_tail import LogTail
from protocol.websocket import close_frame, text_frame

INTERVAL_S: Final = 1.0
LOGIN_TIMEOUT_S: Final = 10.0
MESSAGE_BYTES_MAX: Final = 16 * 1024
CONNECTIONS_MAX: Final = 32


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
        page = AdminSocket(stream, MESSAGE_BYTES_MAX)
        await page.open(request, rest)
        if self._open >= CONNECTIONS_MAX:
            await page.send(close_frame(TRY_LATER, "too many pages are open"))
            return
        self._open += 1
        try:
            await self._serve(page)
        finally:
            self._open -= 1

    async def _serve(self, page: AdminSocket) -> None:
        said = None
        with trio.move_on_after(LOGIN_TIMEOUT_S):
            said = await page.next_text()
        if said is None:
            return
        token = _token_in(said)
        if not self._is_right(token):
            await page.send(close_frame(NOT_LOGGED_IN, "the token is missing or wrong"))
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_it_leaves, page, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                await self._tell(page, token)
            nursery.cancel_scope.cancel()

    async def _tell(self, page: AdminSocket, token: str) -> None:
        """News each second, until the token is none of those that are good.  Raises: trio.BrokenResourceError."""
        seen = 0
        while self._is_right(token):
            news: list[dict[str, object]] = [{"type": "overview", **listing.overview(self._facts)}]
            seen, lines = self._tail.since(seen)
            if lines:
                news.append(
                    {"type": "log", "lines": [{"severity": kind, "text": text} for kind, text in lines]}
                )
            await page.send(b"".join(text_frame(json.dumps(one).encode()) for one in news))
            await trio.sleep(INTERVAL_S)
        await page.send(close_frame(NOT_LOGGED_IN, "the token is not valid any more"))


async def _until_it_leaves(page: AdminSocket, scope: trio.CancelScope) -> None:
    # A page that is closed may reset its connection instead of ending it.
    with suppress(trio.BrokenResourceError):
        while await page.next_text() is not None:
            pass
    scope.cancel()


def _token_in(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    token = value.get("token", "") if isinstance(value, dict) else ""
    return token if isinstance(token, str) else ""
