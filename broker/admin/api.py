"""`/api/v1/…`: what the page and `rowcast ctl` ask for and do, as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from broker.admin.http import Handler, HttpError, Request, Response, json_response
from broker.core.publication import Publication
from broker.links.mqtt.link import MqttLink
from broker.links.words import NOTICE
from broker.reports import listing
from broker.reports.facts import Facts
from broker.reports.listing import BadQuery, Json
from protocol.mqtt.topics import is_valid_topic_name
from protocol.websocket import CloseCode

logger = logging.getLogger("broker.admin")

KICKED = "disconnected by an administrator."
ROOT = "/api/v1/"


def json_body(request: Request) -> dict[str, Any]:
    """The object in a request's body.

    Raises:
        HttpError: it is none, or the type is one that a web page could send unasked, from somebody's browser here.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise HttpError(415, "Content-Type must be application/json")
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body must be JSON") from None
    if not isinstance(value, dict):
        raise HttpError(400, "an object is wanted")
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise HttpError(400, f"{name}: text is wanted")
    return value


class Api:
    """The handlers.

    Args:
        facts: of the broker that this is about.
        drain, reload: begin to; None where the process does not offer that.
    """

    def __init__(
        self,
        facts: Facts,
        drain: Callable[[], None] | None = None,
        reload: Callable[[], Awaitable[list[str]]] | None = None,
    ) -> None:
        self._facts = facts
        self._drain = drain
        self._reload = reload

    def routes(self) -> dict[str, dict[str, Handler]]:
        """By path and method."""
        lists = {
            "clients": listing.clients,
            "subscriptions": listing.subscriptions,
            "retained": listing.retained,
        }
        found: dict[str, dict[str, Handler]] = {
            ROOT + name: {"GET": self._listed(make)} for name, make in lists.items()
        }
        found[ROOT + "overview"] = {"GET": self._overview}
        found[ROOT + "feeds"] = {"GET": self._feeds}
        found[ROOT + "cluster"] = {"GET": self._cluster}
        found[ROOT + "clients/kick"] = {"POST": self._kick}
        found[ROOT + "retained/clear"] = {"POST": self._clear}
        found[ROOT + "feeds/acknowledge"] = {"POST": self._acknowledge}
        found[ROOT + "drain"] = {"POST": self._begin_drain}
        found[ROOT + "reload"] = {"POST": self._begin_reload}
        return found

    def _listed(self, make: Callable[[Facts, Mapping[str, str]], Awaitable[Json]]) -> Handler:
        async def answer(request: Request) -> Response:
            try:
                return json_response(await make(self._facts, request.query))
            except BadQuery as error:
                raise HttpError(400, str(error)) from None

        return answer

    async def _overview(self, _: Request) -> Response:
        return json_response(listing.overview(self._facts))

    async def _feeds(self, _: Request) -> Response:
        return json_response(listing.feeds(self._facts))

    async def _cluster(self, _: Request) -> Response:
        report = listing.cluster(self._facts)
        if report is None:
            raise HttpError(404, "this process is in no cluster: its configuration has no [cluster]")
        return json_response(report)

    async def _kick(self, request: Request) -> Response:
        body = json_body(request)
        with self._facts.engine.turn:
            self._disconnect(body)
        return json_response({"result": True})

    def _disconnect(self, body: Mapping[str, Any]) -> None:
        if "client" in body:
            name = _text(body, "client")
            session = self._facts.engine.sessions.get(name.encode("utf-8", "surrogatepass"))
            if session is None or session.link is None:
                raise HttpError(404, f"no client {name} is connected")
            link = session.link
            link.close(KICKED)
            if not (isinstance(link, MqttLink) and link.door.connection_messages):  # which has said so
                logger.log(NOTICE, "Client %s disconnected by an administrator.", name)
        else:
            name = _text(body, "peer")
            found = [one for one in self._facts.dialect_links() if one.peer == name]
            if not found:
                raise HttpError(404, f"nobody is connected from {name}")
            for one in found:
                one.close(CloseCode.POLICY_VIOLATION, "disconnected by an administrator")

    async def _clear(self, request: Request) -> Response:
        name = _text(json_body(request), "topic")
        topic = name.encode("utf-8", "surrogatepass")
        engine = self._facts.engine
        if not is_valid_topic_name(topic) or engine.retained.get(topic) is None:
            raise HttpError(404, f"nothing is retained on {name}")
        # As any client clears one [MQTT-3.3.1-10], so that those who are connected hear of it.
        with engine.turn:
            engine.publish(Publication(topic, b"", 0, retain=True))
        return json_response({"result": True})

    async def _acknowledge(self, request: Request) -> Response:
        name = _text(json_body(request), "feed")
        status = self._facts.feeds.get(name)
        if status is None:
            raise HttpError(
                404, f"there is no feed {name}: {', '.join(self._facts.feeds) or 'there is none'}"
            )
        status.last_gap = None
        logger.log(
            NOTICE, "feed %s: gaps up to number %d acknowledged by an administrator", name, status.gaps
        )
        return json_response({"result": True, "gaps": status.gaps})

    async def _begin_drain(self, request: Request) -> Response:
        json_body(request)
        if self._drain is None:
            raise HttpError(501, "this process does not drain; end the program that it is part of")
        self._drain()
        return json_response({"result": True})

    async def _begin_reload(self, request: Request) -> Response:
        json_body(request)
        if self._reload is None:
            raise HttpError(501, "this process does not read its configuration again")
        mistakes = await self._reload()
        if mistakes:
            return json_response({"result": False, "mistakes": mistakes}, 409)
        return json_response({"result": True})
