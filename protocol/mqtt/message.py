"""One application message and its encodings, each made once and shared by all its receivers.  Sans-IO.

Invariant: topic, payload, QoS and retain never change after construction, so every cached encoding stays true.
"""

from __future__ import annotations

import math
from typing import Final

from protocol.mqtt.codec import publish_head, publish_packet
from protocol.mqtt.framing import REMAINING_LENGTH_MAX, encode_variable

PUBLISH_FIRST_BYTE = 0x30
DUP_FLAG = 0x08
RETAIN_FLAG = 0x01

SURELY_FITS_BYTES: Final = REMAINING_LENGTH_MAX >> 1
"""With less payload, no packet is longer than one can be."""

_QOS_1: Final = 0x32
_QOS_2: Final = 0x34

_JOINED_BYTES_MAX: Final = 4096
"""Of a payload that is kept once more behind its properties, since a piece less for each receiver is worth it."""


class PacketWriter:
    """Where a peer's bytes go.  The broker's is an outbox; a test's is a list."""

    def push(self, data: bytes) -> None:
        """Send these bytes some time soon, in the order of the calls."""
        raise NotImplementedError

    def answer(self, data: bytes) -> None:
        """Push what answers the peer's own packet."""
        self.push(data)

    def push_publish(self, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int) -> None:
        """A PUBLISH at QoS 1 or 2: the shared head, this receiver's packet id, the shared rest.

        Args:
            packet_id: in 5.0 perhaps with properties behind it.
            rest: ends with the payload.
            payload_bytes: how long that is.
        """
        raise NotImplementedError

    def takes_more(self) -> bool:
        """Whether a message that can wait should be pushed now; if not, whoever owns the writer says when."""
        return True


