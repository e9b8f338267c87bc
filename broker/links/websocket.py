"""WebSocket connections: handshake, which protocol a path means, and serving it until either side closes.

trio-websocket does the framing, over a stream of ours that all bytes go through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, cast

import trio
import trio_websocket
import wsproto
from attrs import evolve, frozen

from broker.config.feeds import EconiaDialect as EconiaConfig
from broker.gateway.dialects import path_dialects
from broker.gateway.gateway import Gateway
from broker.gateway.identity import TOKEN_BYTES_MAX
from broker.links.barrier import barrier
from broker.links.dialect import DialectLink
from broker.links.door import Door
from broker.links.handshake import (
    OpeningRequest,
    Refused,
    answer,
    as_mosquitto,
    peer_behind,
    read_head,
    replayed,
    understand,
)
from broker.links.server import Server
from broker.links.websocket_mqtt import MqttConnection
from broker.links.websocket_stream import CLOSE_GRACE_S, WebSocketStream
from protocol.dialects.base import Clock, Dialect, Identity
from protocol.dialects.econia import REFUSAL_TEXTS, EconiaDialect, admit, credentials_of
from protocol.websocket import CloseCode

logger = logging.getLogger("broker.links")

MQTT_SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
MQTT_PATH: Final = "/mqtt"

RECEIVE_BYTES: Final = 4096
"""Clients of a dialect say little; the buffer is theirs for as long as they are connected."""

MQTT_MESSAGE_BYTES_UNLIMITED: Final = 2**28 + 4
"""The largest MQTT packet there can be (MQTT 3.1.1 §2.2.3), where no limit is configured."""


@frozen
class Arrival:
    """A connection that has yet to say what it wants; `identity` is its verified certificate's."""

    stream: WebSocketStream
    door: Door
    peer: str
    identity: bytes | None


class WebSocketServer:
    """Serves the connections of all WebSocket listeners.

    Args:
        server: the links of this broker.
        gateway: the dialects' side of it.
    """

    def __init__(self, server: Server, gateway: Gateway) -> None:
        self._server = server
        self._engine = server.engine
        self._gateway = gateway
        self._config = gateway.config
        self._dialects = path_dialects(gateway.config)
        self._open = OpenLinks()

    async def serve(
        self, inner: trio.abc.Stream, door: Door, peer: str, identity: bytes | None = None
    ) -> None:
        """One connection, from its first byte to its last; whatever goes wrong ends it and nothing else."""
        # One frame deep on purpose: what is on the stack here is what every idle client costs.
        door.open_count += 1
        stream = WebSocketStream(
            inner, self._engine.round, self._config.outbox_bytes_max, self._server.nursery
        )
        try:
            with barrier(self._engine.counters, peer):
                opened = await self._open_in_time(Arrival(stream, door, peer, identity))
                if opened is not None:
                    await opened.run()
        finally:
            door.open_count -= 1
            await stream.aclose()

    async def close_all(self) -> None:
        """Say goodbye to all dialect clients, and wait until they have gone."""
        await self._open.close_all(CloseCode.GOING_AWAY, "the server is shutting down")

    # --- handshake -----------------------------------------------------------------------------------------

    async def _open_in_time(self, arrival: Arrival) -> Opened:
        with trio.move_on_after(self._config.handshake_timeout_s):
            try:
                return await self._shake_hands(arrival)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                logger.debug("x %s left during the handshake", arrival.peer)
        return None

    async def _shake_hands(self, arrival: Arrival) -> Opened:
        """Answer the opening request; what to run then, or None if it was refused."""
        door = arrival.door
        try:
            head, rest = await read_head(arrival.stream, self._head_bytes_max(door))
            if not head:
                return None
            opening = understand(head, self._hint(door))
            peer = peer_behind(arrival.peer, opening.forwarded_for, self._config.trusted_proxies)
            arrival = evolve(arrival, peer=peer)
            return await self._accept(arrival, opening, rest)
        except Refused as refused:
            logger.info("WebSocket handshake of %s refused: %s", arrival.peer, refused.reason)
            self._engine.counters.connections_refused += 1
            await arrival.stream.send_all(answer(refused))
            return None

    async def _accept(self, arrival: Arrival, opening: OpeningRequest, rest: bytes) -> Opened:
        door = arrival.door
        self._check_origin(door, opening)
        subprotocol = self._mqtt_subprotocol(door, opening)
        if subprotocol is not None:
            size_max = 2 * door.max_packet_size if door.max_packet_size else MQTT_MESSAGE_BYTES_UNLIMITED
            websocket = await self._upgrade(arrival, opening, rest, subprotocol, size_max)
            return MqttConnection(
                websocket, arrival.stream, self._server, door, arrival.peer, arrival.identity
            )
        clock = Clock(time.time() - trio.current_time())
        dialect, size_max = await self._dialect_for(door, opening, clock)
        websocket = await self._upgrade(arrival, opening, rest, None, size_max)
        arrival.stream.limit_kernel()
        link = DialectLink(dialect, self._gateway, arrival.stream, arrival.peer)
        return DialectConnection(websocket, link, self._open)

    def _check_origin(self, door: Door, opening: OpeningRequest) -> None:
        origins = door.listener.websockets_origins
        if origins and opening.origin is not None and opening.origin not in origins:
            raise Refused(403, "this origin may not connect")

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
        for dialect in self._dialects:
            if dialect.path == opening.path and dialect.name in names:
                return dialect.open(clock, trio.current_time()), dialect.message_bytes_max
        econia = self._config.econia
        if "econia" in names and econia is not None:
            found = await self._admit_econia(econia, opening, clock)
            if found is not None:
                return found, self._config.message_bytes_max
        raise Refused(404, self._hint(door))

    async def _admit_econia(
        self, config: EconiaConfig, opening: OpeningRequest, clock: Clock
    ) -> EconiaDialect | None:
        credentials = credentials_of(config.path, opening.target)
        if credentials is None:
            return None
        identity = Identity("")  # as there: no token is a token without claims
        if credentials.token:
            found = await self._gateway.identify("econia", credentials.token, clock)
            if not isinstance(found, Identity):
                raise Refused(400, REFUSAL_TEXTS[found])
            identity = found
        admission = admit(identity, credentials.channel, config.jwt.mode_claim, config.jwt.channels_claims)
        if isinstance(admission, str):
            raise Refused(400, admission)
        return EconiaDialect(clock, admission, config.ping_interval_s)

    async def _upgrade(
        self,
        arrival: Arrival,
        opening: OpeningRequest,
        rest: bytes,
        subprotocol: str | None,
        message_bytes_max: int,
    ) -> trio_websocket.WebSocketConnection:
        stream = arrival.stream
        stream.unread(replayed(opening, subprotocol) + rest)
        stream.limit_messages(message_bytes_max)
        readers = cast(trio.Nursery, _Readers(self._server, arrival.peer))
        request = await trio_websocket.wrap_server_stream(
            readers,
            stream,
            max_message_size=message_bytes_max,
            receive_buffer_size=RECEIVE_BYTES if subprotocol is None else None,
        )
        if subprotocol is not None:
            stream.rewrite = as_mosquitto
        websocket = await request.accept(subprotocol=subprotocol)
        stream.close_code = lambda: websocket.closed.code if websocket.closed is not None else None
        forget_handshake(websocket)
        return websocket

    def _head_bytes_max(self, door: Door) -> int:
        """Room for mosquitto.conf's headers, and for a token in the path where a dialect has one there."""
        return door.listener.websockets_headers_size_bytes + (
            0 if door.listener.dialects == ("mqtt",) else TOKEN_BYTES_MAX
        )

    def _hint(self, door: Door) -> str:
        names = door.listener.dialects
        econia = self._config.econia
        spoken = [f"{MQTT_PATH} (MQTT, subprotocol mqtt)"] if "mqtt" in names else []
        spoken += [f"{one.path} ({one.title})" for one in self._dialects if one.name in names]
        if "econia" in names and econia is not None:
            spoken.append(f"{econia.path} (Econia)")
        return f"This port speaks WebSocket on: {', '.join(spoken)}.\n"


