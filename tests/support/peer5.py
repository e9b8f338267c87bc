"""A `Peer` that speaks MQTT 5.0."""

from __future__ import annotations

from support.peer import OPEN_DOOR, Peer

from broker.core.engine import Engine
from broker.links.listening.door import Door
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Will
from protocol.mqtt.v5.codec import decode, encode
from protocol.mqtt.v5.properties import NO_PROPERTIES, Properties


class Peer5(Peer):
    def send(self, *packets: Packet) -> None:
        self.write(b"".join(encode(packet) for packet in packets))

    def read(self) -> list[Packet]:
        data = self.read_bytes()
        packets: list[Packet] = []
        position = 0
        while position < len(data):
            body, end = frame_at(data, position, 0)
            assert end, f"half a packet: {data[position:]!r}"
            packets.append(decode(data[position], data[body:end]))
            position = end
        return packets


def connected5(
    engine: Engine,
    client_id: bytes = b"client",
    *,
    clean: bool = True,
    will: Will | None = None,
    door: Door = OPEN_DOOR,
    properties: Properties = NO_PROPERTIES,
    present: bool = False,
) -> Peer5:
    """A peer whose CONNECT was accepted; what comes after its CONNACK is still to be read."""
    peer = Peer5(engine, door)
    peer.send(Connect(client_id, clean, 60, 5, will, properties=properties))
    data = peer.read_bytes()
    assert data[0] == 0x20, data
    end = 2 + data[1]
    connack = decode(0x20, data[2:end])
    assert isinstance(connack, Connack)
    assert (connack.session_present, connack.return_code) == (present, 0)
    peer._received = data[end:]
    return peer
