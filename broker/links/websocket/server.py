"""WebSocket connections: the handshake, which protocol a path means, and who serves it from then on.

Once it is accepted, the connection goes to the pump.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import trio
from attrs import evolve, frozen

from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.kind import NotAdmitted
from broker.config.feeds import FeedConfig
from broker.core.history import History
from broker.core.outbox import Outbox
from broker.core.positions import Positions
from broker.gateway.gaps import GAP_FILTER
from broker.gateway.gateway import Gateway
from broker.gateway.identity import HOOK_CONCURRENT_MAX, HOOK_SHARE_MAX, TOKEN_BYTES_MAX
from broker.links.barrier import barrier
from broker.links.departed import Departed
from broker.links.listening.door import Door
from broker.links.listening.turns import Turns
from broker.links.server import Server
from broker.links.tls_socket import Socket
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.event_stream import (
    StreamRequest,
    admit_stream,
    response_to,
    stream_request,
)
from broker.links.websocket.event_stream_link import EventStreamLink
from broker.links.websocket.farewell import all_owed, part
from broker.links.websocket.handshake import (
    OpeningRequest,
    Refused,
    accept,
    answer,
    check_origin,
    health_asked,
    page_asked,
    peer_behind,
    plain_answer,
    read_head,
    understand,
)
from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.mqtt import MqttWebSocket
from broker.links.websocket.open_links import OpenLinks
from broker.links.websocket.outbox import FramingOutbox
from broker.links.websocket.pacer import Pacer
from broker.links.websocket.pumped import PumpedWebSocket
from broker.links.websocket.readers import Readers
from broker.links.websocket.rereading import Rereading
from broker.links.websocket.rowcast import RowcastLink
from broker.links.websocket.shown_token import agreed_subprotocol, shown_token
from broker.links.websocket.state_reading import StateReading
from broker.links.websocket.stream import stream_of
from protocol.dialects.base import Clock, Dialect
from protocol.dialects.rowcast import RowcastDialect
from protocol.websocket import CloseCode

logger = logging.getLogger("broker.links")

MQTT_SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
MQTT_PATH: Final = "/mqtt"


class Shell(Protocol):
    """What serves a connection after its handshake."""

    def dialect_outbox(self, bytes_max: int) -> Outbox:
        """An outbox of at most `bytes_max` for a JSON dialect."""

    def mqtt_outbox(self, bytes_max: int) -> FramingOutbox:
        """An outbox of at most `bytes_max` for MQTT."""


@frozen
class Arrival:
    """A connection that has yet to say what it wants; `identity` is its verified certificate's."""

    stream: trio.abc.HalfCloseableStream
    door: Door
    peer: str
    identity: bytes | None


@frozen
class Agreed:
    """What a handshake led to: the response, what came after the request, and the link to be made."""

    response: bytes
    rest: bytes
    link_for: Callable[[Shell], WebSocketLink]


