"""What the admin port offers: publishing that no web page can ask for unasked, numbers, health, and the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.report_app import App, facts_of

from broker.admin.http import HttpError, Request, Response
from broker.admin.site import PUBLISH_PATH, open_admin, page_routes, publish_routes, watch_routes
from broker.config.dialects.gateway import GatewayConfig
from broker.config.model import AdminHttp
from broker.core.engine import Engine
from broker.core.promise import Promise
from broker.core.publication import Publication
from broker.gateway.gateway import Gateway
from broker.links.listening.accept import ListenError


def request(path: str = "/", body: bytes = b"", **headers: str) -> Request:
    return Request("GET", path, {}, {name.replace("_", "-"): value for name, value in headers.items()}, body)


async def publish(engine: Engine, body: bytes, content_type: str = "application/json") -> Response:
    routes = publish_routes(Gateway(GatewayConfig(), engine, {}))
    return await routes[PUBLISH_PATH]["POST"](request(body=body, content_type=content_type))


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8"]
)
async def test_what_is_published_is_answered_with_how_many(content_type: str) -> None:
    engine = Engine()
    response = await publish(engine, b'{"topic": "t", "d": "x", "retain": true}', content_type)
    assert (response.status, json.loads(response.body)) == (200, {"result": True, "published": 1})
    assert [one.payload for one in engine.retained.all()] == [b"x"]


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; application/json"],
)
async def test_what_a_web_page_could_send_unasked_is_refused(content_type: str) -> None:
    engine = Engine()
    with pytest.raises(HttpError) as refused:
        await publish(engine, b'{"topic": "t", "d": "x", "retain": true}', content_type)
    assert refused.value.response.status == 415
    assert engine.retained.all() == []


async def test_what_can_not_be_published_is_answered_with_why() -> None:
    with pytest.raises(HttpError, match="the body must be JSON") as refused:
        await publish(Engine(), b"{")
    assert refused.value.response.status == 400


async def test_a_refusal_of_a_table_is_told_with_its_status() -> None:
    engine = Engine()

    def refuse(publication: Publication) -> bool:
        publication.promise = Promise()
        publication.promise.join()
        publication.promise.keep(0x80)
        return True

    engine.log = refuse
    response = await publish(engine, b'{"topic": "t", "d": "x"}')
    assert (response.status, json.loads(response.body)["refused"]) == (422, [0])


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("", "text/plain; version=0.0.4", "\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", "# EOF\n"),
    ],
)
async def test_numbers_come_in_the_form_that_is_asked_for(accept: str, content_type: str, end: str) -> None:
    routes = watch_routes(facts_of(App())[0])
    response = await routes["/metrics"]["GET"](request(accept=accept))
    assert response.content_type.startswith(content_type)
    assert response.body.decode().endswith(end)
    assert b"rowcast_ready 1" in response.body


async def test_health_and_readiness_are_two_questions() -> None:
    app = App()
    app.is_listening = False
    routes = watch_routes(facts_of(app)[0])
    alive = await routes["/healthz"]["GET"](request("/healthz"))
    ready = await routes["/readyz"]["GET"](request("/readyz"))
    assert (alive.status, alive.body) == (200, b"ok\n")
    assert (ready.status, ready.body) == (503, b"starting: the listeners are not open yet\n")


async def test_the_page_may_load_nothing_from_elsewhere_and_asks_for_nothing_there() -> None:
    response = await page_routes()["/"]["GET"](request())
    headers = dict(response.headers)
    policy: dict[str, Any] = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(rb'(src|href)="(https?:)?//', response.body)


async def test_a_port_that_is_taken_is_told() -> None:
    (listener,) = open_admin(AdminHttp(0))
    port = listener.socket.getsockname()[1]
    with pytest.raises(ListenError):
        open_admin(AdminHttp(port))
    await listener.aclose()
