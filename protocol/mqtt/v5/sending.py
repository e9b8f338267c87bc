"""How PUBLISH packets are written for one connection of a client of MQTT 5.0: within what it said it takes.

Invariant: a topic is in `_aliases` exactly if a packet that says which alias it has is among those owed to the client.
"""

from __future__ import annotations

from typing import Final

from protocol.mqtt.codec import publish_head
from protocol.mqtt.framing import REMAINING_LENGTH_MAX, packet_id_bytes
from protocol.mqtt.message import SURELY_FITS_BYTES, Message, PacketWriter
from protocol.mqtt.window import InFlight, publish_size

_EXPIRY_BYTES: Final = 5
_PACKET_MAX: Final = REMAINING_LENGTH_MAX + 5


class Sending:
    """What CONNECT said about packets to this client.

    Args:
        receive_maximum: messages at QoS 1 and 2 that it takes unacknowledged; 0 says nothing [MQTT-3.3.4-9].
        packet_max: bytes of the largest packet that it takes; 0 is any [MQTT-3.1.2-24].
        aliases_max: highest topic alias that it takes from us; 0 is none [MQTT-3.1.2-26] [MQTT-3.1.2-27].
    """

    def __init__(self, receive_maximum: int, packet_max: int, aliases_max: int) -> None:
        self.receive_maximum = receive_maximum
        self.packet_max = packet_max
        self.aliases_max = aliases_max
        self.takes_any = packet_max == 0 and aliases_max == 0
        """A packet that somebody else gets, too, will do for this client."""
        self._aliases: dict[bytes, int] | None = None
        self._new_alias = b""

    def fits(self, message: Message, ids: bytes) -> bool:
        """Whether a message at QoS 1 or 2 is small enough [MQTT-3.1.2-25]."""
        packet_max = self.packet_max
        if packet_max == 0:
            if len(message.payload) < SURELY_FITS_BYTES:
                return True
            packet_max = _PACKET_MAX
        properties = len(message.properties) + len(ids) + (_EXPIRY_BYTES if message.expires_at != 0.0 else 0)
        return publish_size(len(message.topic), properties, len(message.payload), 2) <= packet_max

    def packet(self, message: Message, retain: bool, now: float, ids: bytes) -> bytes:
        """The whole PUBLISH at QoS 0; b"" if it is too large.  What is really sent is told to `sent`."""
        if len(message.payload) >= SURELY_FITS_BYTES and not self.fits(message, ids):
            return b""
        if self.aliases_max:
            topic, alias = self._named(message, ids, 0)
            if alias:
                return message.packet_5_as(topic, retain, now, alias + ids)
        packet = message.packet_5(retain, now, ids)
        return b"" if self.packet_max != 0 and len(packet) > self.packet_max else packet

    def sent(self) -> None:
        """The packet of the last `packet` is owed to the client: it will know the alias in it."""
        topic = self._new_alias
        if topic:
            aliases = self._aliases
            if aliases is None:
                aliases = self._aliases = {}
            aliases[topic] = len(aliases) + 1
            self._new_alias = b""

    def push(self, writer: PacketWriter, entry: InFlight, dup: bool, now: float) -> None:
        """A PUBLISH at QoS 1 or 2 that this client alone gets so; see `Message.is_shared_5`."""
        message = entry.message
        ids = entry.ids
        first_byte = 0x30 | entry.qos << 1 | (1 if entry.retain else 0) | (8 if dup else 0)
        topic = message.topic
        if self.aliases_max:
            topic, alias = self._named(message, ids, 2)
            ids = alias + ids
            self.sent()
        block = message.block(now, ids)
        head = publish_head(first_byte, topic, 2 + len(block) + len(message.payload))
        packet_id = packet_id_bytes(entry.packet_id) + block
        writer.push_publish(head, packet_id, message.payload, len(message.payload))

    def _named(self, message: Message, ids: bytes, packet_id: int) -> tuple[bytes, bytes]:
        """The topic name to write and the property of its alias; as it is and b"" where it has none."""
        topic = message.topic
        self._new_alias = b""
        aliases = self._aliases
        known = 0 if aliases is None else aliases.get(topic, 0)
        number = known if known or aliases is None else len(aliases) + 1
        if number == 0:
            number = 1
        if number > self.aliases_max:
            return topic, b""
        written = b"" if known else topic
        packet_max = self.packet_max
        if packet_max == 0 and len(message.payload) >= SURELY_FITS_BYTES:
            packet_max = _PACKET_MAX
        if packet_max:
            properties = len(message.properties) + len(ids) + _EXPIRY_BYTES + 3
            if publish_size(len(written), properties, len(message.payload), packet_id) > packet_max:
                return topic, b""
        if not known:
            self._new_alias = topic
        return written, b"\x23" + number.to_bytes(2, "big")
