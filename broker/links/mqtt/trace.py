"""What `log_type debug` shows of each packet, in Mosquitto's words.  Costs nothing unless it is on."""

from __future__ import annotations

from collections.abc import Iterator

from broker.links.words import printable
from protocol.mqtt.codec import decode
from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import (
    Connack,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)
from protocol.mqtt.v5.codec import decode as decode_5


def received(client: str, first_byte: int, body: bytes, level: int = 4) -> list[str]:
    """The lines for one packet from a client; none for a packet that is not right."""
    try:
        packet = decode_5(first_byte, body) if level == 5 else decode(first_byte, body)
    except ProtocolError:
        return []
    return _received(client, packet)


def sent(client: str, data: bytes, level: int = 4) -> Iterator[str]:
    """A line for each packet in `data`, which holds whole ones."""
    position = 0
    while position < len(data):
        body, end = frame_at(data, position, 0)
        read = decode_5 if level == 5 else decode
        yield _sent(client, read(data[position], data[body:end]))
        position = end


def _received(client: str, packet: Packet) -> list[str]:
    match packet:
        case Publish():
            return [f"Received PUBLISH from {client} {_publish(packet)}"]
        case Puback() | Pubcomp():
            return [f"Received {_name(packet)} from {client} (Mid: {packet.packet_id}, RC:0)"]
        case Pubrec() | Pubrel():
            return [f"Received {_name(packet)} from {client} (Mid: {packet.packet_id})"]
        case Subscribe():
            filters = [f"\t{printable(topic_filter)} (QoS {qos})" for topic_filter, qos in packet.filters]
            return [f"Received SUBSCRIBE from {client}", *filters]
        case Unsubscribe():
            return [f"Received UNSUBSCRIBE from {client}", *(f"\t{printable(f)}" for f in packet.filters)]
        case Pingreq() | Disconnect():
            return [f"Received {_name(packet)} from {client}"]
    return []


def _sent(client: str, packet: Packet) -> str:
    match packet:
        case Publish():
            return f"Sending PUBLISH to {client} {_publish(packet)}"
        case Puback() | Pubrec():
            return f"Sending {_name(packet)} to {client} (m{packet.packet_id}, rc0)"
        case Pubrel() | Pubcomp():
            return f"Sending {_name(packet)} to {client} (m{packet.packet_id})"
        case Connack():
            return f"Sending CONNACK to {client} ({packet.session_present:d}, {packet.return_code})"
    return f"Sending {_name(packet)} to {client}"


def _publish(packet: Publish) -> str:
    flags = f"d{packet.dup:d}, q{packet.qos}, r{packet.retain:d}, m{packet.packet_id}"
    return f"({flags}, '{printable(packet.topic)}', ... ({len(packet.payload)} bytes))"


def _name(packet: Packet) -> str:
    return type(packet).__name__.upper()
