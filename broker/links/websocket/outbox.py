"""What an MQTT client behind a WebSocket is owed: each packet a binary message of its own.

As mosquitto does.  MQTT would allow any cut (3.1.1 §6), but some clients look for no second packet (paho C).
"""

from __future__ import annotations

from broker.core.outbox import Outbox
from protocol.mqtt.framing import frame_at
from protocol.websocket import binary_frame, binary_head


class Framing:
    """What packets are as frames; made once for all receivers of the same packets, who get them one after another."""

    def __init__(self) -> None:
        self._packets = b""
        self._frames = b""

    def of(self, packets: bytes) -> bytes:
        """`packets`, whole ones, each as a message."""
        if packets is not self._packets:
            self._frames = _framed(packets)
            self._packets = packets
        return self._frames


def _framed(packets: bytes) -> bytes:
    frames: list[bytes] = []
    position = 0
    while position < len(packets):
        _, end = frame_at(packets, position, 0)
        if end == 0:
            break
        frames.append(binary_frame(packets[position:end]))
        position = end
    return b"".join(frames)


FRAMING = Framing()


class FramingOutbox(Outbox):
    """An outbox whose packets leave as WebSocket messages.  Its limit counts the frames' bytes."""

    hushed: bool = False
    """The close frame is owed already, and nothing may follow it."""

    def push(self, data: bytes) -> None:
        if self.closed or self.hushed:
            return
        if self.on_push is not None:
            self.on_push(data)
        self.push_frames(FRAMING.of(data))

    def push_frames(self, frames: bytes) -> None:
        """Owe the peer frames that are made already."""
        if not self.closed and not self.hushed:
            self._owe(frames)

    def push_publish(self, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int) -> None:
        if self.closed or self.hushed:
            return
        self.push_frames(binary_head(len(head) + len(packet_id) + len(rest)))
        super().push_publish(head, packet_id, rest, payload_bytes)
