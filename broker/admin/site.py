"""What the admin port and the port of the metrics offer, and their listeners."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

import trio

from broker.admin.committing import outcome
from broker.admin.http import AdminServer, Handler, HttpError, Request, Response, json_response
from broker.admin.publishing import BadPublish, MeshPublisher
from broker.config.model import AdminHttp, Listener
from broker.gateway.gateway import Gateway
from broker.links.in_turns import in_turns
from broker.links.listening.accept import open_sockets
from broker.links.listening.inherited import Inherited
from broker.reports import exposition, metrics
from broker.reports.facts import Facts

PUBLISH_PATH = "/v1/mesh/publish"

PAGE_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self';"
        " img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


def publish_routes(gateway: Gateway) -> Mapping[str, Mapping[str, Handler]]:
    """Publishing, by path and method."""
    publisher = MeshPublisher(gateway)

    async def publish(request: Request) -> Response:
        # A web page could send any other type from the browser of somebody on this machine, unasked.
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HttpError(415, "Content-Type must be application/json")
        try:
            messages = await in_turns(publisher.read(request.body))
        except BadPublish as error:
            raise HttpError(400, str(error)) from None
        with gateway.engine.turn:
            published = publisher.publish(messages)
        status, said = await outcome(published)
        return json_response(said, status)

    return {PUBLISH_PATH: {"POST": publish}}


def watch_routes(facts: Facts) -> dict[str, dict[str, Handler]]:
    """What monitoring asks for."""

    async def show_metrics(request: Request) -> Response:
        families = metrics.families(facts)
        if "application/openmetrics-text" in request.headers.get("accept", ""):
            text, content_type = exposition.openmetrics_text(families), exposition.OPENMETRICS_TYPE
        else:
            text, content_type = exposition.prometheus_text(families), exposition.PROMETHEUS_TYPE
        return Response(200, text.encode(), content_type)

    async def health(request: Request) -> Response:
        status, text = facts.health(request.path)
        return Response(status, text.encode(), "text/plain; charset=utf-8")

    return {"/metrics": {"GET": show_metrics}, "/healthz": {"GET": health}, "/readyz": {"GET": health}}


def page_routes() -> dict[str, dict[str, Handler]]:
    """The page."""
    html = files("broker.admin").joinpath("page.html").read_bytes()

    async def page(_: Request) -> Response:
        return Response(200, html, "text/html; charset=utf-8", PAGE_HEADERS)

    return {"/": {"GET": page}}


def open_admin(config: AdminHttp, inherited: Inherited | None = None) -> list[trio.SocketListener]:
    """Open a port for HTTP.  Raises: ListenError."""
    sockets = open_sockets(Listener(config.port, host=config.host), inherited)
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


async def serve_http(admin: AdminServer, listeners: list[trio.SocketListener]) -> None:
    """Answer requests until cancelled."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            host = str(stream.socket.getpeername()[0])
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        await admin.serve(stream, host)

    await trio.serve_listeners(serve, listeners)
