"""WebSocket connections: each from its first bytes to the pump, and from the pump to its end.

Where the handshake needs only what has come already, the connection is in the pump at once; a task waits for the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from broker.config.dialects.gateway import GatewayConfig
from broker.config.feeds import FeedConfig
from broker.core.history import History
from broker.core.positions import Positions
from broker.gateway.gaps import GAP_FILTER
from broker.gateway.gateway import Gateway
from broker.gateway.identity import HOOK_CONCURRENT_MAX, HOOK_SHARE_MAX
from broker.links.barrier import barrier
from broker.links.departed import Departed
from broker.links.listening.door import Door
from broker.links.listening.turns import Turns
from broker.links.server import Server
from broker.links.tls_socket import Socket, TlsSocket
from broker.links.websocket.agreeing import Agreed, Agreeing, Later, Newcomer, OutboxMaker, Outcome
from broker.links.websocket.dialect import DialectLink
from broker.links.websocket.farewell import all_owed, part
from broker.links.websocket.handshake import FIRST_BYTES
from broker.links.websocket.link import WebSocketLink
from broker.links.websocket.open_links import OpenLinks
from broker.links.websocket.pacer import Pacer
from broker.links.websocket.pumped import PumpedWebSocket
from broker.links.websocket.readers import Readers
from broker.links.websocket.rereading import Rereading
from broker.links.websocket.state_reading import StateReading
from broker.links.websocket.stream import stream_of
from protocol.websocket import CloseCode

logger = logging.getLogger("broker.links")


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
        self._open = OpenLinks()
        self._login_turns = Turns(HOOK_CONCURRENT_MAX, HOOK_SHARE_MAX)
        self._departed = Departed()
        if history is None:
            history = History(Positions("-"))
        counters = server.engine.counters
        self.rereading = Rereading(history, server.nursery, counters)
        pacer, tables = Pacer(server.engine, server.nursery), StateReading(history, server.nursery, counters)
        readers = Readers(history, pacer.later, self.rereading.ask, tables.ask)
        if history.rings:
            server.engine.subscribe(readers, GAP_FILTER, 0)
        self.agreeing = Agreeing(server, gateway, readers, self._ask)

    def links(self) -> list[WebSocketLink]:
        """Those that are open."""
        return self._open.links()

    def dialect_links(self) -> list[DialectLink]:
        """The open connections that speak a JSON dialect."""
        return [link for link in self._open.links() if isinstance(link, DialectLink)]

    def counts(self) -> dict[str, float]:
        """Open connections by what they speak; all that is set up is there."""
        found: dict[str, float] = {"mqtt": 0, **{kind.name: 0 for kind in self.agreeing.config.dialects}}
        for link in self.links():
            name = link.dialect.name if isinstance(link, DialectLink) else "mqtt"
            found[name] = found.get(name, 0) + 1
        return found

    def adopt(self, config: GatewayConfig, feeds: Iterable[FeedConfig]) -> None:
        """Take over new settings, for handshakes and logins to come; connected clients keep limits and intervals."""
        self._gateway.adopt(config)
        self._gateway.adopt_feeds(feeds)
        self.agreeing.adopt(config)

    def take(self, sock: Socket, door: Door, peer: str, identity: bytes | None = None) -> None:
        """A connection, from the first byte of its request; whatever goes wrong ends it and nothing else."""
        door.enter()
        newcomer = Newcomer(door, peer, identity)
        came = _come_already(sock)
        outcome: Outcome | Later | None = b""
        with barrier(self._engine.counters, peer):
            outcome = self.agreeing.at_once(newcomer, came)
        if isinstance(outcome, Agreed):
            self._proceed(sock, newcomer, outcome)
        else:
            self._server.arrivals.started()
            self._server.nursery.start_soon(self._serve, sock, newcomer, outcome, came)

    async def _serve(
        self, sock: Socket, newcomer: Newcomer, begun: Outcome | Later | None, came: bytes
    ) -> None:
        """Returns once the pump has it, or it is closed."""
        stream = stream_of(sock)
        agreed: Outcome = b""
        try:
            with barrier(self._engine.counters, newcomer.peer):
                agreed = await self.agreeing.in_time(newcomer, begun, came, stream)
        finally:
            if not isinstance(agreed, Agreed):
                try:
                    await part(stream, agreed, _anything)
                finally:
                    newcomer.door.leave()
        if isinstance(agreed, Agreed):
            self._proceed(sock, newcomer, agreed)

    def _proceed(self, sock: Socket, newcomer: Newcomer, agreed: Agreed) -> None:
        """Have the pump serve it from now on."""
        try:
            with barrier(self._engine.counters, newcomer.peer):
                self._give_to_pump(sock, newcomer.door, agreed)
        finally:
            newcomer.door.leave()

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

    def _make(self, maker: OutboxMaker, agreed: Agreed) -> WebSocketLink:
        with self._engine.turn:
            link = agreed.link_for(maker)
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


def _address(link: WebSocketLink) -> str:
    return link.peer.rpartition(":")[0] or link.peer


def _anything(_: bytes) -> bool:
    """From a peer that was refused nothing is waited for."""
    return True


def _come_already(sock: Socket) -> bytes:
    """The first bytes, as far as they are here; whoever reads on learns what is wrong where none are."""
    if isinstance(sock, TlsSocket) and (rest := sock.take_rest()):
        return rest
    try:
        return sock.recv(FIRST_BYTES)
    except OSError:
        return b""
