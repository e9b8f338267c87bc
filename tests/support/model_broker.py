"""A naive MQTT broker for one comparison: obviously right, and slow.  Nothing is cached, indexed or shared.

Knows persistent and clean sessions, QoS 0 to 2 both ways, the in-flight window and the queue, retained messages,
wills and takeover.  Retained messages are published at QoS 0 only, so that a replay is never paced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.mqtt.packets import (
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    Will,
)
from protocol.mqtt.topics import matches


@dataclass
class Note:
    """A message on its way to one client."""

    topic: bytes
    payload: bytes
    qos: int
    packet_id: int = 0
    received: bool = False
    """PUBREC came."""

    def packet(self, dup: bool) -> Packet:
        if self.received:
            return Pubrel(self.packet_id)
        return Publish(self.topic, self.payload, self.qos, False, dup, self.packet_id)


@dataclass
class ModelSession:
    clean: bool
    subscriptions: dict[bytes, int] = field(default_factory=dict)
    inflight: list[Note] = field(default_factory=list)
    queue: list[Note] = field(default_factory=list)
    incoming: dict[int, Publish] = field(default_factory=dict)
    last_id: int = 0
    will: Will | None = None
    connected: bool = True
    out: list[Packet] = field(default_factory=list)
    """What the client must read next, in order."""


class ModelBroker:
    """`window` and `queue_max` as `max_inflight_messages` and `max_queued_messages`."""

    def __init__(self, window: int, queue_max: int) -> None:
        self.window = window
        self.queue_max = queue_max
        self.sessions: dict[bytes, ModelSession] = {}
        self.retained: dict[bytes, bytes] = {}

    def connect(self, client: bytes, clean: bool, will: Will | None) -> None:
        """The caller has no connection of this id open; `lose` came before a takeover."""
        session = self.sessions.get(client)
        present = session is not None and not clean and not session.clean
        if session is None or not present:
            session = self.sessions[client] = ModelSession(clean)
        session.clean, session.will, session.connected = clean, will, True
        session.out = [Connack(present, 0)]
        session.out += [note.packet(dup=True) for note in session.inflight]
        self._fill_window(session)

    def lose(self, client: bytes, send_will: bool) -> None:
        session = self.sessions[client]
        session.connected = False
        session.out.clear()
        will, session.will = session.will, None
        if session.clean:
            del self.sessions[client]
        if will is not None and send_will:
            self.publish(Publish(will.topic, will.payload, will.qos, will.retain))

    def subscribe(self, client: bytes, packet_id: int, topic_filter: bytes, qos: int) -> None:
        session = self.sessions[client]
        session.subscriptions[topic_filter] = qos
        session.out.append(Suback(packet_id, (qos,)))
        for topic, payload in self.retained.items():
            if matches(topic_filter, topic):
                session.out.append(Publish(topic, payload, 0, True))

    def unsubscribe(self, client: bytes, packet_id: int, topic_filter: bytes) -> None:
        session = self.sessions[client]
        session.subscriptions.pop(topic_filter, None)
        session.out.append(Unsuback(packet_id))

    def receive(self, client: bytes, packet: Publish) -> None:
        """A client's PUBLISH."""
        session = self.sessions[client]
        if packet.qos == 2:
            session.incoming[packet.packet_id] = packet
            session.out.append(Pubrec(packet.packet_id))
            return
        if packet.qos == 1:
            session.incoming.pop(packet.packet_id, None)
        self.publish(packet)
        if packet.qos == 1:
            session.out.append(Puback(packet.packet_id))

    def release(self, client: bytes, packet_id: int) -> None:
        """A client's PUBREL."""
        session = self.sessions[client]
        packet = session.incoming.pop(packet_id, None)
        if packet is not None:
            self.publish(packet)
        session.out.append(Pubcomp(packet_id))

    def publish(self, packet: Publish) -> None:
        if packet.retain:
            self.retained.pop(packet.topic, None)
            if packet.payload:
                self.retained[packet.topic] = packet.payload
        for session in self.sessions.values():
            granted = [qos for f, qos in session.subscriptions.items() if matches(f, packet.topic)]
            if granted:
                self._deliver(session, Note(packet.topic, packet.payload, min(packet.qos, max(granted))))

    def acknowledge(self, client: bytes, packet_id: int) -> None:
        """PUBACK, or PUBREC, or PUBCOMP: whatever is next for this id."""
        session = self.sessions[client]
        (note,) = [note for note in session.inflight if note.packet_id == packet_id]
        if note.qos == 2 and not note.received:
            note.received = True
            session.out.append(Pubrel(packet_id))
            return
        session.inflight.remove(note)
        self._fill_window(session)

    def _deliver(self, session: ModelSession, note: Note) -> None:
        if note.qos == 0:
            if session.connected:
                session.out.append(note.packet(dup=False))
            return
        waiting = len(session.queue)
        if session.connected and not waiting and len(session.inflight) < self.window:
            self._send(session, note)
        elif waiting < self.queue_max:  # what is in flight does not count
            session.queue.append(note)

    def _fill_window(self, session: ModelSession) -> None:
        while session.queue and len(session.inflight) < self.window:
            self._send(session, session.queue.pop(0))

    def _send(self, session: ModelSession, note: Note) -> None:
        taken = {other.packet_id for other in session.inflight}
        while True:
            session.last_id = session.last_id % 65_535 + 1
            if session.last_id not in taken:
                break
        note.packet_id = session.last_id
        session.inflight.append(note)
        session.out.append(note.packet(dup=False))
