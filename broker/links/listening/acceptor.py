"""One listening socket in the pump: takes the connections that wait, many at a time when many come."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import TypeAlias

from broker.core.limits import ACCEPTS_PER_WAKE_MAX
from broker.core.log_levels import is_logged
from broker.core.outbox import Outbox
from broker.links.connection import Connection
from broker.links.listening.door import Door
from broker.links.pump import Pump
from broker.links.tls_socket import Socket
from broker.links.words import NOTICE

logger = logging.getLogger("broker.links")

Take: TypeAlias = Callable[[Socket, Door, str, bytes | None], None]
"""What becomes of a connection, non-blocking: socket, door, peer, and the identity that its certificate stands for.
Counts it as open at once."""

FULLS_MIN = 4
"""So often there have to be as many as were looked for before more are: what is not there costs as much as what is."""

FULLS_MAX = 64
"""The same where looking for a second was in vain again and again: twice as often after each time."""

SILENCES_MAX = 4
"""With so many that had not sent their CONNECT when they were accepted, one of sixteen is asked."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor(Connection):
    """Takes a listener's connections while the pump watches it.

    Args:
        listening: non-blocking; its options are those of the connections, too.
        on_exhausted: told when the system has no more sockets to give.
    """

    def __init__(
        self, pump: Pump, listening: socket.socket, door: Door, take: Take, on_exhausted: Callable[[], None]
    ) -> None:
        super().__init__(pump, listening, door)
        self.outbox = Outbox(pump.engine.round, 0, None)
        # What socket.accept() calls; it looks up the rest for each connection anew.
        self._accept: Callable[[], tuple[int, object]] = listening._accept  # type: ignore[attr-defined]
        self._kind = (int(listening.family), int(listening.type), listening.proto)
        listener = door.listener
        # What goes to the pump, or to OpenSSL, as it is needs nothing of what Python's own class adds.
        is_bare = listener.is_plain or (door.tls_context is not None and not listener.enable_proxy_protocol)
        self._make = socket.SocketType if is_bare else socket.socket
        self._is_plain = listener.is_plain
        self._take = take
        self._on_exhausted = on_exhausted
        self._at_once = 1
        self._fulls = 0
        """Wake-ups in a row at which there were as many as were looked for."""
        self._fulls_wanted = FULLS_MIN
        self._silent = 0
        """Of so many more it is not asked at once what they have sent."""
        self._silences = 0
        """How many of those who were asked had sent nothing yet, since one had."""

    def readable(self) -> None:
        taken = 0
        last: socket.SocketType | None = None
        # Where one comes at a time, looking for a second each time would cost as much as the first.
        for _ in range(self._at_once):
            try:
                fd, address = self._accept()
            except BlockingIOError:
                if self._at_once == 2:
                    self._fulls_wanted = min(self._fulls_wanted * 2, FULLS_MAX)
                self._at_once = 1
                self._fulls = 0
                break
            except OSError as error:
                self._failed(error)
                return
            family, kind, protocol = self._kind
            last = self._make(family, kind, protocol, fd)
            self._accepted(last, address)
            taken += 1
        else:
            self._fulls += 1
            if self._at_once > 1:
                self._fulls_wanted = FULLS_MIN
            if self._fulls >= self._fulls_wanted:
                self._at_once = min(self._at_once * 2, ACCEPTS_PER_WAKE_MAX)
        if taken == 1 and last is not None and self._is_plain:
            self._ask_at_once(last)

    def _accepted(self, connection: socket.SocketType, address: object) -> None:
        connection.setblocking(False)
        door = self.door
        peer = peer_name(connection, address)
        if door.is_full():
            connection.close()  # as mosquitto: without a word to the client
            self.pump.engine.counters.turn_away("max_connections")
            logger.log(NOTICE, "Client connection from %s denied: max_connections exceeded.", peer)
            return
        if door.connection_messages and is_logged(logger, NOTICE):
            logger.log(NOTICE, "New connection from %s on port %d.", peer, door.port)
        self._take(connection, door, peer, None)

    def _ask_at_once(self, sock: socket.SocketType) -> None:
        """Whoever comes alone has often sent its CONNECT by now; where they have not, fewer and fewer are asked."""
        if self._silent > 0:
            self._silent -= 1
        elif self.pump.read_at_once(sock):
            self._silences = 0
        else:
            self._silences = min(self._silences + 1, SILENCES_MAX)
            self._silent = (1 << self._silences) - 1

    def _failed(self, error: OSError) -> None:
        if error.errno in EXHAUSTED:
            logger.warning(
                "Unable to accept new connection, system socket count has been exceeded: %s", error
            )
            self.pump.unwatch(self)  # until whoever is told watches it again
            self._on_exhausted()

    def failed(self, error: Exception) -> None:
        """It was about one of those who come: the others come all the same."""

    def stop(self) -> None:
        """Whoever opened the socket closes it."""


def peer_name(connection: socket.SocketType, address: object) -> str:
    """`ADDRESS:PORT` as log lines show it; the path for a unix socket."""
    if isinstance(address, tuple):
        host = str(address[0])
        return f"{host.removeprefix('::ffff:')}:{address[1]}"
    return str(connection.getsockname() or "unix socket")
