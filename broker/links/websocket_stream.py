"""The byte stream under one WebSocket: trio-websocket reads and writes it, and so do we.

Invariant: every byte to the peer goes through one outbox, so frames never interleave, whoever wrote them.
A peer that floods us with pings or with endless fragments, or doesn't read, loses its connection here.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from broker.core.outbox import Outbox, Round
from protocol.dialects.base import Meter
from protocol.websocket import CloseCode, close_frame

CLOSE_GRACE_S: Final = 2.0
"""How long a closing connection may take to get what it is owed, and to say goodbye."""

PINGS_PER_S_MAX: Final = 50
"""Browsers send none, libraries one in seconds; each costs us a pong."""

UNFINISHED_LEAK_BYTES_PER_S: Final = 64
"""What a peer's own pongs may amount to without its ever finishing a message."""

UNFINISHED_FACTOR: Final = 8
"""Bytes received per byte of the largest message: a message in fragments of one byte costs seven each."""

KERNEL_SEND_BYTES: Final = 128 * 1024
"""What the kernel may hold for one dialect client (Linux doubles it).  Left to itself it takes megabytes, in which
a client that doesn't read would hide, and market data grow old."""

_CLOSE_FIRST_BYTE: Final = 0x88
_PONG_FIRST_BYTE: Final = 0x8A


