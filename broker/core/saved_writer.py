"""What a client is sent at QoS 2, where it must not come twice after a crash: it leaves when it is on disk.

A receiver remembers the packet id of a QoS 2 PUBLISH, and forgets it at its PUBREL.  So a PUBLISH leaves after a save
that knows under which id it went, and a PUBREL after one that knows of the PUBREC: after a power cut the broker goes
on just where this client is.  QoS 1 does not wait, but behind a PUBLISH that does, so that messages keep their order.

Invariant: what is held leaves in the order in which it was pushed; QoS 0 passes by.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from broker.core.outbox import nothing
from broker.core.promise import Promise
from protocol.mqtt.codec import PUBREL
from protocol.mqtt.message import PacketWriter

if TYPE_CHECKING:
    from broker.core.outbox import Outbox
    from broker.core.saving import Saving
    from protocol.mqtt.outbound import Outbound

_QOS_2: Final = 0x04


class _Held:
    """A PUBLISH in its three parts, or a PUBREL, whose `rest` and `packet_id` are empty."""

    def __init__(
        self, promise: Promise | None, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int
    ) -> None:
        self.promise = promise
        self.head = head
        self.packet_id = packet_id
        self.rest = rest
        self.payload_bytes = payload_bytes


class SavedWriter(PacketWriter):
    """The outbox of one durable session's connection, behind the disk.

    Args:
        outbox: where everything leaves in the end.
        saving: knows what is on disk; stays readable.
        outbound: told to go on when there is room again.
    """

    def __init__(self, outbox: Outbox, saving: Saving, outbound: Outbound) -> None:
        self.saving = saving
        self._outbox = outbox
        self._outbound = outbound
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._more_waits = False

    def push(self, data: bytes) -> None:
        if data[0] == PUBREL:
            self._push_pubrel(data)
        else:
            self._outbox.push(data)

    def answer(self, data: bytes) -> None:
        self.push(data)

    def push_publish(self, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int) -> None:
        promise = self.saving.promise_saved() if head[0] & _QOS_2 else None
        if promise is None and not self._held:
            self._outbox.push_publish(head, packet_id, rest, payload_bytes)
        else:
            self._hold(_Held(promise, head, packet_id, rest, payload_bytes))

    def takes_more(self) -> bool:
        if self._held_bytes < self._outbox.limit_bytes:
            return self._outbox.takes_more()
        self._more_waits = True
        return False

    def abandon(self) -> None:
        """The connection has ended: the next one gets what is in flight again."""
        for held in self._held:
            if held.promise is not None:
                held.promise.on_kept = nothing
        self._held.clear()

    def _push_pubrel(self, data: bytes) -> None:
        promise = self.saving.promise_saved()
        if promise is None and not self._held:
            self._outbox.answer(data)
        else:
            self._hold(_Held(promise, data, b"", b"", 0))

    def _hold(self, held: _Held) -> None:
        if held.promise is not None:
            held.promise.on_kept = self._release
        self._held.append(held)
        self._held_bytes += len(held.head) + len(held.rest)

    def _release(self) -> None:
        outbox = self._outbox
        while self._held:
            held = self._held[0]
            if held.promise is not None and not held.promise.is_kept:
                return
            self._held.popleft()
            self._held_bytes -= len(held.head) + len(held.rest)
            if held.packet_id:
                outbox.push_publish(held.head, held.packet_id, held.rest, held.payload_bytes)
            else:
                outbox.answer(held.head)
        if self._more_waits:
            self._more_waits = False
            self._outbound.resume()
