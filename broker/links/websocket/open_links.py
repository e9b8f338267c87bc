"""The WebSockets that are open, for the end of the process."""

from __future__ import annotations

import trio

from broker.links.websocket.link import WebSocketLink


class OpenLinks:
    """The WebSockets that are open, for the end of the process."""

    def __init__(self) -> None:
        self._links: dict[WebSocketLink, None] = {}
        self._none_left = trio.Event()

    def add(self, link: WebSocketLink) -> None:
        """A connection is open."""
        if not self._links:
            self._none_left = trio.Event()
        self._links[link] = None

    def links(self) -> list[WebSocketLink]:
        """Those that are open now; the list is the caller's own."""
        return list(self._links)

    def remove(self, link: WebSocketLink) -> None:
        """A connection has ended."""
        del self._links[link]
        if not self._links:
            self._none_left.set()

    async def emptied(self) -> None:
        """Wait until the last of them has gone."""
        while self._links:
            await self._none_left.wait()
