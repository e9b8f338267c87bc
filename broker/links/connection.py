"""One socket of the pump, whoever is at its other end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.core.barrier import A_CONNECTION
from broker.core.limits import RECEIVE_BYTES_MAX
from broker.core.outbox import Outbox
from broker.core.shell import Shell
from broker.links.listening.door import Door
from broker.links.probing import probe
from broker.links.readiness import GONE, READABLE, WRITABLE
from broker.links.tls_socket import Socket

if TYPE_CHECKING:
    from broker.links.pump import Pump

SMALL_PACKET_BYTES: Final = 24
RECEIVE_BYTES_MANY: Final = 8 * 1024
"""What a receive takes from a peer whose last packets were shorter than that on average."""

RECEIVE_BYTES_FEW: Final = 448
"""At first, and where the last ones brought little: room for this comes from Python's own pools, at a sixth less."""

FEW_BYTES: Final = 200

FEW_ENOUGH: Final = 2
"""So many receives in a row that brought little have the next one expect little."""

FEW_WRONG: Final = -62
"""Where it was more all the same, the second receive costs more than many have saved: as if it were so many short."""


class Connection(Shell):
    """One socket of the pump.  A subclass makes its outbox, and knows what the bytes mean."""

    outbox: Outbox
    where = A_CONNECTION
    """Whose bug it was, as the log has it."""
    receive_bytes = RECEIVE_BYTES_FEW
    _few = FEW_ENOUGH
    """How many receives in a row brought little."""
    _is_probed = False

    def __init__(self, pump: Pump, sock: Socket, door: Door) -> None:
        self.pump = pump
        self.sock = sock
        self.fd = sock.fileno()
        self.door = door

    def received(self, data: bytes) -> None:
        """Bytes came.  Never raises for what a peer sends."""
        raise NotImplementedError

    def lost(self) -> None:
        """The peer has gone: ask for the end of this connection."""
        raise NotImplementedError

    def stop(self) -> None:
        """The broker is stopping: ask for the end of this connection."""
        raise NotImplementedError

    def gone(self) -> None:
        """The pump has let go of this connection, and closed its socket."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """A bug of ours met it: as if its peer had gone.  Raises `error` where others can't do without this one."""
        self.lost()

    def readable(self) -> None:
        """The socket has bytes, or news."""
        try:
            data = self.sock.recv(self.receive_bytes)
        except BlockingIOError:
            self.receive_bytes = RECEIVE_BYTES_MAX  # what has come may be a part of a record of TLS
            return
        except OSError:
            data = b""
        if data:
            if len(data) == RECEIVE_BYTES_FEW == self.receive_bytes:
                data += self._more()
                self._few = FEW_WRONG
            counters = self.pump.engine.counters
            before = counters.packets_received
            self.received(data)
            size = len(data)
            # One that sends many small packets has fewer of them at a time, so that the others wait no longer for it.
            many = (counters.packets_received - before) * SMALL_PACKET_BYTES > size
            if size < FEW_BYTES:
                self._few += 1
            elif self._few > 0:
                self._few = 0
            if self._few >= FEW_ENOUGH:
                self._few = FEW_ENOUGH
                self.receive_bytes = RECEIVE_BYTES_FEW
            else:
                self.receive_bytes = RECEIVE_BYTES_MANY if many else RECEIVE_BYTES_MAX
        else:
            self.lost()

    def hear_out(self) -> int:
        """So much of it that a turn does not get long; nothing of a peer that is not read from, as it owes reading."""
        heard = 0
        while heard < RECEIVE_BYTES_MAX:
            if self.events() != READABLE or not self.pump.serves(self):
                return 0
            try:
                data = self.sock.recv(RECEIVE_BYTES_MAX)
            except BlockingIOError:
                return 0
            except OSError:
                data = b""
            if not data:
                self.lost()
                return 0
            heard += len(data)
            self.received(data)
        return heard

    def _more(self) -> bytes:
        """What has come beyond the few bytes that were expected.  An end, or a fault, is met by the next receive."""
        try:
            return self.sock.recv(RECEIVE_BYTES_MAX)
        except OSError:
            return b""

    def broken(self) -> None:
        """Nothing can be sent any more.  What came before is still read; behind it is the end, of which epoll tells."""

    def events(self) -> int:
        """What is to be told of, beside room for what is owed; an error is told of in any case."""
        outbox = self.outbox
        if not outbox.holds_reading:
            return READABLE
        return GONE if outbox.hears_end else 0

    def blocked(self) -> None:
        """The kernel takes no more: be woken when it does."""
        self.pump.ready.modify(self.fd, self.events() | WRITABLE)

    def look_again(self) -> None:
        """What `events` says may have changed."""
        # No longer than it is paused: afterwards its own keep-alive time counts, which may outlast a long sleep.
        if self.outbox.hears_end != self._is_probed:
            self._is_probed = self.outbox.hears_end
            probe(self.sock, self._is_probed)
        self.pump.ready.modify(self.fd, self.events() | (WRITABLE if self.outbox.blocked else 0))

    def end_soon(self) -> None:
        """Send once more what is owed, and close, at the end of the round."""
        self.pump.closing.append(self)
