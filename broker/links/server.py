"""Everything that serves connections: the pump, the stream shells, and who has been silent too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from broker.core.engine import Engine
from broker.core.limits import (
    CONNECT_TIMEOUT_S,
    HANDSHAKE_THREADS_MAX,
    STEPS_MAX,
    SWEEP_INTERVAL_S,
    SWEEP_LINKS_MAX,
)
from broker.core.outbox import nothing
from broker.links.barrier import A_CONNECTION, barrier, receive
from broker.links.bell import Bell
from broker.links.linger import clock_of_trio
from broker.links.listening.arrivals import Arrivals
from broker.links.listening.deciding import Claims, Deciding
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink
from broker.links.mqtt.stream import StreamShell
from broker.links.pump import CLOSING_MAX, Pump
from broker.links.readiness import is_portable
from broker.links.tls_socket import Socket, TlsSocket
from protocol.mqtt.v5.reasons import ReasonCode

WILLS_MAX: Final = 64
"""In one turn at the end, however few get them."""


def has_expired(link: MqttLink, unix_now: float) -> bool:
    """Whether the token that this client came with is good no longer."""
    verdict = link.verdict
    return verdict is not None and verdict.expires_unix_s <= unix_now


class Server:
    """The links of one broker.

    Args:
        engine: what they all share.
        nursery: outlives every connection that has a task of its own.
    """

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self.engine = engine
        self.nursery = nursery
        engine.turn.clock = clock_of_trio()
        self.pump = Pump(engine, self.opened, self.closed)
        self.arrivals = Arrivals(self.pump, self._in_thread, trio.lowlevel.current_trio_token().run_sync_soon)
        self._handshake_threads = trio.CapacityLimiter(HANDSHAKE_THREADS_MAX)
        self._deciding = Deciding(engine, nursery)
        self._decide = self._deciding.decide  # one for all: as a method it would be made anew for each
        self._links: dict[MqttLink, None] = {}
        self._is_working = False
        engine.replaying.on_waiting = engine.slicing.on_waiting = self._work_waits

    def share_clients(self, claims: Claims) -> None:
        """From now on a client comes in once it is this node's."""
        self._deciding.share(claims)

    def hold_logins(self) -> None:
        """Other rules are being read: whoever says CONNECT waits for them, until `let_logins_on`."""
        self._deciding.hold()

    def let_logins_on(self) -> None:
        """The rules in force are those to decide by."""
        self._deciding.go_on()

    def opened(self, link: MqttLink) -> None:
        """A connection that speaks MQTT is here; it has some time to send CONNECT."""
        self.engine.counters.sockets_opened += 1
        link.check_slowly = self._decide
        link.silence_max_s = CONNECT_TIMEOUT_S
        self._links[link] = None

    def links(self) -> list[MqttLink]:
        """Every open connection that speaks MQTT."""
        return list(self._links)

    def _oldest_last(self) -> list[MqttLink]:
        """Every connection, for who takes from the end: of two wills for one topic the later client's is retained."""
        return list(reversed(self._links))

    def closed(self, link: MqttLink) -> None:
        """A connection has ended; whoever waited for its decision goes on."""
        self.engine.counters.sockets_closed += 1
        self._links.pop(link, None)
        if self.engine.review.may_wait:
            self._deciding.closed(link)

    def add_socket(self, sock: Socket, door: Door, peer: str, identity: bytes | None = None) -> None:
        """A connection for MQTT; `identity` is the client's verified certificate's."""
        link = self.pump.add(sock, door, peer)
        link.certificate_identity = identity
        if isinstance(sock, TlsSocket):
            came_already = sock.take_rest()
            if came_already:
                receive(link, came_already)

    def watch(self, fd: int, rung: Callable[[], None]) -> Bell | None:
        """As `broker.feed.outlet.Watching`; where there is no epoll, a task that waits is as quick."""
        return None if is_portable() else Bell(self.pump, fd, rung, nothing, is_awaited=False)

    def _in_thread(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        self.nursery.start_soon(self._run_in_thread, work, then)

    async def _run_in_thread(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._handshake_threads)
        with self.engine.turn:
            then()

    async def serve_stream(self, stream: trio.abc.Stream, door: Door, peer: str) -> None:
        """MQTT over any stream, until it ends."""
        self.engine.turn.tick()
        shell = StreamShell(self.engine, door, peer, stream)
        door.enter()
        self.opened(shell.link)
        try:
            await shell.run()
        finally:
            self.closed(shell.link)
            door.leave()

    def _work_waits(self) -> None:
        if not self._is_working:
            self._is_working = True
            self.nursery.start_soon(self._work)

    async def _work(self) -> None:
        """Retained messages for those who subscribed, and what takes long, while others have their turns in between."""
        replaying = self.engine.replaying
        slicing = self.engine.slicing
        counters = self.engine.counters
        while replaying.waits() or slicing.waits():
            await trio.lowlevel.checkpoint()
            with self.engine.turn:
                with barrier(counters, A_CONNECTION):
                    replaying.turn()
                with barrier(counters, A_CONNECTION):
                    slicing.turn()
        self._is_working = False

    async def sweep(self) -> None:
        """Close the connections whose keep-alive time has passed [MQTT-3.1.2-24], for ever."""
        counters = self.engine.counters
        while True:
            await trio.sleep(SWEEP_INTERVAL_S)
            links = self._oldest_last()
            unix_now = time.time()
            while links:
                with self.engine.turn, barrier(counters, A_CONNECTION):
                    self._sweep(links, unix_now)
                await trio.lowlevel.checkpoint()
            with self.engine.turn:
                with barrier(counters, A_CONNECTION):
                    self.arrivals.sweep()
                with barrier(counters, A_CONNECTION):
                    self.engine.expire()

    def _sweep(self, links: list[MqttLink], unix_now: float) -> None:
        """Some of these links; they are taken from the list."""
        closed = 0
        for _ in range(min(len(links), SWEEP_LINKS_MAX)):
            link = links.pop()
            if link.silent_too_long():
                link.code = ReasonCode.KEEP_ALIVE_TIMEOUT
                link.close("has exceeded timeout, disconnecting.")
            elif has_expired(link, unix_now):
                link.code = ReasonCode.NOT_AUTHORIZED
                link.close("disconnected: its token has expired.")
            else:
                continue
            closed += 1
            if closed >= CLOSING_MAX:
                return

    def owed(self) -> tuple[int, int]:
        """Packets (pieces, at least) and bytes that peers have yet to take."""
        pieces = 0
        size = 0
        for link in self._links:
            if link.outbox.pending_bytes:
                pieces += link.outbox.pieces()
                size += link.outbox.pending_bytes
        return pieces, size

    async def send_wills(self) -> None:
        """As Mosquitto at its end: every client's will goes out while the others are still connected.

        All of them, whatever is being cancelled, in the order in which they came; some in each turn.
        """
        links = self._oldest_last()
        counters = self.engine.counters
        with trio.CancelScope(shield=True):
            while links:
                with self.engine.turn:
                    most = counters.publishes_sent + STEPS_MAX
                    for _ in range(min(len(links), WILLS_MAX)):
                        session = links.pop().session
                        if session is not None:
                            self.engine.send_will(session)
                        if counters.publishes_sent > most:
                            break
                if links:
                    await trio.lowlevel.checkpoint()

    def close_all(self) -> None:
        """The broker ends, and what it knows of its clients is to be kept elsewhere."""
        with self.engine.turn:
            for link in list(self._links):
                link.code = ReasonCode.SERVER_SHUTTING_DOWN
                link.close("disconnected: the broker is shutting down.")

    async def drained(self) -> None:
        """Wait until no pumped connection is owed anything."""
        await self.pump.drained()
