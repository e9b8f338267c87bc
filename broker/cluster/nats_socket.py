"""The socket to NATS, served by the pump as a peer's is: what comes is handled in the pump's turn, without a task.

Hot: compiled.

Invariant: `ended` is called once, whoever finds out first; nothing is received or sent afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.core.counters import Counters
from broker.core.outbox import Outbox, Round
from broker.links.connection import Connection
from broker.links.pump import Pump
from broker.links.tls_socket import Socket
from protocol.nats.connection import Connection as NatsConnection
from protocol.nats.errors import NatsProtocolError

RECEIVE_BYTES: Final = 256 * 1024
OUTGOING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes that wait for the server; above it `send` refuses, and whoever sends keeps what it has."""


class NatsSocket(Connection):
    """One connection, after its handshake.

    Args:
        sock: non-blocking; closed by whoever made it.
        connection: the conversation.
        ended: told why it has ended.

    Attributes:
        heard_at: when something came last.
    """

    def __init__(
        self, pump: Pump, sock: Socket, connection: NatsConnection, ended: Callable[[str], None]
    ) -> None:
        self.pump = pump
        self.sock = sock
        self.fd = sock.fileno()
        self.connection = connection
        self.heard_at = pump.engine.now
        self._ended: Callable[[str], None] | None = ended
        # A round of its own: what goes to NATS does not count among what goes to clients, and leaves behind it.
        self._round = Round(Counters())
        self.outbox = Outbox(self._round, OUTGOING_BYTES_MAX, sock.send, self)

    def send(self, data: bytes) -> bool:
        """Owe these bytes, to be sent by `flush`; False without connection or room."""
        outbox = self.outbox
        if outbox.closed or outbox.pending_bytes + len(data) > OUTGOING_BYTES_MAX:
            return False
        outbox.push(data)
        return True

    def flush(self) -> None:
        """At the end of a turn."""
        self._round.flush()

    def readable(self) -> None:
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(str(error))
            return
        self.heard_at = self.pump.engine.now
        if not data:
            self.end("the server closed the connection")
            return
        try:
            owed = self.connection.receive(data)
        except (NatsProtocolError, ValueError) as error:
            self.end(str(error))
            return
        if owed:
            self.outbox.push(owed)

    def broken(self) -> None:
        self.end("the connection is broken")

    def lost(self) -> None:
        self.end("the connection was lost")

    def stop(self) -> None:
        """The pump serves nothing any more."""
        self.end("the broker is stopping")

    def end(self, why: str) -> None:
        """Send and receive nothing more."""
        ended = self._ended
        self._ended = None
        if ended is None:
            return
        self.outbox.close()
        self.pump.unwatch(self)
        ended(why)
