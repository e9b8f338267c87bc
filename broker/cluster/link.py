"""The connection to NATS: any of its servers, again and again.  A thin shell around `protocol.nats.connection`.

Invariant: what was sent on a connection that ended is not sent again by this; whoever needs an answer asks again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import uuid4

import trio

from broker.cluster.handshake import PORT, shake_hands
from broker.cluster.nats_socket import NatsSocket
from broker.config.cluster import ClusterConfig
from broker.links.barrier import Guard
from broker.links.tls_socket import Socket
from protocol.nats import wire
from protocol.nats.connection import Connection, Subscriptions, publication
from protocol.nats.errors import NatsProtocolError

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine
    from broker.links.pump import Pump

logger = logging.getLogger("broker.cluster")

HANDSHAKE_S: Final = 3.0
PING_INTERVAL_S: Final = 1.0
PINGS_MAX: Final = 3
"""So many unanswered mean that the server is gone, whatever its socket says."""

SILENCE_S: Final = 2.5
"""Longer than a server that lives takes to answer a ping."""

PAUSE_S: Final = 0.25


class Unavailable(Exception):
    """NATS can't be asked now, or did not answer in time."""


class NatsLink:
    """One node's connection.

    Args:
        config: the addresses.
        engine: what arrives is handled inside its turns.
        pump: serves the socket, beside those of clients.
        status: is kept up to date.

    Attributes:
        on_open, on_lost: called when a connection is ready, and when it has ended.
        url: of the server that is connected, or was last.
        at_turn_end: called at the end of every turn, before what is owed to NATS is sent.
    """

    def __init__(self, config: ClusterConfig, engine: Engine, pump: Pump, status: ClusterStatus) -> None:
        self._config = config
        self._engine = engine
        self._pump = pump
        self._status = status
        guard = Guard(engine.counters, "NATS")  # what nobody expected costs the message, and nothing else
        self._subscriptions = Subscriptions(b"_INBOX." + uuid4().hex.encode(), guard.take)
        self._socket: NatsSocket | None = None
        self._opened = trio.Event()
        self._urls = list(config.nats)
        random.shuffle(self._urls)  # nodes that start together do not all take the first
        self.url = ""
        self.on_open: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []
        self.at_turn_end: list[Callable[[], None]] = []
        engine.turn.on_settled(self._flush)

    # --- for everybody -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a server is connected now."""
        return self._opened.is_set()

    def hears(self, now: float) -> bool:
        """Whether the server that is connected answers pings, whatever else it does."""
        socket = self._socket
        return socket is not None and now - socket.heard_at <= SILENCE_S

    def adopt(self, config: ClusterConfig) -> None:
        """Go by these settings at the next connection, and at once where the server of this one is named no longer."""
        self._config = config
        if set(config.nats) == set(self._urls):
            return
        self._urls = list(config.nats)
        random.shuffle(self._urls)
        same = [url for url in self._urls if _shown(url) == _shown(self.url)]
        if same:
            self.url = same[0]  # maybe with another password
        elif self._socket is not None:
            self._socket.end("its server is named no longer")

    def prefer(self, url: str, why: str) -> None:
        """Connect to this server from now on, at once if another one is connected."""
        if url not in self._urls:
            return
        self._urls.remove(url)
        self._urls.insert(0, url)
        if self._socket is not None and self.url != url:
            self._socket.end(why)

    async def until_open(self) -> None:
        """Wait until one is."""
        await self._opened.wait()

    def payload_max(self) -> int:
        """What one message may have, headers included; 0 while not connected."""
        socket = self._socket
        return 0 if socket is None else socket.connection.payload_max

    def send(self, data: bytes) -> bool:
        """Send whole messages at the end of the turn; False, and nothing is sent, without connection or room."""
        socket = self._socket
        if socket is None:
            return False
        with self._engine.turn:
            return socket.send(data)

    def await_answer(self, until: float) -> None:
        """As `Pump.wait_for`, of what NATS has been asked.  Inside a turn, at its end."""
        socket = self._socket
        if socket is not None:
            self._pump.wait_for(socket.fd, until)

    def subscribe(self, subject: bytes, handler: Callable[[wire.Message], None]) -> int:
        """From now on, on every connection; the handler is called inside a turn."""
        sid = self._subscriptions.add(subject, handler)
        self.send(wire.subscribe(subject, sid))
        return sid

    def unsubscribe(self, sid: int) -> None:
        """End a subscription; nothing if it has ended."""
        if self._subscriptions.remove(sid):
            self.send(wire.unsubscribe(sid))

    def new_inbox(self) -> bytes:
        """A subject for answers that nobody else has."""
        return self._subscriptions.new_inbox()

    def expect(self, handler: Callable[[wire.Message | None], None]) -> bytes:
        """A reply subject; its answer goes to the handler inside a turn, or None when the connection is lost."""
        return self._subscriptions.expect(handler)

    def give_up(self, reply: bytes) -> None:
        """Nobody waits for that answer any more."""
        self._subscriptions.give_up(reply)

    async def request(
        self, subject: bytes, body: bytes, timeout_s: float, headers: Mapping[bytes, bytes] | None = None
    ) -> wire.Message:
        """Raises: Unavailable."""
        return await self.exchange(lambda reply: publication(subject, body, headers, reply), timeout_s)

    async def exchange(self, make: Callable[[bytes], bytes], timeout_s: float) -> wire.Message:
        """Send what `make` gives for a reply subject, and wait for the answer.  Raises: Unavailable."""
        done = trio.Event()
        answers: list[wire.Message | None] = []

        def take(message: wire.Message | None) -> None:
            answers.append(message)
            done.set()

        reply = self.expect(take)
        socket = self._socket
        errors = 0 if socket is None else socket.connection.errors
        try:
            if not self.send(make(reply)):
                raise Unavailable(self._status.problem or "too much waits to be sent")
            with trio.move_on_after(timeout_s):
                await done.wait()
        finally:
            self.give_up(reply)
        if not answers:
            said = ""
            if socket is not None and socket.connection.errors > errors:
                said = f"; NATS said: {socket.connection.error}"  # such as that something is not permitted
            raise Unavailable(f"no answer within {timeout_s:g} s{said}")
        if answers[0] is None:
            raise Unavailable(self._status.problem or "the connection was lost")
        return answers[0]

    # --- connecting ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected until cancelled."""
        said: dict[str, str] = {}
        while True:
            for url in list(self._urls):
                if url not in self._urls:
                    break  # others are named by now
                was_open = await self._serve(url)
                if self._status.problem != said.get(url):
                    logger.warning("NATS %s: %s", _shown(url), self._status.problem)
                    said[url] = self._status.problem
                if was_open:
                    break
            await trio.sleep(PAUSE_S * random.uniform(0.5, 1.5))

    async def _serve(self, url: str) -> bool:
        """One connection, until it ends; whether it was ready at any time."""
        status = self._status
        sock: Socket | None = None
        was_open = False
        try:
            with trio.fail_after(HANDSHAKE_S):
                sock, connection = await shake_hands(url, self._config, self._subscriptions)
            if url not in self._urls:
                raise NatsProtocolError("it is named no longer")
            was_open = True
            self.url = url
            status.connects += 1
            status.server = connection.info.text("server_name") or _shown(url)
            status.problem = ""
            logger.warning("Connected to NATS %s (%s).", status.server, _shown(url))
            await self._converse(sock, connection)
        except (OSError, trio.TooSlowError, NatsProtocolError, ValueError) as error:
            status.problem = _words(error)
        finally:
            self._lost()
            if sock is not None:
                sock.close()
        return was_open

    async def _converse(self, sock: Socket, connection: Connection) -> None:
        """Be open until the connection ends.  Raises: NatsProtocolError, OSError."""
        ended = trio.Event()
        why: list[str] = []

        def end(problem: str) -> None:
            why.append(problem)
            ended.set()

        self._socket = NatsSocket(self._pump, sock, connection, end)
        self._pump.watch(self._socket)
        self._opened.set()
        with self._engine.turn:
            for listener in self.on_open:
                listener()
        while not ended.is_set():
            with trio.move_on_after(PING_INTERVAL_S):
                await ended.wait()
            if connection.pings >= PINGS_MAX:
                end(f"the server has not answered {PINGS_MAX} pings")
            elif not ended.is_set():
                self.send(connection.ping())
        raise NatsProtocolError(why[0])

    def _flush(self) -> None:
        """At the end of a turn, after what clients are owed."""
        for listener in self.at_turn_end:
            listener()
        if self._socket is not None:
            self._socket.flush()

    def _lost(self) -> None:
        was_open = self.is_open
        if was_open:
            self._opened = trio.Event()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.end("the connection was lost")
        self._status.server = ""
        self._status.problem = self._status.problem or "the connection was lost"
        with self._engine.turn:
            self._subscriptions.lose_requests()
            if was_open:
                for listener in self.on_lost:
                    listener()


def _words(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"no connection within {HANDSHAKE_S:g} s"
    text = str(error) or type(error).__name__
    return text.splitlines()[0]


def _shown(url: str) -> str:
    """Without a password."""
    with suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port or PORT}"
    return "?"
