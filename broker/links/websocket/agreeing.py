"""What a WebSocket handshake leads to: which protocol the path means, and the link that will speak it.

Most are decided from their first bytes, at once; what somebody else has to be asked about is decided in a task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeAlias

import trio
from attrs import evolve, frozen

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import Asked, DialectKind, NotAdmitted
from broker.core.outbox import Outbox
from broker.gateway.gateway import Gateway
from broker.gateway.identity import TOKEN_BYTES_MAX
from broker.links.listening.door import Door
from broker.links.server import Server
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.event_stream import (
    NOT_ALLOWED,
    StreamRequest,
    admit_stream,
    response_to,
    stream_request,
)
from broker.links.websocket.event_stream_link import EventStreamLink
from broker.links.websocket.handshake import (
    HandshakeRefused,
    OpeningRequest,
    accept,
    answer,
    check_origin,
    head_in,
    health_asked,
    page_asked,
    peer_behind,
    plain_answer,
    read_head,
    understand,
)
from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.mqtt import MqttWebSocket
from broker.links.websocket.outbox import FramingOutbox
from broker.links.websocket.readers import Readers
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.shown_token import agreed_subprotocol, shown_token
from protocol.dialects.base import Clock, Dialect, Identity, Refusal
from protocol.dialects.rowcast import RowcastDialect, RowcastRules

logger = logging.getLogger("broker.links")

MQTT_SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
MQTT_PATH: Final = "/mqtt"


class OutboxMaker(Protocol):
    """What serves a connection after its handshake."""

    def dialect_outbox(self, bytes_max: int) -> Outbox:
        """An outbox of at most `bytes_max` for a JSON dialect."""

    def mqtt_outbox(self, bytes_max: int) -> FramingOutbox:
        """An outbox of at most `bytes_max` for MQTT."""


LinkFor: TypeAlias = Callable[[OutboxMaker], WebSocketLink]


@frozen
class Newcomer:
    """A connection that has yet to say what it wants; `identity` is its verified certificate's."""

    door: Door
    peer: str
    identity: bytes | None


@frozen
class Agreed:
    """What a handshake led to: the response, what came after the request, and the link to be made."""

    response: bytes
    rest: bytes
    link_for: LinkFor


Outcome: TypeAlias = Agreed | bytes
"""Bytes are what is to be said to a peer before hanging up, which may be nothing."""

Later: TypeAlias = Callable[[], Awaitable[Outcome]]
"""Finds the outcome out where somebody else has to be asked."""

Site: TypeAlias = Callable[[str], Awaitable[bytes | None]]