class DialectConnection:
    """One dialect client's WebSocket and link, until either side closes."""

    def __init__(
        self,
        websocket: trio_websocket.WebSocketConnection,
        link: DialectLink,
        open_links: OpenLinks,
    ) -> None:
        self._websocket = websocket
        self._link = link
        self._open_links = open_links

    async def run(self) -> None:
        link = self._link
        self._open_links.add(link)
        logger.info("%s client connected from %s", link.dialect.name, link.peer)
        scope = trio.CancelScope()
        try:
            with scope:
                await link.open(scope.cancel)
                while True:
                    await link.received(await self._websocket.get_message())
        except trio_websocket.ConnectionClosed:
            await self._say_goodbye()
        else:
            await self._say_goodbye()
        finally:
            link.ended()
            # Only now, so that whoever waits for the last link lets it say goodbye.
            self._open_links.remove(link)

    async def _say_goodbye(self) -> None:
        link = self._link
        link.ended()
        logger.info("%s client of %s disconnected: %s", link.dialect.name, link.peer, self._why())
        if link.closing is not None:
            with trio.move_on_after(CLOSE_GRACE_S):
                await self._websocket.aclose(link.closing.code, link.closing.reason)

    def _why(self) -> str:
        if self._link.closing is not None:
            return f"{self._link.closing.code} {self._link.closing.reason}"
        closed = self._websocket.closed
        # A peer's own reason may be any text.
        return "connection lost" if closed is None else str(closed.code)


Opened: TypeAlias = DialectConnection | MqttConnection | None
"""What a handshake led to; None if it was refused, or not completed."""


class OpenLinks:
    """The dialect connections that are open, for the end of the process."""

    def __init__(self) -> None:
        self._links: dict[DialectLink, None] = {}
        self._none_left = trio.Event()

    def add(self, link: DialectLink) -> None:
        self._links[link] = None

    def remove(self, link: DialectLink) -> None:
        del self._links[link]
        if not self._links:
            self._none_left.set()

    async def close_all(self, code: int, reason: str) -> None:
        for link in list(self._links):
            link.close(code, reason)
        while self._links:
            self._none_left = trio.Event()
            await self._none_left.wait()


class _Readers:
    """The nursery that trio-websocket sees: one of ours, in which its reader can't do any harm."""

    def __init__(self, server: Server, peer: str) -> None:
        self._server = server
        self._peer = peer

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._server.nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        with barrier(self._server.engine.counters, self._peer):
            try:
                await reader()
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio_websocket.ConnectionClosed):
                logger.debug("x %s was closed while it was written to", self._peer)


class _NoHandshake:
    """What is left of a handshake that is over: no events."""

    def events(self) -> tuple[()]:
        return ()


_NO_HANDSHAKE: Final = _NoHandshake()


def forget_handshake(websocket: trio_websocket.WebSocketConnection) -> bool:
    """Free wsproto's handshake, 2.5 kB of the 20 kB that an idle client costs.

    It isn't used after the upgrade, but wsproto 1.3 keeps it.  Returns False, having changed nothing, where the
    libraries look different from what is known here.
    """
    connection = getattr(websocket, "_wsproto", None)
    if not isinstance(connection, wsproto.WSConnection) or connection.connection is None:
        return False
    connection.handshake = cast(Any, _NO_HANDSHAKE)
    return True
