"""Connections on their way in: accepted, and not yet what they came for.

They wait on an epoll of their own, which to the pump is one more socket.  Each of the pump's rounds spends about a
millisecond on them, so a storm of handshakes takes its time from itself and not from those who are connected.

Invariant: `_waiting` holds exactly the sockets registered with `waiters`, and those whose handshake a thread computes.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import TypeAlias

from broker.core.limits import ARRIVALS_PER_POLL, ARRIVALS_TASKS_MAX, ARRIVALS_TURN_S, CONNECT_TIMEOUT_S
from broker.core.outbox import Outbox
from broker.links.barrier import attempt, barrier
from broker.links.connection import Connection
from broker.links.listening.door import Door
from broker.links.listening.tls import peer_identity
from broker.links.pump import Pump
from broker.links.readiness import READABLE
from broker.links.tls_socket import Buffers, Socket, TlsSocket
from broker.links.words import NOTICE

logger = logging.getLogger("broker.links")

Proceed: TypeAlias = Callable[[Socket, Door, str, bytes | None], None]
"""What becomes of a connection whose handshake is complete, or begins: socket, door, peer, and the identity that its
certificate has."""

InThread: TypeAlias = Callable[[Callable[[], None], Callable[[], None]], None]
"""Calls the first in a thread, then the second in the pump's."""


class Arrivals(Connection):
    """All that have been accepted and have no link yet.

    Args:
        pump: serves them, a few at a time.
        in_thread: where the work with a slow private key is done.
        afterwards: has something called when the tasks have run that were started.
    """

    def __init__(
        self, pump: Pump, in_thread: InThread, afterwards: Callable[[Callable[[], None]], None]
    ) -> None:
        self.waiters = pump.ready.nested()
        self.pump = pump
        self.fd = self.waiters.fileno()
        self.outbox = Outbox(pump.engine.round, 0, None)
        self.in_thread = in_thread
        self._afterwards = afterwards
        self.buffers = Buffers()
        self._waiting: dict[int, Arrival] = {}
        self._started = 0
        """Tasks of which nothing has run yet."""
        pump.watch(self)

    def encrypt(
        self, sock: socket.SocketType, door: Door, peer: str, identity: bytes | None, proceed: Proceed
    ) -> None:
        """Shake hands with a peer; then `proceed`, unless it fails or takes too long.

        Args:
            sock: connected and non-blocking.
            identity: what a proxy has read from the client's certificate.
        """
        arrival = Handshake(self, sock, door, peer, identity, proceed)
        door.enter()
        self._waiting[arrival.fd] = arrival
        self.listen_to(arrival)

    def await_bytes(
        self, sock: socket.SocketType, door: Door, peer: str, identity: bytes | None, proceed: Proceed
    ) -> None:
        """`proceed`, which starts a task, when the peer has sent something; a few at a time.

        Args:
            as for `encrypt`.
        """
        arrival = Silent(self, sock, door, peer, identity, proceed)
        door.enter()
        self._waiting[arrival.fd] = arrival
        self.listen_to(arrival)

    def readable(self) -> None:
        """Some of those who sent something have their turn."""
        until = perf_counter() + ARRIVALS_TURN_S
        for fd, _ in self.waiters.poll(0, ARRIVALS_PER_POLL):
            self._waiting[fd].readable()
            if perf_counter() > until:
                break  # the others are told of again

    def may_start(self) -> bool:
        """False while so many tasks wait for their first turn that another should come later."""
        return self._started < ARRIVALS_TASKS_MAX

    def started(self) -> None:
        """Count a task that was started for one of these."""
        if not self._started:
            self._afterwards(self._have_run)
        self._started += 1

    def _have_run(self) -> None:
        self._started = 0

    def listen_to(self, arrival: Arrival) -> None:
        """Wait until the other side of this handshake sends."""
        self.waiters.register(arrival.fd, READABLE)

    def pause(self, arrival: Arrival) -> None:
        """Do not look at its socket until it is watched again."""
        self.waiters.unregister(arrival.fd)

    def has(self, arrival: Arrival) -> bool:
        """Whether this one is still on its way."""
        return self._waiting.get(arrival.fd) is arrival

    def leave(self, arrival: Arrival) -> bool:
        """Let go of it; False if that was done before."""
        if not self.has(arrival):
            return False
        del self._waiting[arrival.fd]
        arrival.door.leave()
        return True

    def sweep(self) -> None:
        """Let go of those who take too long."""
        oldest = self.pump.engine.now - CONNECT_TIMEOUT_S
        for arrival in list(self._waiting.values()):
            if arrival.since > oldest:
                return  # they stand in the order in which they came
            arrival.drop()

    def failed(self, error: Exception) -> None:
        """It was about one of those who come: the others come all the same."""

    def received(self, data: bytes) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """The broker is stopping."""
        for arrival in list(self._waiting.values()):
            arrival.drop()
        self.waiters.close()


