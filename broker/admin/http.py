"""Plain HTTP/1.1 for administration, by h11: requests are read, let in or not, handed on, answered.

Bodies are JSON where a handler does not say otherwise, errors too: `{"error": TEXT}` with the status.  Who may ask is
decided by a request's head: nothing is kept of a body from somebody who may not send it.
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
from attrs import evolve, field, frozen

from broker.admin.guests import Guest, Guests
from broker.core.counters import Counters
from broker.links.barrier import barrier

logger = logging.getLogger("broker.admin")

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
REQUEST_TIMEOUT_S: Final = 30.0
"""For one request to come, and for an idle connection."""

ANSWER_TIMEOUT_S: Final = 60.0
"""For its answer, from then on: longer than a handler waits for a COMMIT or for a cluster's log."""

HEAD_BYTES_MAX: Final = 16 * 1024

BODIES_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of all bodies that are being read or answered at a time; further ones are told to come again."""


@frozen
class Request:
    """One request; `body` is empty until whoever asks has been let in."""

    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen
class Response:
    """What is answered: a status, a body with its type, and further headers as (name, value)."""

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
    """A response whose body is `value` as compact JSON."""
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
        self._guests = Guests()
        self._bodies_bytes = 0

    async def serve(self, stream: trio.abc.Stream, peer_host: str) -> None:
        """One connection with any number of requests; what goes wrong ends it and nothing else.

        One too many takes the place of one that asks nothing, or is closed.
        """
        with trio.CancelScope() as scope:
            guest = Guest(peer_host, scope.cancel)
            async with stream:
                if not self._guests.enter(guest):
                    return
                try:
                    with barrier(self._counters, peer_host):
                        try:
                            await self._serve(stream, guest)
                        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
                            logger.debug("x %s left in the middle of a request", peer_host)
                finally:
                    self._guests.leave(guest)

    async def _serve(self, stream: trio.abc.Stream, guest: Guest) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        while True:
            request_method = "GET"
            self._guests.idles(guest)
            with trio.move_on_after(REQUEST_TIMEOUT_S) as patience:
                try:
                    request = await _next_head(connection, stream)
                    if request is None:
                        return
                    request_method = request.method
                    self._authorize(request, guest.address)
                    self._guests.asks(guest)
                    upgrade = self._upgrades.get(request.path)
                    if upgrade is not None and _wants_websocket(request):
                        await _no_body(connection, stream)
                        patience.deadline = float("inf")
                        await upgrade(stream, request, connection.trailing_data[0])
                        return
                    response = await self._answer(request, guest, connection, stream, patience)
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

    async def _answer(
        self,
        request: Request,
        guest: Guest,
        connection: h11.Connection,
        stream: trio.abc.Stream,
        patience: trio.CancelScope,
    ) -> Response:
        methods = self._routes.get(request.path)
        if methods is None:
            raise HttpError(404, f"nothing is here; there is {', '.join(sorted(self._routes))}")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted(methods))
            raise HttpError(405, f"the method must be {allowed}", ("Allow", allowed))
        body = bytearray()
        try:
            await self._read_body(body, connection, stream)
            patience.deadline = trio.current_time() + ANSWER_TIMEOUT_S
            with barrier(self._counters, guest.address):
                try:
                    return await handler(evolve(request, body=bytes(body)))
                except HttpError as error:
                    return error.response
            raise HttpError(500, "a bug in Rowcast; the log says where")
        finally:
            self._bodies_bytes -= len(body)

    async def _read_body(self, body: bytearray, connection: h11.Connection, stream: trio.abc.Stream) -> None:
        while isinstance(part := await _next_event(connection, stream), h11.Data):
            if len(body) + len(part.data) > BODY_BYTES_MAX:
                raise HttpError(413, f"the body is longer than {BODY_BYTES_MAX} bytes")
            if self._bodies_bytes + len(part.data) > BODIES_BYTES_MAX:
                raise HttpError(503, "too many long requests at a time", ("Retry-After", "1"))
            body += part.data
            self._bodies_bytes += len(part.data)


async def _no_body(connection: h11.Connection, stream: trio.abc.Stream) -> None:
    if isinstance(await _next_event(connection, stream), h11.Data):
        raise HttpError(400, "a request for a WebSocket has no body")


def _wants_websocket(request: Request) -> bool:
    return request.method == "GET" and request.headers.get("upgrade", "").lower() == "websocket"


async def _next_head(connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    """The next request without its body; None if the peer has no more.

    Raises:
        HttpError: its length is said twice, or is too much; its body is not read, so the connection ends.
    """
    event = await _next_event(connection, stream)
    if not isinstance(event, h11.Request):
        return None
    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers and "content-length" in headers:
        # RFC 9112 §6.1: a proxy before us may have believed the other one.
        raise HttpError(400, "Content-Length and Transfer-Encoding at once", ("Connection", "close"))
    if length.isdigit() and int(length[:20]) > BODY_BYTES_MAX:
        raise HttpError(413, f"the body is longer than {BODY_BYTES_MAX} bytes", ("Connection", "close"))
    path, _, query = event.target.decode("latin-1").partition("?")
    return Request(
        method=event.method.decode(), path=path, query=dict(parse_qsl(query)), headers=headers, body=b""
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
