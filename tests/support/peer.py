"""A client without sockets: it writes packets into an `MqttLink` and reads what the outbox would send."""

from __future__ import annotations

from broker.config.model import Limits, Listener, Security
from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.shell import Shell
from broker.links.listening.door import Door
from broker.links.mqtt.link import MqttLink
from protocol.mqtt.codec import decode, encode
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Will,
)

OPEN_DOOR = Door(
    Listener(port=1883, security=Security(allow_anonymous=True)), Limits(), connection_messages=False
)


def packets_in(data: bytes) -> list[Packet]:
    """Every packet in these bytes; what is no whole packet fails."""
    packets: list[Packet] = []
    position = 0
    while position < len(data):
        body, end = frame_at(data, position, 0)
        assert end, f"half a packet: {data[position:]!r}"
        packets.append(decode(data[position], data[body:end]))
        position = end
    return packets


class Peer:
    """One client of an engine.

    `takes` is how many bytes the pretended kernel takes before it blocks; None for all of them.
    """

    def __init__(self, engine: Engine, door: Door = OPEN_DOOR) -> None:
        self.engine = engine
        self.takes: int | None = None
        self.closed = False
        self.blocked = False
        self._received = b""
        shell = _PeerShell(self)
        self.outbox = Outbox(engine.round, door.outbox_bytes_max, self._send, shell)
        self.link = MqttLink(engine, door, self.outbox, "127.0.0.1:50000", shell)

    def write(self, data: bytes) -> None:
        """Bytes from the client, as one receive; everything owed to anybody is flushed after it."""
        self.link.received(data)
        self.engine.flush()

    def send(self, *packets: Packet) -> None:
        self.write(b"".join(encode(packet) for packet in packets))

    def read_bytes(self) -> bytes:
        data, self._received = self._received, b""
        return data

    def read(self) -> list[Packet]:
        """Every packet that came since the last read; what is no whole packet fails."""
        return packets_in(self.read_bytes())

    def drop(self) -> None:
        """The connection ends without DISCONNECT."""
        self.link.close("closed its connection.")
        self.engine.flush()

    def unblock(self) -> None:
        """The pretended kernel takes everything again."""
        self.takes = None
        self.blocked = False
        self.outbox.writable()
        self.engine.flush()

    def _send(self, data: bytes) -> int:
        if self.takes is None:
            self._received += data
            return len(data)
        if self.takes == 0:
            raise BlockingIOError
        taken = min(self.takes, len(data))
        self.takes -= taken
        self._received += data[:taken]
        return taken


class _PeerShell(Shell):
    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._peer = peer

    def blocked(self) -> None:
        self._peer.blocked = True

    def broken(self) -> None:
        self._peer.link.close("closed its connection.")

    def end_soon(self) -> None:
        self._peer.closed = True


def connected(
    engine: Engine,
    client_id: bytes = b"client",
    *,
    clean: bool = True,
    will: Will | None = None,
    keep_alive_s: int = 60,
    door: Door = OPEN_DOOR,
    present: bool = False,
) -> Peer:
    """A peer whose CONNECT was accepted; what comes after its CONNACK is still to be read."""
    peer = Peer(engine, door)
    peer.send(Connect(client_id, clean, keep_alive_s, will=will))
    data = peer.read_bytes()
    assert data[:4] == bytes((0x20, 2, present, 0)), data[:4]
    peer._received = data[4:]
    return peer


def subscribed(engine: Engine, *filters: tuple[bytes, int], client_id: bytes = b"subscriber") -> Peer:
    """A connected peer that has these subscriptions; nothing is left to read but retained messages."""
    peer = connected(engine, client_id)
    peer.send(Subscribe(1, filters))
    data = peer.read_bytes()
    assert data[0] == 0x90, data
    peer._received = data[2 + data[1] :]
    return peer


__all__ = [
    "Connack",
    "Connect",
    "Peer",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Suback",
    "Subscribe",
    "connected",
    "packets_in",
    "subscribed",
]
