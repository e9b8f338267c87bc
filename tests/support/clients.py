"""A client that keeps its own half of every exchange, so that a script of random deeds can be played to any engine."""

from __future__ import annotations

from typing import NamedTuple

from support.peer import Peer

from broker.core.engine import Engine
from protocol.mqtt.packets import (
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Unsubscribe,
)


class Deed(NamedTuple):
    """What one client does; `word` says which of the other fields count."""

    word: str
    client: int = 0
    topic: bytes = b""
    qos: int = 0
    retain: bool = False
    times: int = 1


class Client:
    """One client id with clean_session 0, connected or not.

    `heard` is every packet that came; `owed` the acknowledgements it has not sent; `sent_qos_2` the packet ids of
    its own messages that it has not released.
    """

    def __init__(self, client_id: bytes) -> None:
        self.client_id = client_id
        self.heard: list[Packet] = []
        self.owed: list[Packet] = []
        self.sent_qos_2: list[int] = []
        self.packet_id = 0
        self.peer: Peer | None = None

    def absent_twin(self) -> Client:
        """The same client, away, for another engine."""
        twin = Client(self.client_id)
        twin.sent_qos_2 = list(self.sent_qos_2)
        twin.packet_id = self.packet_id
        return twin

    def connect(self, engine: Engine) -> None:
        if self.peer is None:
            self.peer = Peer(engine)
            self.peer.send(Connect(self.client_id, False, 60))

    def drop(self) -> None:
        if self.peer is not None:
            self.listen()
            self.peer.drop()
            self.peer = None
            self.owed.clear()

    def do(self, deed: Deed, number: int) -> None:
        """`number` makes the payload; where it is a multiple of seven, a retained message is cleared."""
        if self.peer is None:
            return
        if deed.word == "subscribe":
            self.peer.send(Subscribe(self._next(), ((deed.topic, deed.qos),)))
        elif deed.word == "unsubscribe":
            self.peer.send(Unsubscribe(self._next(), (deed.topic,)))
        elif deed.word == "publish":
            payload = b"" if deed.retain and number % 7 == 0 else b"%d" % number
            packet_id = self._next() if deed.qos else 0
            if deed.qos == 2:
                self.sent_qos_2.append(packet_id)
            self.peer.send(Publish(deed.topic, payload, deed.qos, deed.retain, packet_id=packet_id))
        elif deed.word == "release" and self.sent_qos_2:
            self.peer.send(Pubrel(self.sent_qos_2.pop(deed.times % len(self.sent_qos_2))))
        elif deed.word == "acknowledge":
            self.listen()
            answers, self.owed = self.owed[: deed.times], self.owed[deed.times :]
            self.peer.send(*answers)

    def listen(self) -> None:
        """Take what came, and owe an answer to what wants one."""
        assert self.peer is not None
        for packet in self.peer.read():
            self.heard.append(packet)
            if isinstance(packet, Publish) and packet.qos:
                self.owed.append(Puback(packet.packet_id) if packet.qos == 1 else Pubrec(packet.packet_id))
            elif isinstance(packet, Pubrel):
                self.owed.append(Pubcomp(packet.packet_id))

    def _next(self) -> int:
        self.packet_id = self.packet_id % 65_535 + 1
        return self.packet_id