class Arrival:
    """One that is on its way: its socket, and what becomes of it then."""

    def __init__(
        self,
        arrivals: Arrivals,
        sock: socket.SocketType,
        door: Door,
        peer: str,
        identity: bytes | None,
        proceed: Proceed,
    ) -> None:
        self.fd = sock.fileno()
        self.door = door
        self.since = arrivals.pump.engine.now
        self._arrivals = arrivals
        self._sock = sock
        self._peer = peer
        self._identity = identity
        self._proceed = proceed

    def readable(self) -> None:
        """The other side has sent, or has left."""
        raise NotImplementedError

    def drop(self) -> None:
        """It took too long, or the broker is stopping."""
        if self._arrivals.leave(self):
            self._arrivals.pause(self)
            self._sock.close()


class Silent(Arrival):
    """One that has sent nothing yet; see `Arrivals.await_bytes`."""

    def readable(self) -> None:
        """There are its first bytes, or it has left, which whoever reads will see."""
        if self._arrivals.may_start() and self._arrivals.leave(self):
            self._arrivals.pause(self)
            with barrier(self._arrivals.pump.engine.counters, self._peer, self._sock.close):
                self._proceed(self._sock, self.door, self._peer, self._identity)


class Handshake(Arrival):
    """One TLS handshake; see `Arrivals.encrypt`."""

    def __init__(
        self,
        arrivals: Arrivals,
        sock: socket.SocketType,
        door: Door,
        peer: str,
        identity: bytes | None,
        proceed: Proceed,
    ) -> None:
        super().__init__(arrivals, sock, door, peer, identity, proceed)
        assert door.tls_context is not None
        self._in_thread = door.slow_key
        self._tls = TlsSocket(sock, door.tls_context, Buffers() if door.slow_key else arrivals.buffers)
        self._is_paused = False
        self._error: OSError | None = None
        self._done = False

    def readable(self) -> None:
        """The other side has sent: take it, and go on or end."""
        attempt(self._take, self._arrivals.pump.engine.counters, self._peer, self.drop)

    def _take(self) -> None:
        try:
            data = self._tls.receive_handshake()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not data:
            self._fail(ConnectionResetError("closed its connection"))
        elif self._in_thread:
            self._is_paused = True
            self._arrivals.pause(self)
            self._arrivals.in_thread(lambda: self._step(data), self._resume)
        else:
            self._step(data)
            self._look()

    def drop(self) -> None:
        if self._arrivals.leave(self) and not self._is_paused:
            self._arrivals.pause(self)
            self._tls.close()

    def _step(self, data: bytes) -> None:
        try:
            self._done = self._tls.shake_hands(data, self._arrivals.pump.has_come)
        except OSError as error:
            self._error = error

    def _resume(self) -> None:
        """The thread has done its part."""
        self._is_paused = False
        if not self._arrivals.has(self):
            self._tls.close()  # it took too long
            return
        with barrier(self._arrivals.pump.engine.counters, self._peer, self.drop):
            self._arrivals.listen_to(self)
            self._look()

    def _look(self) -> None:
        error = self._error
        if error is not None:
            self._fail(error)
        elif self._done and self._arrivals.leave(self):
            self._arrivals.pause(self)
            self._proceed(self._tls, self.door, self._peer, self._who())

    def _who(self) -> bytes | None:
        tls = self.door.listener.tls
        if tls is not None and (tls.use_identity_as_username or tls.use_subject_as_username):
            return peer_identity(tls, self._tls)
        return self._identity

    def _fail(self, error: OSError) -> None:
        self._arrivals.pump.engine.counters.turn_away("tls_handshake")
        logger.log(NOTICE, "Client connection from %s failed: %s.", self._peer, _reason(error))
        if isinstance(error, ssl.SSLError):
            with suppress(OSError):
                # Closed with bytes unread, the kernel would send a reset, which may overtake the alert.
                self._tls.hang_up()
        self.drop()


def _reason(error: OSError) -> str:
    """What OpenSSL or the system said."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error)
