"""Bytes owed to one peer, and one send of all of them.

Invariant: between two flushes an outbox is either empty, or listed in its `Round`, or blocked on the kernel.
A push never sends; a flush never waits.  What the kernel refuses stays here until the shell that owns the
socket says `writable()`.

Whoever sends requests and does not read the answers is not read from until it does: `holds_reading`.  Every shell
obeys that, so the rule holds for each kind of link, and an answer never has to be refused.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.core import barrier
from broker.core.counters import Counters
from broker.core.limits import ANSWERS_OWED_BYTES_MAX, SEND_BYTES_MAX
from broker.core.pieces import are_the_same, count_within, settle
from broker.core.shell import NOBODY, Shell
from broker.core.strain import EASED_BYTES, READS_AGAIN_WITHIN_S, SLICE_BYTES, Strain
from protocol.mqtt.message import PacketWriter


def nothing() -> None:
    """What is called where nobody is interested any more."""


class Round:
    """The outboxes that got something since the last flush, in the order in which they did."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.parts: list[bytes] = []
        self.joined = b""
        """What was joined last, as one; the next outbox is often owed the same."""
        self.touched: list[Outbox] = []
        """To their peers something is to be sent at the end of the round."""
        self._strained: dict[Outbox, Strain] = {}
        self._frozen: dict[Outbox, bool] = {}
        self._is_due = False

    def strain(self, outbox: Outbox) -> None:
        """This outbox is owed so much that whoever publishes more at once should let it drain between two slices."""
        if outbox in self._frozen:
            return
        strain = self._strained.get(outbox)
        if strain is None:
            strain = self._strained[outbox] = Strain()
        pending_bytes = strain.pending_bytes = outbox.pending_bytes
        if pending_bytes >= strain.due_bytes:
            self._is_due = True
        elif pending_bytes + SLICE_BYTES < strain.due_bytes:  # it has been read from since
            strain.due_bytes = pending_bytes + SLICE_BYTES

    @property
    def is_strained(self) -> bool:
        """Whether somebody who reads has more before them than the kernel takes at once, and than they had lately."""
        return self._is_due

    def awaits_readers(self, now: float) -> bool:
        """Whether a strained outbox is still draining; one that its reader leaves as it is does not count for long.

        Whoever asks waits for them, so nobody need until `SLICE_BYTES` more are owed.

        Args:
            now: monotonic seconds.
        """
        for outbox in list(self._frozen):
            if outbox.closed or outbox.pending_bytes < EASED_BYTES:
                del self._frozen[outbox]
        self._is_due = False
        for outbox, strain in list(self._strained.items()):
            pending_bytes = outbox.pending_bytes
            strain.due_bytes = pending_bytes + SLICE_BYTES
            if outbox.closed or pending_bytes < EASED_BYTES:
                del self._strained[outbox]
            elif strain.since == 0.0:
                strain.pending_bytes, strain.since = pending_bytes, now
            elif pending_bytes < strain.pending_bytes:
                strain.pending_bytes, strain.since = pending_bytes, now
                strain.patience_s = READS_AGAIN_WITHIN_S
            elif now - strain.since > strain.patience_s:
                del self._strained[outbox]
                self._frozen[outbox] = True
        return len(self._strained) > 0

    def forget(self, outbox: Outbox) -> None:
        """It is closed, and nobody is to be waited for."""
        if outbox in self._strained:
            del self._strained[outbox]
        if outbox in self._frozen:
            del self._frozen[outbox]

    def waiting(self) -> int:
        """How many outboxes are to be sent to."""
        return len(self.touched)

    def pieces(self) -> int:
        """How many pieces they are owed."""
        count = 0
        for outbox in self.touched:
            count += outbox.pieces()
        return count

    def at(self, position: int) -> Outbox:
        """One of them, counted from the one that has waited longest."""
        return self.touched[position]

    def send_last(self, outbox: Outbox) -> None:
        """One send for this one now, if it is the last that got something: the others are many."""
        touched = self.touched
        if touched and touched[-1] is outbox:
            barrier.flush([touched.pop()], self.counters)

    def flush_some(self, start: int, end: int) -> None:
        """One send for each of these, counted from the one that has waited longest."""
        some = self.touched[start:end]
        del self.touched[start:end]
        barrier.flush(some, self.counters)

    def flush(self) -> None:
        """One send per touched outbox.  What a flush itself causes to be owed goes out in the same call."""
        while self.touched:
            touched = self.touched
            self.touched = []
            barrier.flush(touched, self.counters)


