"""MQTT clients that do what the standard asks of them, keep their state through a power cut of the broker, and know
what they were promised.

A client is plain data, so that a copy of it is what it was at the moment of a cut.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from attrs import define, field
from support.peer import Peer

from broker.core.engine import Engine
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
    Unsuback,
    Unsubscribe,
    Will,
)

FOR_EVER: Final = 1 << 62


@define
class Sent:
    """One message of a publisher."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    sent_at: int
    acknowledged_at: int = FOR_EVER
    is_received: bool = False
    """PUBREC came: PUBREL is what is sent again."""


@define
class Interest:
    """A subscription in time: from `asked_at` it may hold, from `granted_at` it does, and so at its end."""

    topic_filter: bytes
    qos: int
    asked_at: int
    granted_at: int = FOR_EVER
    left_at: int = FOR_EVER
    gone_at: int = FOR_EVER


@define
class Client:
    """One durable client, seen from itself.

    Attributes:
        late: it hands a QoS 2 message on at its PUBREL, not at its PUBLISH.
        problems: what the broker did that it must not.
    """

    name: bytes
    late: bool
    sent: list[Sent] = field(factory=list)
    in_flight: dict[int, Sent] = field(factory=dict)
    interests: list[Interest] = field(factory=list)
    asked: dict[int, Interest] = field(factory=dict)
    leaving: dict[int, Interest] = field(factory=dict)
    received: dict[int, bytes] = field(factory=dict)
    """QoS 2 messages by packet id, until their PUBREL."""
    delivered: Counter[bytes] = field(factory=Counter)
    delivered_at_2: Counter[bytes] = field(factory=Counter)
    last_id: int = 0
    is_known: bool = False
    """The broker was told of this client, and showed it by an acknowledgement."""
    wills: int = 0
    problems: list[str] = field(factory=list)

    def next_id(self) -> int:
        while True:
            self.last_id = self.last_id % 65_535 + 1
            taken = self.in_flight.keys() | self.asked.keys() | self.leaving.keys()
            if self.last_id not in taken:
                return self.last_id


class Connection:
    """A client's connection to an engine.  Time is a number that only grows, given by whoever drives it."""

    def __init__(self, client: Client, engine: Engine, now: int) -> None:
        self.client = client
        self.peer = Peer(engine)
        client.wills += 1
        will = Will(b"will/" + client.name, b"will %s %d" % (client.name, client.wills), 2, False)
        self.peer.send(Connect(client.name, False, 0, will=will))
        self.read(now, 1)
        self._send_again()

    def _send_again(self) -> None:
        """[MQTT-4.4.0-1]"""
        client = self.client
        for packet_id, sent in client.in_flight.items():
            if sent.is_received:
                self.peer.send(Pubrel(packet_id))
            else:
                self.peer.send(Publish(sent.topic, sent.payload, sent.qos, sent.retain, True, packet_id))
        for packet_id, interest in client.asked.items():
            self.peer.send(Subscribe(packet_id, ((interest.topic_filter, interest.qos),)))
        for packet_id, interest in client.leaving.items():
            self.peer.send(Unsubscribe(packet_id, (interest.topic_filter,)))

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, now: int) -> None:
        sent = Sent(topic, payload, qos, retain, now)
        self.client.sent.append(sent)
        packet_id = self.client.next_id()
        self.client.in_flight[packet_id] = sent
        self.peer.send(Publish(topic, payload, qos, retain, packet_id=packet_id))

    def subscribe(self, topic_filter: bytes, qos: int, now: int) -> None:
        packet_id = self.client.next_id()
        interest = Interest(topic_filter, qos, now)
        self.client.interests.append(interest)
        self.client.asked[packet_id] = interest
        self.peer.send(Subscribe(packet_id, ((topic_filter, qos),)))

    def unsubscribe(self, interest: Interest, now: int) -> None:
        packet_id = self.client.next_id()
        interest.left_at = now
        self.client.leaving[packet_id] = interest
        self.peer.send(Unsubscribe(packet_id, (interest.topic_filter,)))

    def read(self, now: int, most: int = 1_000_000) -> int:
        """Take what has come, and answer it: how many packets that was."""
        self.peer.engine.flush()
        packets = self.peer.read()
        for packet in packets:
            self._take(packet, now)
        return len(packets)

    def drop(self) -> None:
        if not self.peer.closed:
            self.peer.drop()

    def _take(self, packet: Packet, now: int) -> None:
        client = self.client
        if isinstance(packet, Connack):
            if client.is_known and not packet.session_present:
                client.problems.append(f"the session of {client.name!r} is gone")
        elif isinstance(packet, Suback):
            client.asked.pop(packet.packet_id).granted_at = now
        elif isinstance(packet, Unsuback):
            client.leaving.pop(packet.packet_id).gone_at = now
        elif isinstance(packet, Puback | Pubcomp):
            client.in_flight.pop(packet.packet_id).acknowledged_at = now
        elif isinstance(packet, Pubrec):
            client.in_flight[packet.packet_id].is_received = True
            self.peer.send(Pubrel(packet.packet_id))
        elif isinstance(packet, Publish):
            self._receive(packet)
        elif isinstance(packet, Pubrel):
            payload = client.received.pop(packet.packet_id, None)
            if client.late and payload is not None:
                self._deliver(payload, 2)
            self.peer.send(Pubcomp(packet.packet_id))
        if isinstance(packet, Suback | Pubrec):
            client.is_known = True

    def _receive(self, packet: Publish) -> None:
        client = self.client
        if packet.qos < 2:
            self._deliver(packet.payload, packet.qos)
            if packet.qos == 1:
                self.peer.send(Puback(packet.packet_id))
            return
        held = client.received.get(packet.packet_id)
        if held is None:
            client.received[packet.packet_id] = packet.payload
            if not client.late:
                self._deliver(packet.payload, 2)
        elif held != packet.payload:
            client.problems.append(
                f"{client.name!r} has {held!r} under packet id {packet.packet_id}, and gets {packet.payload!r}"
            )
        self.peer.send(Pubrec(packet.packet_id))

    def _deliver(self, payload: bytes, qos: int) -> None:
        self.client.delivered[payload] += 1
        if qos == 2:
            self.client.delivered_at_2[payload] += 1


def choose_topic(chance: random.Random) -> bytes:
    return b"t/%d" % chance.randrange(4)