class WebSocketStream(trio.abc.Stream):
    """One peer's bytes.

    Args:
        inner: the connected stream: TCP, TLS, memory.
        round: where the outbox announces that it owes something.
        outbox_bytes_max: what may be owed to this peer.
        nursery: lives longer than the stream; what the kernel refuses is sent by a task in it.
    """

    def __init__(
        self,
        inner: trio.abc.Stream,
        round: Round,
        outbox_bytes_max: int,
        nursery: trio.Nursery,
    ) -> None:
        self._inner = inner
        self._nursery = nursery
        # Straight to the kernel: the descriptor is open as long as the outbox is.
        send = partial(os.write, inner.socket.fileno()) if isinstance(inner, trio.SocketStream) else None
        self.outbox = Outbox(round, outbox_bytes_max, send, self._start_draining, self._broken)
        self.outbox.on_drained = self._drained
        self.on_sent_all: Callable[[], None] | None = None
        """Called when the peer, having been slow, has taken everything it was owed."""
        self.close_code: Callable[[], int | None] = _unknown
        """Why the connection is closed, if trio-websocket closes it without telling the peer."""
        self.before_close: Callable[[int], Sequence[bytes]] | None = None
        """Frames to send ahead of a close frame, by its code."""
        self.rewrite: Callable[[bytes], bytes] | None = None
        """Changes what is written next, once: the handshake's response."""
        self.received_at = trio.current_time()
        self._unread = b""
        self._reading = False
        self._closing = False
        self._closed: trio.Event | None = None
        self._draining: trio.Event | None = None
        self._pings: Meter | None = None
        self._unfinished = 0.0
        self._unfinished_max = 0

    # --- reading -------------------------------------------------------------------------------------------

    def unread(self, data: bytes) -> None:
        """Give back bytes that the next `receive_some` is to return."""
        self._unread = data + self._unread

    def limit_messages(self, message_bytes_max: int) -> None:
        """From now on count what comes without ever becoming a whole message."""
        self._unfinished = 0.0
        self._unfinished_max = UNFINISHED_FACTOR * message_bytes_max + 64 * 1024

    def limit_kernel(self) -> None:
        """Let the kernel hold little for this peer, so that our own limit and policy decide."""
        inner = self._inner
        transport = inner.transport_stream if isinstance(inner, trio.SSLStream) else inner
        if isinstance(transport, trio.SocketStream):
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_SEND_BYTES)

    def message_finished(self) -> None:
        """A whole message came; its fragments need no longer be counted."""
        self._unfinished = 0.0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            await trio.lowlevel.checkpoint()
            return data
        self._reading = True
        try:
            data = bytes(await self._inner.receive_some(max_bytes))
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        finally:
            self._reading = False
        self._count_unfinished(len(data))
        return data

    def _count_unfinished(self, size: int) -> None:
        now = trio.current_time()
        leaked = (now - self.received_at) * UNFINISHED_LEAK_BYTES_PER_S
        self.received_at = now
        self._unfinished = max(0.0, self._unfinished - leaked) + size
        if 0 < self._unfinished_max < self._unfinished:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, "a message of too many fragments")

    # --- writing -------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Owe the peer these bytes and send what it takes now; the rest follows by itself."""
        await trio.lowlevel.checkpoint()
        outbox = self.outbox
        if self._closing or outbox.closed:
            raise trio.ClosedResourceError
        if self.rewrite is not None:
            data = self.rewrite(bytes(data))
            self.rewrite = None
        if data and data[0] == _CLOSE_FIRST_BYTE:
            self._push_close(bytes(data))
        else:
            if data and data[0] == _PONG_FIRST_BYTE:
                self._count_ping()
            if not outbox.has_room(len(data)):
                outbox.close()
                raise trio.BrokenResourceError("the peer does not read what it is sent")
            outbox.push(bytes(data))
        outbox.flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self.wait_drained()

    async def wait_drained(self) -> None:
        """Wait until the kernel has taken everything, or the connection is broken."""
        while self.outbox.pending_bytes and self._draining is not None:
            await self._draining.wait()
        await trio.lowlevel.checkpoint()

    def _count_ping(self) -> None:
        now = trio.current_time()
        if self._pings is None:
            self._pings = Meter(PINGS_PER_S_MAX, now)
        if not self._pings.allows(now):
            self._refuse(CloseCode.POLICY_VIOLATION, f"more than {PINGS_PER_S_MAX} pings a second")

    def _refuse(self, code: int, reason: str) -> None:
        self._push_close(close_frame(code, reason))
        self.outbox.flush()
        self._closing = True
        raise trio.BrokenResourceError(reason)

    def _start_draining(self) -> None:
        if self._draining is None:
            self._draining = trio.Event()
            self._nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        """Send what the kernel refused, as it takes it."""
        assert self._draining is not None
        outbox = self.outbox
        try:
            while outbox.blocked and not outbox.closed:
                if isinstance(self._inner, trio.SocketStream):
                    await trio.lowlevel.wait_writable(self._inner.socket)
                    outbox.writable()
                    continue
                while data := outbox.take():
                    await self._inner.send_all(data)
                self._drained()
        except (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._broken()
        finally:
            self._draining.set()
            self._draining = None

    def _drained(self) -> None:
        if self.on_sent_all is not None:
            self.on_sent_all()

    def _broken(self) -> None:
        """The peer is gone; whoever reads will find out, too."""
        self.outbox.close()

    # --- closing -------------------------------------------------------------------------------------------

    def _push_close(self, frame: bytes) -> None:
        if self.before_close is not None and len(frame) >= 4:
            for earlier in self.before_close(int.from_bytes(frame[2:4], "big")):
                self.outbox.push(earlier)
        self.before_close = None
        self.outbox.push(frame)

    async def aclose(self) -> None:
        """Send what is owed, within the grace time, and close.  Whoever calls second waits for the first."""
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = trio.Event()
        code = self.close_code()
        if not self._closing and code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA):
            # trio-websocket 0.12 drops such a peer without a word (RFC 6455 §7.1.7 wants a close frame).
            self._push_close(close_frame(code))
        self._closing = True
        try:
            with trio.move_on_after(CLOSE_GRACE_S):
                self.outbox.flush()
                await self.wait_drained()
                await self._linger()
        finally:
            self.outbox.close()
            await trio.aclose_forcefully(self._inner)
            self._closed.set()

    async def _linger(self) -> None:
        """Read until the peer hangs up; closing with bytes unread would reset what was just sent."""
        if self._reading or not isinstance(self._inner, trio.SocketStream):
            return
        try:
            await self._inner.send_eof()
            while await self._inner.receive_some(64 * 1024):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


def _unknown() -> int | None:
    return None