class Outbox(PacketWriter):
    """Bounded bytes owed to one peer.

    Args:
        round: where this outbox announces that it owes something.
        limit_bytes: above it, droppable messages are refused and the others wait in their queue.
        send: the non-blocking `socket.send`, or None where a task does the sending (TLS, memory streams).
        shell: owns the socket.
    """

    # What most outboxes never need stands here, where it costs an interpreted one nothing.
    on_drained: Callable[[], None] | None = None
    """Called when all that was owed has left after having been blocked."""
    is_paused = False
    """Nothing is read from the peer because what it sends has nowhere to go; that is no silence of its own."""
    hears_end = False
    """It is paused and nothing else: if it leaves, what it sent before is read."""
    _rests = False
    _owes_reading = False
    _pauses = 0

    def __init__(
        self,
        round: Round,
        limit_bytes: int,
        send: Callable[[bytes], int] | None,
        shell: Shell = NOBODY,
    ) -> None:
        self.round = round
        self.limit_bytes = limit_bytes
        self.messages_max = 0
        """So many droppable messages may wait, even above `limit_bytes`; 0 for what wants no number."""
        self.pending_bytes = 0
        self.blocked = False
        self.closed = False
        self.holds_reading = False
        """Nothing more is to be read from the peer: it owes reading what it asked for, or the link rests."""
        self.answer_bytes = 0
        """Of what is pending, at most so much answers the peer's own packets."""
        self.more_waits = False
        """There is more to push when this has drained: call `on_drained` even if the kernel took all at once."""
        self.on_push: Callable[[bytes], None] | None = None
        """Shown whole packets as they are pushed, for a log of them."""
        self._send = send
        self.shell = shell
        self._chunks: list[bytes] = []
        self._settled = 0
        """So many chunks, from the first on, were looked at by `settle`."""
        self._touched = False

    def push(self, data: bytes) -> None:
        """Owe the peer these bytes, whatever is pending already."""
        if self.closed:
            return
        if self.on_push is not None:
            self.on_push(data)
        self._owe(data)

    def answer(self, data: bytes) -> None:
        """Owe the peer these bytes because of a packet of its own."""
        self.answer_bytes += len(data)
        self.push(data)

    def push_publish(self, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int) -> None:
        if self.closed:
            return
        if self.on_push is not None:
            self.on_push(head + packet_id + rest)
        chunks = self._chunks
        chunks.append(head)
        chunks.append(packet_id)
        chunks.append(rest)
        self.pending_bytes += len(head) + len(packet_id) + len(rest)
        counters = self.round.counters
        counters.publishes_sent += 1
        counters.publish_bytes_sent += payload_bytes
        if not self._touched:
            self._touched = True
            self.round.touched.append(self)

    def _owe(self, data: bytes) -> None:
        self._chunks.append(data)
        self.pending_bytes += len(data)
        if not self._touched:
            self._touched = True
            self.round.touched.append(self)

    def pieces(self) -> int:
        """How many pieces wait for the kernel."""
        return len(self._chunks)

    def has_room(self, size: int, count: int = 1) -> bool:
        """Whether `count` droppable messages, of this size together, may still be pushed.

        One of any size may, where hardly anything is owed: a reader who reads gets what is longer than the limit.
        And so many as `messages_max` may wait, each reckoned to be as large as those that come.
        """
        pending = self.pending_bytes
        return (
            pending + size <= self.limit_bytes
            or pending <= self.limit_bytes >> 2
            or pending * count < self.messages_max * size
        )

    def finds_room(self, size: int) -> bool:
        """As `has_room`; what the kernel was not given yet does not count against the peer, but is given it first."""
        if self.has_room(size):
            return True
        if not self.blocked:
            self.flush()
        return self.has_room(size)

    def takes_more(self) -> bool:
        """Whether a message that can wait should be pushed now; if not, `on_drained` says when."""
        if self.pending_bytes < self.limit_bytes:
            return True
        self.more_waits = True
        return False

    def flush(self) -> None:
        """Send what is owed, as much as the kernel takes now."""
        self._touched = False
        if self.blocked:
            self._settled = settle(self._chunks, self._settled)
            self._consider_hold()
            return
        if self.closed or self.pending_bytes == 0:
            return
        send = self._send
        if send is None:
            self.blocked = True
            self.shell.blocked()
            return
        try:
            self._send_chunks(send)
        except OSError:
            self.end_sending()
            self.shell.broken()
            return
        if self.more_waits and not self.blocked:
            # By way of the kernel, so that a reader who is fast enough doesn't keep the others waiting.
            self.blocked = True
            self.shell.blocked()

    def writable(self) -> None:
        """The kernel takes bytes again: go on sending."""
        self.blocked = False
        self.more_waits = False
        self.flush()
        if not self.blocked and self.pending_bytes == 0 and self.on_drained is not None:
            self.on_drained()

    def take(self) -> bytes:
        """All that is owed, for a task that sends it itself; b"" ends that task's turn and re-arms `on_blocked`."""
        if self.pending_bytes == 0:
            self.blocked = False
            self._consider_release()
            return b""
        data = self._next_piece()
        self.pending_bytes -= len(data)
        self.round.counters.bytes_sent += len(data)
        self._consider_release()
        return data

    def close(self) -> None:
        """Owe nothing more, and let go of whoever was to be called: it is freed at once and not by the collector."""
        self.let_go()
        self.end_sending()

    def let_go(self) -> None:
        """Whoever owned the socket has it no more: what is owed may still be taken, and nobody is told of anything."""
        self.shell = NOBODY

    def end_sending(self) -> None:
        """A send failed.  Nothing more leaves; what the peer sent before is read all the same, to its end."""
        self.closed = True
        self.round.forget(self)
        self._chunks = []
        self.pending_bytes = 0
        self._send = None
        self.blocked = False
        self.on_drained = None
        self.on_push = None
        self._consider_release()

    def fail(self, error: Exception) -> None:
        """A bug of ours met it: nothing more leaves, and the connection ends."""
        try:
            self.end_sending()
        finally:
            self.shell.failed(error)

    def rest(self, rests: bool) -> None:
        """Let nothing more be read from the peer for a reason of the link's own, or end that."""
        self._rests = rests
        self._settle_hold()

    def _settle_hold(self) -> None:
        held = self._rests or self.is_paused or self._owes_reading
        hears_end = self.is_paused and not self._rests and not self._owes_reading
        if held != self.holds_reading or hears_end != self.hears_end:
            self.holds_reading = held
            self.hears_end = hears_end
            self.shell.look_again()

    def pause(self, is_paused: bool) -> None:
        """Let nothing more be read from the peer until there is room for what it sends; each who asks also ends it."""
        self._pauses += 1 if is_paused else -1
        self.is_paused = self._pauses > 0
        self._settle_hold()

    def _consider_hold(self) -> None:
        """Blocked, and a round is over: perhaps nothing more is to be read."""
        if self.answer_bytes > ANSWERS_OWED_BYTES_MAX and not self._owes_reading:
            self._owes_reading = True
            self.round.counters.reading_held += 1
            self._settle_hold()

    def _consider_release(self) -> None:
        """The peer took something."""
        if self.answer_bytes > self.pending_bytes:
            self.answer_bytes = self.pending_bytes
        if self._owes_reading and self.answer_bytes <= ANSWERS_OWED_BYTES_MAX >> 1:
            self._owes_reading = False
            self._settle_hold()

    def _send_chunks(self, send: Callable[[bytes], int]) -> None:
        while self.pending_bytes > 0:
            data = self._next_piece()
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            self.round.counters.bytes_sent += sent
            self.pending_bytes -= sent
            if sent < len(data):
                self._chunks.insert(0, data[sent:])
                self._settled += 1
                self.blocked = True
                self._consider_release()
                self._consider_hold()
                self.shell.blocked()
                return
        if self.answer_bytes > 0:
            self._consider_release()

    def _next_piece(self) -> bytes:
        """Take up to about SEND_BYTES_MAX off the front, as one bytes object."""
        chunks = self._chunks
        if self.pending_bytes <= SEND_BYTES_MAX:
            self._settled = 0
            if len(chunks) == 1:
                return chunks.pop()
            # The list stays, or another takes its place: a new one for each send would cost more than all else here.
            round = self.round
            before = round.parts
            if are_the_same(before, chunks):
                chunks.clear()
                return round.joined
            data = round.joined = b"".join(chunks)
            round.parts, self._chunks = chunks, before
            before.clear()
            return data
        count = count_within(chunks, SEND_BYTES_MAX)
        data = b"".join(chunks[:count])
        del chunks[:count]
        self._settled = max(0, self._settled - count)
        return data