class Agreeing:
    """Decides about the handshakes of all WebSocket listeners.

    Args:
        server: the links of this broker.
        gateway: the dialects' side of it.
        readers: what the links of dialects share.
        ask: what a dialect's link has its tokens asked about with.
    """

    def __init__(
        self, server: Server, gateway: Gateway, readers: Readers, ask: Callable[[DialectLink, str], None]
    ) -> None:
        self.adopt(gateway.config)
        self.health: Callable[[str], tuple[int, str]] | None = None
        """Answers `/healthz` and `/readyz`, for load balancers."""
        self.site: Site | None = None
        """Answers a browser's plain GET on exchange listeners, given path and query; None where nothing is."""
        self._server = server
        self._gateway = gateway
        self._readers = readers
        self._ask = ask

    def adopt(self, config: GatewayConfig) -> None:
        """Go by these settings from now on."""
        self.config = config
        self._kinds = config.dialects

    def at_once(self, newcomer: Newcomer, came: bytes) -> Outcome | Later | None:
        """What these first bytes lead to; None where more have to come first."""
        try:
            found = head_in(came, self._head_bytes_max(newcomer.door))
            return None if found is None else self._decide(newcomer, *found)
        except HandshakeRefused as refused:
            return self._refusal(newcomer, refused)

    async def in_time(
        self, newcomer: Newcomer, outcome: Outcome | Later | None, came: bytes, stream: trio.abc.ReceiveStream
    ) -> Outcome:
        """What the handshake leads to after all.

        Args:
            outcome, came: of `at_once`.
        """
        with trio.move_on_after(self.config.handshake_timeout_s):
            try:
                if outcome is None:
                    head, rest = await read_head(stream, self._head_bytes_max(newcomer.door), came)
                    outcome = self._decide(newcomer, head, rest) if head else b""
                return await outcome() if callable(outcome) else outcome
            except HandshakeRefused as refused:
                return self._refusal(newcomer, refused)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                logger.debug("x %s left during the handshake", newcomer.peer)
        return b""

    def _refusal(self, newcomer: Newcomer, refused: HandshakeRefused) -> bytes:
        logger.info("WebSocket handshake of %s refused: %s", newcomer.peer, refused.reason)
        self._server.engine.counters.refuse("handshake")
        return answer(refused)

    # --- what kind of request it is --------------------------------------------------------------------------

    def _decide(self, newcomer: Newcomer, head: bytes, rest: bytes) -> Outcome | Later:
        if self.health is not None and (path := health_asked(head)):
            return plain_answer(*self.health(path))
        site = self.site
        if site is not None and "exchange" in newcomer.door.listener.dialects and (path := page_asked(head)):
            return partial(self._page, site, path, newcomer, head, rest)
        return self._decide_upgrade(newcomer, head, rest)

    async def _page(self, site: Site, path: str, newcomer: Newcomer, head: bytes, rest: bytes) -> Outcome:
        page = await site(path)
        if page is not None:
            return page
        outcome = self._decide_upgrade(newcomer, head, rest)
        return await outcome() if callable(outcome) else outcome

    def _decide_upgrade(self, newcomer: Newcomer, head: bytes, rest: bytes) -> Agreed | Later:
        rowcast = self.config.rowcast
        if rowcast is not None and "rowcast" in newcomer.door.listener.dialects:
            asked = stream_request(head, rowcast.path)
            if asked is not None:
                return partial(
                    self._event_stream, self._behind(newcomer, asked.forwarded_for), asked, rowcast.rules
                )
        opening = understand(head, self._hint(newcomer.door))
        return self._decide_protocol(self._behind(newcomer, opening.forwarded_for), opening, rest)

    def _behind(self, newcomer: Newcomer, forwarded_for: str) -> Newcomer:
        peer = peer_behind(newcomer.peer, forwarded_for, self.config.trusted_proxies)
        return newcomer if peer == newcomer.peer else evolve(newcomer, peer=peer)

    async def _event_stream(self, newcomer: Newcomer, asked: StreamRequest, rules: RowcastRules) -> Agreed:
        check_origin(newcomer.door.listener.websockets_origins, asked.origin or None)
        dialect = await admit_stream(asked, rules, self._gateway, _clock(), trio.current_time())
        by_now = self.config.rowcast
        if by_now is not None and dialect.adopt_anonymous(by_now.rules.anonymous):
            raise HandshakeRefused(401, NOT_ALLOWED)
        return Agreed(response_to(asked), b"", self._rowcast_link(EventStreamLink, newcomer, dialect, 0))

    # --- which protocol --------------------------------------------------------------------------------------

    def _decide_protocol(self, newcomer: Newcomer, opening: OpeningRequest, rest: bytes) -> Agreed | Later:
        door = newcomer.door
        check_origin(door.listener.websockets_origins, opening.origin)
        subprotocol = self._mqtt_subprotocol(door, opening)
        if subprotocol is not None:
            return Agreed(accept(opening.key, subprotocol), rest, self._mqtt_link(newcomer))
        kind, asked = self._dialect_asked(door, opening)
        clock = _clock()
        if not asked.token:
            return self._accept(newcomer, opening, rest, kind, asked, clock, None)
        found = self._gateway.identify_at_once(kind.name, asked.token, clock)
        if found is None:
            return partial(self._accept_later, newcomer, opening, rest, kind, asked, clock)
        return self._accept(newcomer, opening, rest, kind, asked, clock, found)

    def _mqtt_subprotocol(self, door: Door, opening: OpeningRequest) -> str | None:
        """The MQTT subprotocol that was agreed on, or None if this is no MQTT client."""
        if "mqtt" not in door.listener.dialects:
            return None
        for name in MQTT_SUBPROTOCOLS:
            if name in opening.subprotocols:
                return name
        if opening.path == MQTT_PATH:
            raise HandshakeRefused(400, "MQTT over WebSocket needs the subprotocol mqtt")
        return None

    def _dialect_asked(self, door: Door, opening: OpeningRequest) -> tuple[DialectKind, Asked]:
        """What the path means on this listener."""
        for kind in self._kinds:
            asked = kind.asked(opening.target) if kind.name in door.listener.dialects else None
            if asked is not None:
                return kind, asked
        raise HandshakeRefused(404, self._hint(door))

    async def _accept_later(
        self,
        newcomer: Newcomer,
        opening: OpeningRequest,
        rest: bytes,
        kind: DialectKind,
        asked: Asked,
        clock: Clock,
    ) -> Agreed:
        found = await self._gateway.identify(kind.name, asked.token, clock)
        by_now = next((one for one in self._kinds if one.name == kind.name), kind)
        return self._accept(newcomer, opening, rest, by_now, asked, clock, found)

    def _accept(
        self,
        newcomer: Newcomer,
        opening: OpeningRequest,
        rest: bytes,
        kind: DialectKind,
        asked: Asked,
        clock: Clock,
        found: Identity | Refusal | None,
    ) -> Agreed:
        try:
            dialect = kind.open(asked, found, clock, trio.current_time())
        except NotAdmitted as refusal:
            raise HandshakeRefused(400, str(refusal)) from None
        link_for = self._dialect_link(newcomer, opening, dialect, kind.message_bytes_max)
        subprotocol = agreed_subprotocol(opening) if "rowcast" in newcomer.door.listener.dialects else None
        return Agreed(accept(opening.key, subprotocol), rest, link_for)

    # --- links -----------------------------------------------------------------------------------------------

    def _mqtt_link(self, newcomer: Newcomer) -> LinkFor:
        door = newcomer.door
        return lambda maker: MqttWebSocket(
            self._server, door, maker.mqtt_outbox(door.outbox_bytes_max), newcomer.peer, newcomer.identity
        )

    def _dialect_link(
        self, newcomer: Newcomer, opening: OpeningRequest, dialect: Dialect, message_bytes_max: int
    ) -> LinkFor:
        message_bytes_max = message_bytes_max or self.config.message_bytes_max
        if isinstance(dialect, RowcastDialect):
            dialect.token = shown_token(opening)
            dialect.node = self._readers.history.positions.epoch
            return self._rowcast_link(RowcastLink, newcomer, dialect, message_bytes_max)
        gateway, peer, ask, readers = self._gateway, newcomer.peer, self._ask, self._readers
        owed_max = self.config.outbox_bytes_max
        return lambda maker: DialectLink(
            dialect, gateway, maker.dialect_outbox(owed_max), peer, message_bytes_max, ask, readers
        )

    def _rowcast_link(
        self, made: type[RowcastLink], newcomer: Newcomer, dialect: RowcastDialect, message_bytes_max: int
    ) -> LinkFor:
        gateway, peer, ask, readers = self._gateway, newcomer.peer, self._ask, self._readers
        owed_max = self.config.outbox_bytes_max
        return lambda maker: made(
            dialect, gateway, maker.dialect_outbox(owed_max), peer, message_bytes_max, ask, readers
        )

    # --- words -----------------------------------------------------------------------------------------------

    def _head_bytes_max(self, door: Door) -> int:
        """Room for mosquitto.conf's headers, and for a token in the path where a dialect has one there."""
        return door.listener.websockets_headers_size_bytes + (
            0 if door.listener.dialects == ("mqtt",) else TOKEN_BYTES_MAX
        )

    def _hint(self, door: Door) -> str:
        names = door.listener.dialects
        spoken = [f"{MQTT_PATH} (MQTT, subprotocol mqtt)"] if "mqtt" in names else []
        spoken += [f"{kind.path} ({kind.title})" for kind in self._kinds if kind.name in names]
        return f"This port speaks WebSocket on: {', '.join(spoken)}.\n"


def _clock() -> Clock:
    return Clock(time.time() - trio.current_time())
