"""Plain HTTP/1.1 for administration, by h11: requests are read, let in or not, handed on, answered.

Bodies are JSON where a handler does not say otherwise, errors too: `{"error": TEXT}` with the status.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, Protocol, TypeAlias
from urllib.parse import parse_qsl

import h11
import trio
from attrs import field, frozen

from broker.core.counters import Counters
from broker.links.barrier import barrier

logger = logging.getLogger("broker.admin")

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
REQUEST_TIMEOUT_S: Final = 30.0
"""For one request with its answer, and for an idle connection."""

HEAD_BYTES_MAX: Final = 16 * 1024
CONNECTIONS_MAX: Final = 256


@frozen
class Request:
    """One request, complete."""

    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class Upgrade(Protocol):
    """Takes a connection over that is to become a WebSocket."""

    async def __call__(self, stream: trio.abc.Stream, request: Request, rest: bytes) -> None: ...


class HttpError(Exception):
    """A request is answered with this status."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(status, message)
        self.response = Response(status, json.dumps({"error": message}).encode(), headers=headers)


def json_response(value: object, status: int = 200) -> Response:
    return Response(status, json.dumps(value, separators=(",", ":")).encode())


class AdminServer:
    """Answers HTTP requests.

    Args:
        routes: handlers by path and method; HEAD is GET without the body.
        authorize: called with a request and its peer's address; raises `HttpError` for those who may not ask.
        counters: where bugs are counted.
        upgrades: by path, what becomes a WebSocket.
    """

    def __init__(
        self,
        routes: Mapping[str, Mapping[str, Handler]],
        authorize: Callable[[Request, str], None],
        counters: Counters,
        upgrades: Mapping[str, Upgrade] | None = None,
    ) -> None:
        self._routes = routes
        self._authorize = authorize
        self._counters = counters
        self._upgrades = upgrades or {}
        self._slots = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def serve(self, stream: trio.abc.Stream, peer_host: str) -> None:
        """One connection with any number of requests; what goes wrong ends it and nothing else."""
        async with stream, self._slots:
            with barrier(self._counters, peer_host):
                try:
                    await self._serve(stream, peer_host)
                except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                    logger.debug("x %s left in the middle of a request", peer_host)

    async def _serve(self, stream: trio.abc.Stream, peer_host: str) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        while True:
            request_method = "GET"
            with trio.move_on_after(REQUEST_TIMEOUT_S) as patience:
                try:
                    request = await _next_request(connection, stream)
                    if request is None:
                        return
                    request_method = request.method
                    upgrade = self._upgrades.get(request.path)
                    if upgrade is not None and _wants_websocket(request):
                        self._authorize(request, peer_host)
                        patience.deadline = float("inf")
                        await upgrade(stream, request, connection.trailing_data[0])
                        return
                    response = await self._answer(request, peer_host)
                except HttpError as error:
                    response = error.response
                except h11.RemoteProtocolError as error:
                    response = HttpError(
                        error.error_status_hint, f"not a valid HTTP request: {error}"
                    ).response
                await _send(connection, stream, response, request_method)
            if patience.cancelled_caught or connection.our_state is not h11.DONE:
                return
            if connection.their_state is not h11.DONE:
                return  # the rest of a body that was refused unread
            connection.start_next_cycle()

    async def _answer(self, request: Request, peer_host: str) -> Response:
        self._authorize(request, peer_host)
        methods = self._routes.get(request.path)
        if methods is None:
            raise HttpError(404, f"nothing is here; there is {', '.join(sorted(self._routes))}")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            raise HttpError(405, f"the method must be {allowed}", ("Allow", allowed))
        return await handler(request)


def _wants_websocket(request: Request) -> bool:
    return request.method == "GET" and request.headers.get("upgrade", "").lower() == "websocket"


async def _next_request(connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    """The next whole request; None if the peer has no more."""
    event = await _next_event(connection, stream)
    if not isinstance(event, h11.Request):
        return None
    body = b""
    while isinstance(part := await _next_event(connection, stream), h11.Data):
        body += bytes(part.data)
        if len(body) > BODY_BYTES_MAX:
            raise HttpError(413, f"the body is longer than {BODY_BYTES_MAX} bytes")
    path, _, query = event.target.decode("latin-1").partition("?")
    return Request(
        method=event.method.decode(),
        path=path,
        query=dict(parse_qsl(query)),
        headers={name.decode(): value.decode("latin-1") for name, value in event.headers},
        body=body,
    )


async def _next_event(
    connection: h11.Connection, stream: trio.abc.Stream
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            await _write(connection, stream, h11.InformationalResponse(status_code=100, headers=[]))
        connection.receive_data(bytes(await stream.receive_some(64 * 1024)))


async def _send(connection: h11.Connection, stream: trio.abc.Stream, response: Response, method: str) -> None:
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        *response.headers,
    ]
    body = [] if method == "HEAD" else [h11.Data(data=response.body)]
    await _write(
        connection,
        stream,
        h11.Response(status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase),
        *body,
        h11.EndOfMessage(),
    )


async def _write(connection: h11.Connection, stream: trio.abc.Stream, *events: h11.Event) -> None:
    await stream.send_all(b"".join(connection.send(event) or b"" for event in events))
