"""The connection to NATS: any of its servers, again and again.  A thin shell around `protocol.nats.connection`.

Invariant: what was sent on a connection that ended is not sent again by this; whoever needs an answer asks again.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import uuid4

import trio

from broker.cluster.credentials import options
from broker.config.cluster import ClusterConfig
from protocol.nats import wire
from protocol.nats.connection import CLOSED, OPEN, Connection, Subscriptions, publication
from protocol.nats.errors import NatsProtocolError

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

log = logging.getLogger("broker.cluster")

RECEIVE_BYTES: Final = 256 * 1024
OUTGOING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that wait for the server; above it `send` refuses, and whoever sends keeps what it has."""

HANDSHAKE_S: Final = 3.0
PING_INTERVAL_S: Final = 1.0
PINGS_MAX: Final = 3
"""So many unanswered mean that the server is gone, whatever its socket says."""

PAUSE_S: Final = 0.25
PORT: Final = 4222


class Unavailable(Exception):
    """NATS can't be asked now, or did not answer in time."""


class NatsLink:
    """One node's connection.

    Args:
        config: the addresses.
        engine: what arrives is handled inside its turns.
        status: is kept up to date.

    Attributes:
        on_open, on_lost: called when a connection is ready, and when it has ended.
    """

    def __init__(self, config: ClusterConfig, engine: Engine, status: ClusterStatus) -> None:
        self._config = config
        self._engine = engine
        self._status = status
        self._subscriptions = Subscriptions(b"_INBOX." + uuid4().hex.encode())
        self._connection: Connection | None = None
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._wants_send = trio.Event()
        self._asked: dict[bytes, _Asked] = {}
        self._opened = trio.Event()
        self.on_open: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []
        self.on_batch_end: list[Callable[[], None]] = []

    # --- for everybody -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a server is connected now."""
        return self._opened.is_set()

    async def until_open(self) -> None:
        """Wait until one is."""
        await self._opened.wait()

    def payload_max(self) -> int:
        """What one message may have, headers included; 0 while not connected."""
        connection = self._connection
        return 0 if connection is None else connection.info.number("max_payload", 1024 * 1024)

    def send(self, data: bytes) -> bool:
        """Send whole messages of the protocol; False, and nothing is sent, without connection or room."""
        if not self.is_open or self._outgoing_bytes + len(data) > OUTGOING_BYTES_MAX:
            return False
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._wants_send.set()
        return True

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
        asked = _Asked(handler)
        reply = self._subscriptions.expect(asked.answered)
        asked.forget = lambda: self._asked.pop(reply, None)
        self._asked[reply] = asked
        return reply

    def give_up(self, reply: bytes) -> None:
        """Nobody waits for that answer any more."""
        self._asked.pop(reply, None)
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
        try:
            if not self.send(make(reply)):
                raise Unavailable(self._status.problem or "too much waits to be sent")
            with trio.move_on_after(timeout_s):
                await done.wait()
        finally:
            self.give_up(reply)
        if not answers:
            raise Unavailable(f"no answer within {timeout_s:g} s")
        if answers[0] is None:
            raise Unavailable(self._status.problem or "the connection was lost")
        return answers[0]

    # --- connecting ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected until cancelled."""
        urls = list(self._config.nats)
        random.shuffle(urls)  # nodes that start together do not all take the first
        said: dict[str, str] = {}
        while True:
            for url in urls:
                was_open = await self._serve(url)
                if self._status.problem != said.get(url):
                    log.warning("NATS %s: %s", _shown(url), self._status.problem)
                    said[url] = self._status.problem
                if was_open:
                    break
            await trio.sleep(PAUSE_S * random.uniform(0.5, 1.5))

    async def _serve(self, url: str) -> bool:
        """One connection, until it ends; whether it was ready at any time."""
        status = self._status
        stream: trio.abc.Stream | None = None
        was_open = False
        try:
            with trio.fail_after(HANDSHAKE_S):
                stream, connection = await self._handshake(url)
            was_open = True
            self._connection = connection
            status.connects += 1
            status.server = connection.info.text("server_name") or _shown(url)
            status.problem = ""
            self._opened.set()
            log.warning("Connected to NATS %s (%s).", status.server, _shown(url))
            with self._engine.turn:
                for listener in self.on_open:
                    listener()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._ping, connection)
                await self._read(stream, connection)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError, NatsProtocolError, ValueError) as error:
            status.problem = _words(error)
        except BaseExceptionGroup as group:
            known, other = group.split(
                (OSError, trio.BrokenResourceError, trio.ClosedResourceError, NatsProtocolError)
            )
            if other is not None:
                raise other from None  # as when it is being cancelled just then
            assert known is not None
            status.problem = _words(_first(known))
        finally:
            self._lost()
            if stream is not None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
        return was_open

    async def _handshake(self, url: str) -> tuple[trio.abc.Stream, Connection]:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or PORT
        stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
        try:
            connection = Connection(self._subscriptions)
            while not connection.info.fields:
                await self._take(stream, connection)
            if parts.scheme == "tls" or connection.info.flag("tls_required"):
                stream = trio.SSLStream(stream, self._tls(), server_hostname=host)
                await stream.do_handshake()
            said = options(self._config, url, connection.info.text("nonce"))
            await stream.send_all(connection.hello(said))
            while connection.state not in (OPEN, CLOSED):
                await self._take(stream, connection)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            raise
        return stream, connection

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        context = ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
        if config.cert_file is not None:
            context.load_cert_chain(config.cert_file, config.key_file)
        return context

    async def _take(self, stream: trio.abc.Stream, connection: Connection) -> None:
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise NatsProtocolError("the server closed the connection")
        with self._engine.turn:
            try:
                owed = connection.receive(bytes(data))
            finally:
                for listener in self.on_batch_end:
                    listener()
        if owed:
            if self.is_open:
                self.send(owed)
            else:
                await stream.send_all(owed)

    async def _read(self, stream: trio.abc.Stream, connection: Connection) -> None:
        while True:
            await self._take(stream, connection)

    async def _write(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._wants_send.wait()
            self._wants_send = trio.Event()
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            # What is being sent still counts: `send` refuses while the server takes nothing.
            await stream.send_all(data)
            self._outgoing_bytes -= len(data)

    async def _ping(self, connection: Connection) -> None:
        while True:
            await trio.sleep(PING_INTERVAL_S)
            if connection.pings >= PINGS_MAX:
                raise NatsProtocolError(f"the server has not answered {PINGS_MAX} pings")
            self.send(connection.ping())

    def _lost(self) -> None:
        was_open = self.is_open
        if was_open:
            self._opened = trio.Event()
        self._connection = None
        self._outgoing.clear()
        self._outgoing_bytes = 0
        self._wants_send = trio.Event()
        self._status.server = ""
        self._status.problem = self._status.problem or "the connection was lost"
        asked = list(self._asked.items())
        self._asked.clear()
        with self._engine.turn:
            for reply, one in asked:
                self._subscriptions.give_up(reply)
                one.handler(None)
            if was_open:
                for listener in self.on_lost:
                    listener()


class _Asked:
    """A request that waits for its answer."""

    def __init__(self, handler: Callable[[wire.Message | None], None]) -> None:
        self.handler = handler
        self.forget: Callable[[], object] = lambda: None

    def answered(self, message: wire.Message) -> None:
        self.forget()
        self.handler(message)


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


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