class Message:
    """An application message as published (MQTT 3.1.1 §3.3).

    Args:
        topic: UTF-8, already checked to be a topic name.
        payload: any bytes.
        qos: 0 to 2, as published; a receiver gets the lower of this and what it was granted.
        retain: as published.
    """

    def __init__(self, topic: bytes, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = b""
        """Of MQTT 5.0, those that every receiver of it gets, as bytes in their order [MQTT-3.3.2-18]."""
        self.expires_at = 0.0
        """When its message expiry interval is over, by the broker's clock; 0.0 is never."""
        self.holders = 0
        """How many queues, windows and retained slots keep this message; see `MessageStore`."""
        self._packet: bytes | None = None
        self._packet_5: bytes | None = None
        self._packet_5_with_ids: bytes | None = None
        self._ids = b""
        self._first_byte_5 = 0
        """Which `head_5`, `block_5` and `rest_5` there are; 0 before."""
        self.head_5 = b""
        self.block_5 = b""
        """To be sent behind the packet id; b"" where `rest_5` has it."""
        self.rest_5 = b""
        self._head_qos_1: bytes | None = None
        self._head_qos_2: bytes | None = None

    def packet(self) -> bytes:
        """The whole PUBLISH at QoS 0 with retain 0, as live subscribers get it [MQTT-3.3.1-9]."""
        packet = self._packet
        if packet is None:
            packet = self._packet = self.packet_with(PUBLISH_FIRST_BYTE)
        return packet

    def retained_packet(self) -> bytes:
        """The whole PUBLISH at QoS 0 with retain 1, as a new subscription gets it [MQTT-3.3.1-8]."""
        return self.packet_with(PUBLISH_FIRST_BYTE | RETAIN_FLAG)

    def packet_with(self, first_byte: int) -> bytes:
        """Its PUBLISH without a packet id: for QoS 0."""
        return publish_packet(first_byte, self.topic, b"", self.payload)

    def head(self, qos: int, retain: bool, dup: bool) -> bytes:
        """Everything of a PUBLISH at QoS 1 or 2 that stands before its packet id."""
        if retain or dup:
            flags = (RETAIN_FLAG if retain else 0) | (DUP_FLAG if dup else 0)
            return publish_head(PUBLISH_FIRST_BYTE | qos << 1 | flags, self.topic, len(self.payload) + 2)
        if qos == 1:
            head = self._head_qos_1
            if head is None:
                head = self._head_qos_1 = publish_head(0x32, self.topic, len(self.payload) + 2)
            return head
        head = self._head_qos_2
        if head is None:
            head = self._head_qos_2 = publish_head(0x34, self.topic, len(self.payload) + 2)
        return head

    def block(self, now: float, subscription_ids: bytes) -> bytes:
        """The properties of 5.0 with their length: what is left of the expiry [MQTT-3.3.2-6], and a receiver's ids."""
        inner = self.properties + subscription_ids
        if self.expires_at != 0.0:
            left = max(0, math.ceil(self.expires_at - now - 0.001))
            inner += b"\x02" + min(left, 0xFFFF_FFFF).to_bytes(4, "big")
        return encode_variable(len(inner)) + inner

    def is_shared_5(self, qos: int, retain: bool) -> bool:
        """Whether `head_5`, a packet id, `block_5` and `rest_5` are its PUBLISH at QoS 1 or 2 for each client of 5.0
        that takes any and gets no more than it says itself; not for one that expires, or may be too long."""
        first_byte = (_QOS_1 if qos == 1 else _QOS_2) + (1 if retain else 0)
        return self._first_byte_5 == first_byte or self._share_5(first_byte)

    def _share_5(self, first_byte: int) -> bool:
        payload = self.payload
        size = len(payload)
        if self.expires_at != 0.0 or size >= SURELY_FITS_BYTES:
            return False
        block = self.block(0.0, b"") if self.properties else b"\0"
        self.head_5 = publish_head(first_byte, self.topic, 2 + len(block) + size)
        if size <= _JOINED_BYTES_MAX:
            self.block_5 = b""
            self.rest_5 = block + payload
        else:
            self.block_5 = block
            self.rest_5 = payload
        self._first_byte_5 = first_byte
        return True

    def packet_5(self, retain: bool, now: float, subscription_ids: bytes) -> bytes:
        """The whole PUBLISH at QoS 0 for a client of 5.0.

        Kept for the next receiver: without identifiers, and with those of the last one that had some.
        """
        if retain or self.expires_at != 0.0:
            return self.packet_5_as(self.topic, retain, now, subscription_ids)
        if subscription_ids:
            packet = self._packet_5_with_ids
            if packet is None or subscription_ids != self._ids:
                packet = self._packet_5_with_ids = self.packet_5_as(self.topic, False, now, subscription_ids)
                self._ids = subscription_ids
            return packet
        packet = self._packet_5
        if packet is None:
            packet = self._packet_5 = self.packet_5_as(self.topic, False, now, b"")
        return packet

    def packet_5_as(self, topic: bytes, retain: bool, now: float, more_properties: bytes) -> bytes:
        """As `packet_5`, with another topic name: none, where a topic alias among the properties stands for it."""
        first_byte = PUBLISH_FIRST_BYTE | (RETAIN_FLAG if retain else 0)
        return publish_packet(first_byte, topic, self.block(now, more_properties), self.payload)

    def has_expired(self, now: float) -> bool:
        """Whether its expiry is over; in MQTT 3.1.1 it never is."""
        return self.expires_at != 0.0 and self.expires_at < now

    def size(self) -> int:
        """Bytes that a queue is charged for this message: its payload, as by Mosquitto."""
        return len(self.payload)


class MessageStore:
    """How many messages are kept somewhere, and their payload bytes: each counts once, however many keep it."""

    def __init__(self) -> None:
        self.count = 0
        self.payload_bytes = 0

    def hold(self, message: Message) -> None:
        """One more keeps this message; it counts once, however many do."""
        if message.holders == 0:
            self.count += 1
            self.payload_bytes += len(message.payload)
        message.holders += 1

    def release(self, message: Message) -> None:
        """One of those who keep it does so no more."""
        message.holders -= 1
        if message.holders == 0:
            self.count -= 1
            self.payload_bytes -= len(message.payload)
