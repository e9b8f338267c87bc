"""What the admin port offers, and its listener."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from broker.admin.http import AdminServer, Handler, HttpError, Request, Response, json_response
from broker.admin.publishing import BadPublish, MeshPublisher
from broker.config.model import AdminHttp, Listener
from broker.gateway.gateway import Gateway
from broker.links.listening.accept import open_sockets
from broker.links.server import Server

PUBLISH_PATH = "/v1/mesh/publish"


def routes_for(server: Server, gateway: Gateway) -> Mapping[str, Mapping[str, Handler]]:
    """Handlers by path and method."""
    publisher = MeshPublisher(gateway)

    async def publish(request: Request) -> Response:
        # A web page could send any other type from the browser of somebody on this machine, unasked.
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HttpError(415, "Content-Type must be application/json")
        try:
            with server.engine.turn:
                count = publisher.publish(request.body)
        except BadPublish as error:
            raise HttpError(400, str(error)) from None
        return json_response({"result": True, "published": count})

    return {PUBLISH_PATH: {"POST": publish}}


def open_admin(config: AdminHttp) -> list[trio.SocketListener]:
    """Open the admin port.  Raises: ListenError."""
    sockets = open_sockets(Listener(config.port, host=config.host))
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


async def serve_admin(
    config: AdminHttp, listeners: list[trio.SocketListener], server: Server, gateway: Gateway
) -> None:
    """Answer requests until cancelled."""
    admin = AdminServer(routes_for(server, gateway), config.token, server.engine.counters)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            host = str(stream.socket.getpeername()[0])
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        await admin.serve(stream, host)

    await trio.serve_listeners(serve, listeners)
