"""A socket whose bytes are encrypted; to the pump it is like any socket that does not block.

OpenSSL never sees the socket.  One receive brings whatever has come, any number of records, and one send takes all the
records that a flush makes.  The two buffers between OpenSSL and the socket are empty whenever nothing is being done,
so all connections of the pump share one pair.

Invariant: a record is given to OpenSSL when all of it is here, so that OpenSSL holds no buffer for an idle connection.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

RECORD_HEAD_BYTES: Final = 5
PLAIN_BYTES_MAX: Final = 16_384
"""In one record (RFC 8446 §5.1)."""

ENCRYPT_BYTES: Final = 64 * 1024
"""Encrypted at a time: what is kept twice, as text and as records, for a peer that does not read."""

RECORDS_BYTES_MAX: Final = 2 * ENCRYPT_BYTES
"""Kept as records: text, and beside it two thousand answers to a peer that asks for new keys and reads none of them."""


class Buffers:
    """What OpenSSL reads from and writes to."""

    def __init__(self) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        # As they are called for every record; a method's name would be looked up each time.
        self.give: Callable[[bytes], int] = self.incoming.write
        self.take: Callable[[], bytes] = self.outgoing.read


class Records(Protocol):
    """OpenSSL's part of an `ssl.SSLObject`, which only passes calls on to it."""

    def do_handshake(self) -> None: ...
    def read(self, size: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> int: ...
    def shutdown(self) -> object: ...
    def getpeercert(self, binary_form: bool, /) -> Any: ...


class Documented:
    """The same by way of the whole object, should a Python keep its part elsewhere."""

    def __init__(self, whole: ssl.SSLObject) -> None:
        self.do_handshake = whole.do_handshake
        self.read = whole.read
        self.write = whole.write
        self.shutdown = whole.unwrap
        self.getpeercert = whole.getpeercert


def nothing(sock: socket.SocketType) -> bool:
    """Nothing is read that nobody has told of."""
    return False


class TlsSocket:
    """One end of one TLS connection.

    Args:
        sock: connected and non-blocking; from now on nobody else's.
        context: the listener's, or the client's.
        buffers: shared with others that are served in the same thread.
        server: the name of the server that this is the client of; None for the server's end.
    """

    def __init__(
        self, sock: socket.SocketType, context: ssl.SSLContext, buffers: Buffers, server: str | None = None
    ) -> None:
        self._sock = sock
        self._buffers = buffers
        self._records_of = records_of(context, buffers, server)
        self._is_open = False
        self._rest = b""
        """Received, and not a whole record yet."""
        self._records = b""
        """Encrypted, and refused by the kernel; they go first."""
        self._ahead = 0
        """So many bytes, at the front of what is to be sent next, are in `_records`, or have left with them."""
        self._first = b""
        """Encrypted, and goes in one piece with what is sent next."""

    def fileno(self) -> int:
        """The descriptor of the socket below."""
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As `socket.setsockopt`, on the socket below."""
        self._sock.setsockopt(level, option, value)

    def getpeercert(self, binary_form: bool) -> bytes | None:
        """The peer's certificate in DER, verified; None if it has shown none."""
        found: bytes | None = self._records_of.getpeercert(True) if binary_form else None
        return found

    # --- handshake -----------------------------------------------------------------------------------------

    def receive_handshake(self) -> bytes:
        """What has come for `shake_hands`, b"" at the end of the connection.

        Raises:
            BlockingIOError: nothing.
            OSError: the connection is broken.
        """
        return self._sock.recv(PLAIN_BYTES_MAX)

    def shake_hands(self, data: bytes, has_come: Callable[[socket.SocketType], bool] = nothing) -> bool:
        """Go on with the handshake, and answer; True when it is complete, and `take_rest` has what came behind it.

        Args:
            has_come: whether to take what a peer has sent whose handshake was complete first, while this end computed.

        Raises:
            OSError: the peer did not keep to the protocol, or was refused, and has been told; or it has gone.
        """
        incoming, outgoing = self._buffers.incoming, self._buffers.outgoing
        incoming.write(data)
        try:
            self._records_of.do_handshake()
            self._is_open = True
            self._rest = incoming.read() or self._come_since(has_come)
            if self._rest:
                self._first = outgoing.read()  # a ticket, which goes with the answer to what has come already
            else:
                self._send_control()
            return True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            incoming.read()
            self._send_all(outgoing.read())
            raise
        self._send_all(outgoing.read())
        return False

    def _come_since(self, has_come: Callable[[socket.SocketType], bool]) -> bytes:
        try:
            return self._sock.recv(PLAIN_BYTES_MAX) if has_come(self._sock) else b""
        except OSError:  # nothing, or it has gone: the next receive says which
            return b""

    def take_rest(self) -> bytes:
        """What came in one piece with the end of the handshake, decrypted; asked for once."""
        data = self._rest
        self._rest = b""
        if not data:
            return data
        try:
            return self._decrypt(data)
        except BlockingIOError:
            return b""

    def _send_all(self, records: bytes) -> None:
        """A few kilobytes into a connection that has sent nothing yet, which the kernel has room for."""
        if records and self._sock.send(records) < len(records):
            raise BrokenPipeError("no room for a handshake")

    # --- open ----------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """What has come, decrypted; b"" at the end.

        Raises:
            BlockingIOError: nothing that is whole.
            OSError: the connection is broken.
        """
        data = self._sock.recv(size)
        return self._decrypt(data) if data else data

    def _decrypt(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
        end = _whole_records(data)
        if end < len(data):
            self._rest = data[end:]
            if end == 0:
                raise BlockingIOError
            data = data[:end]
        elif self._rest:
            self._rest = b""
        self._buffers.give(data)
        position = _record_end(data, 0)
        text = self._read(position)
        if position < end and text:
            pieces = [text]
            while position < end and text:
                after = _record_end(data, position)
                text = self._read(after - position)
                pieces.append(text)
                position = after
            text = b"".join(pieces)
        if self._buffers.outgoing.pending:
            self._send_control()  # now: the next connection uses the buffers, too
        if not text:
            raise BlockingIOError
        return text

    def _read(self, size: int) -> bytes:
        """The text of a record of this size, which is shorter; b"" when there is no more."""
        try:
            text = self._records_of.read(size)
        except ssl.SSLWantReadError:
            return b""  # it was one of OpenSSL's own, or several
        except ssl.SSLError:
            self._is_open = False
            text = b""
        if not text:
            self._finish()  # the peer said goodbye, or something wrong
        return text

    def _finish(self) -> None:
        """Nothing more is to be read: the next receive says so."""
        self._buffers.incoming.read()
        with suppress(OSError):  # it was reset: the next receive says that
            self._sock.shutdown(socket.SHUT_RD)

    def _send_control(self) -> None:
        """What OpenSSL has to say of its own: new keys, that it will not negotiate again, tickets behind a handshake.

        Raises:
            ConnectionAbortedError: the peer has it say something again and again, and reads nothing.
        """
        self._records += self._first + self._buffers.outgoing.read()
        self._first = b""
        if self._records:
            # Without room it goes with what is sent next.  If the peer has gone, what it sent before counts.
            with suppress(OSError):
                self._send_records()
            if len(self._records) > RECORDS_BYTES_MAX:
                raise ConnectionAbortedError("asks, and does not read the answers")

    def send(self, data: bytes) -> int:
        """Encrypt and send; how many of these bytes have left.

        The next call must begin with those that have not: some may be encrypted already.

        Raises:
            BlockingIOError: none.
            OSError: the connection is broken.
        """
        if self._records:
            self._send_records()
        done = self._ahead  # perhaps with what OpenSSL had to say meanwhile
        self._ahead = 0
        size = len(data)
        while done < size:
            piece = data
            if size - done > ENCRYPT_BYTES or done:
                piece = data[done : done + ENCRYPT_BYTES]
            if not self._send_piece(piece):
                break
            done += len(piece)
        return done

    def _send_piece(self, piece: bytes) -> bool:
        """Encrypt and send; False if some of its records wait for the kernel."""
        self._records_of.write(piece)
        records = self._buffers.take()
        if self._first:
            records = self._first + records
            self._first = b""
        try:
            sent = self._sock.send(records)
        except BlockingIOError:
            sent = 0
        if sent < len(records):
            self._records = records[sent:]
            self._ahead = len(piece)
            return False
        return True

    def _send_records(self) -> None:
        """Raises BlockingIOError unless all of them have left."""
        sent = self._sock.send(self._records)
        self._records = self._records[sent:]
        if self._records:
            raise BlockingIOError

    def close(self) -> None:
        """Say that nothing more comes, if that can be said at once, and close."""
        self._say_goodbye()
        self._sock.close()

    def _say_goodbye(self) -> None:
        if self._is_open and not self._records:
            with suppress(OSError):
                self._records_of.shutdown()  # and would wait for the peer's goodbye
            with suppress(OSError):
                self._sock.send(self._first + self._buffers.outgoing.read())
        self._is_open = False

    def hang_up(self) -> None:
        """Say that nothing more comes, so that what was sent last is not overtaken by the end."""
        self._say_goodbye()
        self._sock.shutdown(socket.SHUT_WR)


def records_of(context: ssl.SSLContext, buffers: Buffers, server: str | None) -> Records:
    """A new connection's part of OpenSSL; `server` as for `TlsSocket`."""
    incoming, outgoing = buffers.incoming, buffers.outgoing
    if server is None and hasattr(context, "_wrap_bio"):
        made: Records = context._wrap_bio(incoming, outgoing, True)
        return made  # and nothing around it, which would lie in memory beside each connection
    whole = context.wrap_bio(incoming, outgoing, server_side=server is None, server_hostname=server)
    part: Records = getattr(whole, "_sslobj", None) or Documented(whole)
    return part


def _record_end(data: bytes, start: int) -> int:
    """Where the record ends that begins here, with its whole head."""
    return start + RECORD_HEAD_BYTES + data[start + 3] * 256 + data[start + 4]


def _whole_records(data: bytes) -> int:
    """Where the last whole record ends."""
    end = 0
    size = len(data)
    while end + RECORD_HEAD_BYTES <= size:
        after = _record_end(data, end)
        if after > size:
            break
        end = after
    return end


Socket: TypeAlias = socket.SocketType | TlsSocket
"""Either, non-blocking, as the pump uses them.  The first is what `socket.socket` inherits from."""