class WebSocketServer:
    """Serves the connections of all WebSocket listeners.

    Args:
        server: the links of this broker.
        gateway: the dialects' side of it.
        history: positions, and what is kept for whoever comes back; none is kept if not given.
    """

    def __init__(self, server: Server, gateway: Gateway, history: History | None = None) -> None:
        self._server = server
        self._engine = server.engine
        self._gateway = gateway
        self._config = gateway.config
        self._open = OpenLinks()
        self._login_turns = Turns(HOOK_CONCURRENT_MAX, HOOK_SHARE_MAX)
        self._departed = Departed()
        if history is None:
            history = History(Positions("-"))
        self.rereading = Rereading(history, server.nursery)
        pacer, tables = Pacer(server.engine, server.nursery), StateReading(history, server.nursery)
        self._readers = Readers(history, pacer.later, self.rereading.ask, tables.ask)
        if history.rings:
            server.engine.subscribe(self._readers, GAP_FILTER, 0)
        self.health: Callable[[str], tuple[int, str]] | None = None
        """Answers `/healthz` and `/readyz`, for load balancers."""
        self.site: Callable[[str], Awaitable[bytes | None]] | None = None
        """Answers a browser's plain GET on exchange listeners, given path and query; None where nothing is."""

    def links(self) -> list[WebSocketLink]:
        """Those that are open."""
        return self._open.links()

    def dialect_links(self) -> list[DialectLink]:
        """The open connections that speak a JSON dialect."""
        return [link for link in self._open.links() if isinstance(link, DialectLink)]

    def counts(self) -> dict[str, float]:
        """Open connections by what they speak; all that is set up is there."""
        found: dict[str, float] = {"mqtt": 0, **{kind.name: 0 for kind in self._config.dialects}}
        for link in self.links():
            name = link.dialect.name if isinstance(link, DialectLink) else "mqtt"
            found[name] = found.get(name, 0) + 1
        return found

    def adopt(self, config: GatewayConfig, feeds: Iterable[FeedConfig]) -> None:
        """Take over new settings, for handshakes and logins to come; clients that are connected keep theirs."""
        self._gateway.adopt(config)
        self._gateway.adopt_feeds(feeds)
        self._config = config

    def take(self, sock: Socket, door: Door, peer: str, identity: bytes | None = None) -> None:
        """A connection, from the first byte of its request; whatever goes wrong ends it and nothing else."""
        door.enter()
        self._server.nursery.start_soon(self._serve, sock, door, peer, identity)

    async def _serve(self, sock: Socket, door: Door, peer: str, identity: bytes | None) -> None:
        """Returns once the pump has it, or it is closed."""
        stream = stream_of(sock)
        agreed: Agreed | bytes = b""
        try:
            try:
                with barrier(self._engine.counters, peer):
                    agreed = await self._agree_in_time(Arrival(stream, door, peer, identity))
            finally:
                if isinstance(agreed, bytes):
                    await part(stream, agreed, _anything)
            if not isinstance(agreed, bytes):
                with barrier(self._engine.counters, peer):
                    self._give_to_pump(sock, door, agreed)
        finally:
            door.leave()

    async def close_all(self) -> None:
        """Say goodbye to all clients, and wait until they have gone."""
        with self._engine.turn:
            for link in self._open.links():
                link.close(CloseCode.GOING_AWAY, "the server is shutting down")
        await self._open.emptied()

    # --- after the handshake -------------------------------------------------------------------------------

    def _give_to_pump(self, sock: Socket, door: Door, agreed: Agreed) -> None:
        connection = PumpedWebSocket(
            self._server.pump, sock, door, self._part_soon, self._over, self._may_stay
        )
        link = self._make(connection, agreed)
        connection.adopt(link)
        self._begin(link, agreed)

    def _make(self, shell: Shell, agreed: Agreed) -> WebSocketLink:
        with self._engine.turn:
            link = agreed.link_for(shell)
        self._open.add(link)
        return link

    def _begin(self, link: WebSocketLink, agreed: Agreed) -> None:
        with self._engine.turn:
            link.push(agreed.response)
            with barrier(self._engine.counters, link.peer, link.close_for_a_bug):
                link.open()
            link.received(agreed.rest)

    def _part_soon(self, connection: PumpedWebSocket) -> None:
        self._server.nursery.start_soon(self._part, connection)

    async def _part(self, connection: PumpedWebSocket) -> None:
        link = connection.link
        self._server.pump.release(connection)
        stream = stream_of(connection.sock)
        try:
            with self._engine.turn, barrier(self._engine.counters, link.peer):
                link.ended()
            await part(stream, all_owed(connection.outbox), link.hears_close)
        finally:
            # Only now, so that whoever waits for the last link lets it say goodbye.
            self._remove(link)

    def _over(self, link: WebSocketLink) -> None:
        with barrier(self._engine.counters, link.peer):
            link.ended()
        self._remove(link)

    def _remove(self, link: WebSocketLink) -> None:
        self._open.remove(link)
        if link.departed:
            self._departed.leave(_address(link))

    def _may_stay(self, link: WebSocketLink) -> bool:
        return self._departed.stay(_address(link))

    def _ask(self, link: DialectLink, token: str) -> None:
        self._server.nursery.start_soon(self._identify_for, link, token)

    async def _identify_for(self, link: DialectLink, token: str) -> None:
        dialect = link.dialect
        with barrier(self._engine.counters, link.peer, link.close_for_a_bug):
            async with self._login_turns.one(_address(link)):
                if link.closing:
                    return  # it left while it waited
                outcome = await self._gateway.identify(dialect.name, token, dialect.clock)
            with self._engine.turn:
                link.logged_in(outcome)

    # --- handshake -----------------------------------------------------------------------------------------

    async def _agree_in_time(self, arrival: Arrival) -> Agreed | bytes:
        """What the handshake led to; or what is to be said to a peer before hanging up, which may be nothing."""
        with trio.move_on_after(self._config.handshake_timeout_s):
            try:
                return await self._agree(arrival)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                logger.debug("x %s left during the handshake", arrival.peer)
        return b""

    async def _agree(self, arrival: Arrival) -> Agreed | bytes:
        door = arrival.door
        try:
            head, rest = await read_head(arrival.stream, self._head_bytes_max(door))
            if not head:
                return b""
            if self.health is not None and (path := health_asked(head)):
                return plain_answer(*self.health(path))
            if self.site is not None and "exchange" in door.listener.dialects and (path := page_asked(head)):
                page = await self.site(path)
                if page is not None:
                    return page
            asked = self._stream_asked(door, head)
            if asked is not None:
                return await self._event_stream(arrival, asked)
            opening = understand(head, self._hint(door))
            peer = peer_behind(arrival.peer, opening.forwarded_for, self._config.trusted_proxies)
            arrival = evolve(arrival, peer=peer)
            return await self._accept(arrival, opening, rest)
        except Refused as refused:
            logger.info("WebSocket handshake of %s refused: %s", arrival.peer, refused.reason)
            self._engine.counters.refuse("handshake")
            return answer(refused)

    def _stream_asked(self, door: Door, head: bytes) -> StreamRequest | None:
        rowcast = self._config.rowcast
        if rowcast is None or "rowcast" not in door.listener.dialects:
            return None
        return stream_request(head, rowcast.path)

    async def _event_stream(self, arrival: Arrival, asked: StreamRequest) -> Agreed:
        rowcast = self._config.rowcast
        assert rowcast is not None
        check_origin(arrival.door.listener.websockets_origins, asked.origin or None)
        clock = Clock(time.time() - trio.current_time())
        dialect = await admit_stream(asked, rowcast.rules, self._gateway, clock, trio.current_time())
        return Agreed(response_to(asked), b"", self._rowcast_link(EventStreamLink, arrival, dialect, 0))

    async def _accept(self, arrival: Arrival, opening: OpeningRequest, rest: bytes) -> Agreed:
        door = arrival.door
        check_origin(door.listener.websockets_origins, opening.origin)
        subprotocol = self._mqtt_subprotocol(door, opening)
        if subprotocol is not None:
            link_for = self._mqtt_link(arrival)
        else:
            link_for = await self._dialect_link(arrival, opening)
            subprotocol = agreed_subprotocol(opening) if "rowcast" in door.listener.dialects else None
        return Agreed(accept(opening.key, subprotocol), rest, link_for)

    def _mqtt_link(self, arrival: Arrival) -> Callable[[Shell], WebSocketLink]:
        door = arrival.door
        return lambda shell: MqttWebSocket(
            self._server, door, shell.mqtt_outbox(door.outbox_bytes_max), arrival.peer, arrival.identity
        )

    async def _dialect_link(
        self, arrival: Arrival, opening: OpeningRequest
    ) -> Callable[[Shell], WebSocketLink]:
        clock = Clock(time.time() - trio.current_time())
        dialect, message_bytes_max = await self._dialect_for(arrival.door, opening, clock)
        outbox_bytes_max = self._config.outbox_bytes_max
        if isinstance(dialect, RowcastDialect):
            dialect.token = shown_token(opening)
            dialect.node = self._readers.history.positions.epoch
            return self._rowcast_link(RowcastLink, arrival, dialect, message_bytes_max)
        return lambda shell: DialectLink(
            dialect,
            self._gateway,
            shell.dialect_outbox(outbox_bytes_max),
            arrival.peer,
            message_bytes_max,
            self._ask,
            self._readers,
        )

    def _rowcast_link(
        self, made: type[RowcastLink], arrival: Arrival, dialect: RowcastDialect, message_bytes_max: int
    ) -> Callable[[Shell], WebSocketLink]:
        gateway, peer, ask, readers = self._gateway, arrival.peer, self._ask, self._readers
        owed_max = self._config.outbox_bytes_max
        return lambda shell: made(
            dialect, gateway, shell.dialect_outbox(owed_max), peer, message_bytes_max, ask, readers
        )

    def _mqtt_subprotocol(self, door: Door, opening: OpeningRequest) -> str | None:
        """The MQTT subprotocol that was agreed on, or None if this is no MQTT client."""
        if "mqtt" not in door.listener.dialects:
            return None
        for name in MQTT_SUBPROTOCOLS:
            if name in opening.subprotocols:
                return name
        if opening.path == MQTT_PATH:
            raise Refused(400, "MQTT over WebSocket needs the subprotocol mqtt")
        return None

    async def _dialect_for(self, door: Door, opening: OpeningRequest, clock: Clock) -> tuple[Dialect, int]:
        """What the path means on this listener, and the largest message that may come."""
        names = door.listener.dialects
        for kind in self._config.dialects:
            asked = kind.asked(opening.target) if kind.name in names else None
            if asked is None:
                continue
            found = await self._gateway.identify(kind.name, asked.token, clock) if asked.token else None
            try:
                dialect = kind.open(asked, found, clock, trio.current_time())
            except NotAdmitted as refusal:
                raise Refused(400, str(refusal)) from None
            return dialect, kind.message_bytes_max or self._config.message_bytes_max
        raise Refused(404, self._hint(door))

    def _head_bytes_max(self, door: Door) -> int:
        """Room for mosquitto.conf's headers, and for a token in the path where a dialect has one there."""
        return door.listener.websockets_headers_size_bytes + (
            0 if door.listener.dialects == ("mqtt",) else TOKEN_BYTES_MAX
        )

    def _hint(self, door: Door) -> str:
        names = door.listener.dialects
        spoken = [f"{MQTT_PATH} (MQTT, subprotocol mqtt)"] if "mqtt" in names else []
        spoken += [f"{kind.path} ({kind.title})" for kind in self._config.dialects if kind.name in names]
        return f"This port speaks WebSocket on: {', '.join(spoken)}.\n"


def _address(link: WebSocketLink) -> str:
    return link.peer.rpartition(":")[0] or link.peer


def _anything(_: bytes) -> bool:
    """From a peer that was refused nothing is waited for."""
    return True
