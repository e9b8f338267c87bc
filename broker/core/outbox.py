"""Bytes owed to one peer, and one send of all of them.

Invariant: between two flushes an outbox is either empty, or listed in its `Round`, or blocked on the kernel.
A push never sends; a flush never waits.  What the kernel refuses stays here until the shell that owns the
socket says `writable()`.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core.counters import Counters
from broker.core.limits import SEND_BYTES_MAX
from protocol.mqtt.message import Sink


def nothing() -> None:
    """What is called where nobody is interested any more."""


class Round:
    """The outboxes that got something since the last flush, in the order in which they did."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._touched: list[Outbox] = []

    def add(self, outbox: Outbox) -> None:
        self._touched.append(outbox)

    def flush(self) -> None:
        """One send per touched outbox.  What a flush itself causes to be owed goes out in the same call."""
        while self._touched:
            touched = self._touched
            self._touched = []
            for outbox in touched:
                outbox.flush()


class Outbox(Sink):
    """Bounded bytes owed to one peer.

    Args:
        round: where this outbox announces that it owes something.
        limit_bytes: above it, droppable messages are refused; the rest is bounded by the in-flight window.
        send: the non-blocking `socket.send`, or None where a task does the sending (TLS, memory streams).
        on_blocked: called once when the kernel takes no more, or, without `send`, when there is something to take.
        on_broken: called once when a send fails; the peer is gone.
    """

    def __init__(
        self,
        round: Round,
        limit_bytes: int,
        send: Callable[[bytes], int] | None,
        on_blocked: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self.round = round
        self.limit_bytes = limit_bytes
        self.pending_bytes = 0
        self.blocked = False
        self.closed = False
        self.on_drained: Callable[[], None] | None = None
        """Called when all that was owed has left after having been blocked."""
        self.more_waits = False
        """There is more to push when this has drained: call `on_drained` even if the kernel took all at once."""
        self.on_push: Callable[[bytes], None] | None = None
        """Shown whole packets as they are pushed, for a log of them."""
        self._send = send
        self._on_blocked = on_blocked
        self._on_broken = on_broken
        self._chunks: list[bytes] = []
        self._touched = False

    def push(self, data: bytes) -> None:
        """Owe the peer these bytes, whatever is pending already."""
        if self.closed:
            return
        if self.on_push is not None:
            self.on_push(data)
        self._owe(data)

    def push_publish(self, head: bytes, packet_id: bytes, payload: bytes) -> None:
        if self.closed:
            return
        if self.on_push is not None:
            self.on_push(head + packet_id + payload)
        chunks = self._chunks
        chunks.append(head)
        chunks.append(packet_id)
        chunks.append(payload)
        self.pending_bytes += len(head) + 2 + len(payload)
        counters = self.round.counters
        counters.publishes_sent += 1
        counters.publish_bytes_sent += len(payload)
        if not self._touched:
            self._touched = True
            self.round.add(self)

    def _owe(self, data: bytes) -> None:
        self._chunks.append(data)
        self.pending_bytes += len(data)
        if not self._touched:
            self._touched = True
            self.round.add(self)

    def pieces(self) -> int:
        return len(self._chunks)

    def has_room(self, size: int) -> bool:
        """Whether a droppable message of this size may still be pushed."""
        return self.pending_bytes + size <= self.limit_bytes

    def flush(self) -> None:
        """Send what is owed, as much as the kernel takes now."""
        self._touched = False
        if self.closed or self.blocked or not self._chunks:
            return
        send = self._send
        if send is None:
            self.blocked = True
            self._on_blocked()
            return
        try:
            self._send_chunks(send)
        except OSError:
            on_broken = self._on_broken
            self.close()
            on_broken()
            return
        if self.more_waits and not self.blocked:
            # By way of the kernel, so that a reader who is fast enough doesn't keep the others waiting.
            self.blocked = True
            self._on_blocked()

    def writable(self) -> None:
        """The kernel takes bytes again: go on sending."""
        self.blocked = False
        self.more_waits = False
        self.flush()
        if not self.blocked and not self._chunks and self.on_drained is not None:
            self.on_drained()

    def take(self) -> bytes:
        """All that is owed, for a task that sends it itself; b"" ends that task's turn and re-arms `on_blocked`."""
        if not self._chunks:
            self.blocked = False
            return b""
        data = self._next_piece()
        self.pending_bytes -= len(data)
        self.round.counters.bytes_sent += len(data)
        return data

    def close(self) -> None:
        """Owe nothing more; later pushes are ignored.

        Whoever was to be called is let go, so that a closed connection is freed at once and not by the collector.
        """
        self.closed = True
        self._chunks = []
        self.pending_bytes = 0
        self._send = None
        self._on_blocked = nothing
        self._on_broken = nothing
        self.on_drained = None
        self.on_push = None

    def _send_chunks(self, send: Callable[[bytes], int]) -> None:
        while self._chunks:
            data = self._next_piece()
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            self.round.counters.bytes_sent += sent
            self.pending_bytes -= sent
            if sent < len(data):
                self._chunks.insert(0, data[sent:])
                self.blocked = True
                self._on_blocked()
                return

    def _next_piece(self) -> bytes:
        """Take up to about SEND_BYTES_MAX off the front, as one bytes object."""
        chunks = self._chunks
        if self.pending_bytes <= SEND_BYTES_MAX:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
            return data
        size = 0
        count = 0
        for chunk in chunks:
            size += len(chunk)
            count += 1
            if size >= SEND_BYTES_MAX:
                break
        data = b"".join(chunks[:count])
        del chunks[:count]
        return data
