"""`/v1/mesh/publish` as a WebSocket, for whoever publishes often: each message is what the body of a POST would be.

Messages are answered one by one, in order: `{"result":true,"published":N}` or `{"error":TEXT}`.  Who may connect is
decided as for a POST, and asked again for each message, so that a token that is taken away ends the connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import trio

from broker.admin.committing import outcome
from broker.admin.http import HttpError, Request
from broker.admin.publishing import BadPublish, MeshPublisher, Published
from broker.admin.sockets import NOT_LOGGED_IN, AdminSocket
from broker.core.barrier import barrier
from broker.gateway.gateway import Gateway
from broker.links.in_turns import in_turns
from protocol.websocket import close_frame, text_frame

MESSAGE_BYTES_MAX: Final = 1024 * 1024
CONNECTIONS_MAX: Final = 32
SILENCE_MAX_S: Final = 30.0
INTERNAL_ERROR: Final = '{"error":"internal error"}'


class PublishSocket:
    """Serves all who publish in this way.

    Args:
        gateway: where channels are.
        may_go_on: whether who sent that request is still one of those who may.
    """

    def __init__(self, gateway: Gateway, may_go_on: Callable[[Request], bool]) -> None:
        self._engine = gateway.engine
        self._publisher = MeshPublisher(gateway)
        self._may_go_on = may_go_on
        self._open = 0

    async def serve(self, stream: trio.abc.Stream, request: Request, rest: bytes) -> None:
        """One connection, until it ends."""
        if self._open >= CONNECTIONS_MAX:
            raise HttpError(503, f"{CONNECTIONS_MAX} connections publish already", ("Retry-After", "1"))
        self._open += 1
        try:
            peer = AdminSocket(stream, MESSAGE_BYTES_MAX, SILENCE_MAX_S)
            await peer.open(request, rest)
            while (text := await peer.next_text()) is not None:
                if not self._may_go_on(request):
                    await peer.send(close_frame(NOT_LOGGED_IN, "the token is not valid any more"))
                    return
                await peer.send(text_frame((await self._answer(text)).encode()))
        finally:
            self._open -= 1

    async def _answer(self, text: str) -> str:
        published: Published | None = None
        with barrier(self._engine.counters, "a publisher's WebSocket"):
            try:
                messages = await in_turns(self._publisher.read(text.encode()))
            except BadPublish as error:
                return json.dumps({"error": str(error)})
            with self._engine.turn:
                published = self._publisher.publish(messages)
        if published is None:
            return INTERNAL_ERROR
        _, said = await outcome(published)
        return json.dumps(said, separators=(",", ":"))
