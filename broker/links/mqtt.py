"""One MQTT connection: bytes in, decisions by the engine, bytes owed out.  Knows no socket and never waits.

A shell (the pump, or a task around a stream) calls `received` and `ended`; the link asks its shell to close by
`on_close`.  The hot path is `_read`: runs of QoS 0 packets with the same receivers are handed on as one slice.

Invariant: `session` is set exactly in state CONNECTED, and `session.link is self` until the session is taken over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from broker.core.engine import GATEWAY_PREFIX, Engine
from broker.core.limits import PRE_CONNECT_BYTES_MAX
from broker.core.names import CONTROL_PREFIX
from broker.core.outbox import Outbox
from broker.core.publication import Publication
from broker.core.session import Session
from broker.core.shared import lacks_filter
from broker.core.trie import Targets
from broker.links.door import Door
from broker.links.words import NOTICE, SUBSCRIBE, UNSUBSCRIBE, printable
from protocol.mqtt.codec import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    decode,
    encode_ack,
    encode_remaining_length,
    packet_id_of,
    publish_parts,
)
from protocol.mqtt.connection import (
    AUTHENTICATING,
    AWAITING_CONNECT,
    CLOSED,
    CONNECTED,
    check_connected,
    check_first,
    silence_max_s,
)
from protocol.mqtt.errors import (
    ConnectRefused,
    MalformedPacket,
    PacketTooLarge,
    ProtocolError,
    ProtocolViolation,
)
from protocol.mqtt.framing import bytes_missing, frame_at
from protocol.mqtt.inbound import Inbound
from protocol.mqtt.packets import Connect, Subscribe, Unsubscribe, Will
from protocol.mqtt.topics import check_topic_name

logger = logging.getLogger("broker.links")

PUBLISH_QOS_0: Final = 0x30
DOLLAR: Final = 0x24
PINGRESP: Final = b"\xd0\x00"


class MqttLink:
    """The broker's end of one MQTT connection.

    Args:
        engine: the broker.
        door: the listener it came through: who may enter and what applies to them.
        outbox: the bytes owed to this peer.
        peer: `ADDRESS:PORT`, for log lines.
        on_close: asks the shell to close the connection once what is owed has been offered to the kernel.
    """

    def __init__(
        self, engine: Engine, door: Door, outbox: Outbox, peer: str, on_close: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.door = door
        self.outbox = outbox
        self.peer = peer
        self.on_close = on_close
        self.state = AWAITING_CONNECT
        self.session: Session | None = None
        self.certificate_identity: bytes | None = None
        """From the peer's verified certificate, where the listener takes it as user name."""
        self.verdict: object = None
        """What the door decided, for when its rules are read again."""
        self.last_received = engine.now
        self.silence_max_s = 0.0
        self.closed_why = ""
        self._will_wanted = True
        self._fast = False
        self._size_max = door.max_packet_size
        self._parts: list[bytes] | None = None
        self._missing = 0

    # --- what the shell calls ------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came, any number of packets or pieces of them.  Never raises for what a peer sends."""
        counters = self.engine.counters
        counters.bytes_received += len(data)
        self.last_received = self.engine.now
        if self.state == CLOSED:
            return
        if self._parts is not None:
            self._missing -= len(data)
            self._parts.append(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts = None
        try:
            position = self._read(data) if self.state == CONNECTED else self._read_connect(data)
        except ProtocolError as error:
            self._fail(error)
            return
        if position < len(data) and self.state != CLOSED:
            self._keep(data, position)

    def ended(self, why: str) -> None:
        """The shell lost the connection: `why` completes a log line after the client's name."""
        self.close(why)

    def silent_too_long(self) -> bool:
        """Whether the keep-alive time (or the time to send CONNECT) has passed; asked now and then."""
        limit = self.silence_max_s
        return limit > 0 and self.engine.now - self.last_received > limit

    def close(self, why: str) -> None:
        """End this connection; the session's end and the will follow at once, the socket's close after a flush."""
        if self.state == CLOSED:
            return
        was_connected = self.state == CONNECTED
        self.state = CLOSED
        self.closed_why = why
        self._parts = None
        session = self.session
        if was_connected and session is not None:
            self.session = None
            if self.door.connection_messages:
                logger.log(NOTICE, "Client %s [%s] %s", printable(session.client_id), self.peer, why)
            if session.link is self:
                self.engine.detach(session, self._will_wanted)
        self.on_close()

    def reconsider(self) -> None:
        """The access rules were read again: ask them anew, for this client."""
        session = self.session
        if session is None:
            return
        session.access = self.door.access_for(session.client_id, session.user_name)
        session.forget_rights()
        self._choose_path(session)

    # --- connecting ----------------------------------------------------------------------------------------

    def _read_connect(self, data: bytes) -> int:
        """Read the CONNECT, and what came with it; the position up to which bytes were used."""
        if self.state == AUTHENTICATING:
            if len(data) > PRE_CONNECT_BYTES_MAX:
                raise ProtocolViolation("too many packets before CONNACK")
            return 0
        check_first(data[0])
        body, end = frame_at(data, 0, self._size_max)
        if end == 0:
            if len(data) > PRE_CONNECT_BYTES_MAX and bytes_missing(data, 0) > 0:
                raise MalformedPacket("CONNECT is longer than any can be", "MQTT-3.1.0-1")
            return 0
        self.engine.counters.packets_received += 1
        packet = decode(data[0], data[body:end])
        assert isinstance(packet, Connect)
        if packet.will is not None:
            self._check_will(packet.will)
        self.state = AUTHENTICATING
        self.door.admit(self, packet)
        if self.state == CONNECTED and end < len(data):
            return end + self._read(data[end:])
        return end

    def _check_will(self, will: Will) -> None:
        """As mosquitto: a will that could not be published closes, without CONNACK."""
        if will.topic.startswith(CONTROL_PREFIX):
            raise ProtocolViolation("a will for a topic of $CONTROL")
        if will.qos > self.door.max_qos:
            raise ProtocolViolation(f"a will with QoS {will.qos}; this listener takes {self.door.max_qos}")
        if will.retain and not self.engine.policy.retain_available:
            raise ProtocolViolation("a retained will, and retain_available is false")

    def accept(self, packet: Connect, client_id: bytes, user_name: bytes | None) -> None:
        """The door let this client in: take over, open the session, answer, resume; one synchronous step."""
        if self.state != AUTHENTICATING:
            return  # it left while it was being authenticated
        engine = self.engine
        door = self.door
        self._take_over(client_id, packet.clean_session)
        session, present = engine.open_session(client_id, packet.clean_session)
        access = door.access_for(client_id, user_name)
        session.identify(user_name, access, door.mount_point, packet.bridge, door.max_qos, door.port)
        will = packet.will
        if will is not None:
            session.will = Publication(
                door.mount_point + will.topic,
                will.payload,
                will.qos,
                will.retain,
                client_id,
                user_name,
                door.port,
            )
        self.session = session
        self.state = CONNECTED
        self.silence_max_s = silence_max_s(packet.keep_alive_s)
        self._choose_path(session)
        engine.counters.connections_accepted += 1
        self.outbox.push(
            b"\x20\x02\x01\x00" if present and packet.protocol_level >= 4 else b"\x20\x02\x00\x00"
        )
        engine.counters.other_packets_sent += 1
        if door.connection_messages:
            logger.log(
                NOTICE,
                "New client connected from %s as %s (p%d, c%d, k%d%s).",
                self.peer,
                printable(client_id),
                packet.protocol_level,
                packet.clean_session,
                packet.keep_alive_s,
                "" if user_name is None else f", u'{printable(user_name)}'",
            )
        engine.attach(session, self, self.outbox)
        self.outbox.on_drained = self._drained
        if self._parts is not None:
            self._resume_reading()

    def _choose_path(self, session: Session) -> None:
        """Whether QoS 0 packets may be handed on as they came, without a look at each."""
        self._fast = (
            session.access is None
            and not session.mount_point
            and not session.bridge
            and not self.engine.policy.message_size_limit
        )

    def refuse(self, code: int, why: str) -> None:
        """The door keeps this client out: CONNACK with the return code, then close [MQTT-3.2.2-5]."""
        if self.state != AUTHENTICATING:
            return
        self.engine.counters.connections_refused += 1
        self.engine.counters.other_packets_sent += 1
        self.outbox.push(bytes((0x20, 2, 0, code)))
        logger.log(NOTICE, "Client connection from %s refused: %s.", self.peer, why)
        self.close(why)

    def _take_over(self, client_id: bytes, clean: bool) -> None:
        """End an older connection with this client id [MQTT-3.1.4-2]."""
        session = self.engine.sessions.get(client_id)
        if session is None:
            return
        older = session.link
        if isinstance(older, MqttLink):
            if self.door.connection_messages:
                logger.log(
                    NOTICE, "Client %s already connected, closing old connection.", printable(client_id)
                )
            # As mosquitto: no will when a persistent session just moves to another connection.
            older._will_wanted = clean or session.clean
            older.close("disconnected: taken over by another connection.")

    def _resume_reading(self) -> None:
        """Read what came while the client was being authenticated."""
        parts = self._parts
        assert parts is not None
        self._parts = None
        self._missing = 0
        self.engine.counters.bytes_received -= sum([len(part) for part in parts])
        self.received(b"".join(parts))

    # --- reading -------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> int:
        """Handle every whole packet in `data`; the position of the first that is not whole."""
        position = 0
        length = len(data)
        trie = self.engine.trie
        fast = self._fast
        size_max = self._size_max
        run: Targets | None = None
        run_start = 0
        run_count = 0
        run_payload = 0
        run_topic = b""
        packets = 0
        publishes = 0
        payload_bytes = 0
        try:
            while position < length:
                body, end = frame_at(data, position, size_max)
                if end == 0:
                    break
                packets += 1
                if fast and data[position] == PUBLISH_QOS_0 and body + 2 < end and data[body + 2] != DOLLAR:
                    payload_start = body + 2 + data[body] * 256 + data[body + 1]
                    if payload_start > end:
                        raise MalformedPacket("a PUBLISH that ends within its topic name", "MQTT-3.3.2-1")
                    topic = data[body + 2 : payload_start]
                    publishes += 1
                    payload_bytes += end - payload_start
                    if topic == run_topic and run is not None:
                        run_count += 1
                        run_payload += end - payload_start
                        position = end
                        continue
                    targets = trie.cached(topic)
                    if targets is None:
                        check_topic_name(topic)
                        targets = trie.match(topic)
                    if targets is not run:
                        if run is not None:
                            self._forward(run, data, run_start, position, run_count, run_payload)
                        run = targets
                        run_start = position
                        run_count = 0
                        run_payload = 0
                    run_topic = topic
                    run_count += 1
                    run_payload += end - payload_start
                    position = end
                    continue
                if run is not None:
                    self._forward(run, data, run_start, position, run_count, run_payload)
                    run = None
                    run_topic = b""
                self._handle(data[position], data, body, end)
                position = end
                if self.state != CONNECTED:
                    break
        finally:
            counters = self.engine.counters
            counters.packets_received += packets
            counters.publishes_received += publishes
            counters.publish_bytes_received += payload_bytes
            if run is not None:
                self._forward(run, data, run_start, position, run_count, run_payload)
        return position

    def _forward(
        self, targets: Targets, data: bytes, start: int, end: int, count: int, payload_bytes: int
    ) -> None:
        """Hand on `data[start:end]`, whole QoS 0 packets that all have these receivers."""
        if targets.not_plain or targets.parts is not None:
            self._deliver_each(data, start, end)
            return
        sole = targets.sole
        if sole is not None:
            sole.forward(data[start:end], count, payload_bytes)
            return
        many = targets.many
        if many is None:
            return
        packets = data[start:end]
        for receiver in many:
            receiver.forward(packets, count, payload_bytes)

    def _deliver_each(self, data: bytes, position: int, end_of_run: int) -> None:
        """As `_forward`, one by one, because some receiver can't take raw packets."""
        session = self.session
        assert session is not None
        while position < end_of_run:
            body, end = frame_at(data, position, 0)
            topic, _, payload_start = publish_parts(PUBLISH_QOS_0, data, body, end)
            self.engine.publish(
                Publication(
                    topic,
                    data[payload_start:end],
                    0,
                    False,
                    session.client_id,
                    session.user_name,
                    self.door.port,
                )
            )
            position = end

    def _keep(self, data: bytes, position: int) -> None:
        """Keep an incomplete packet; large ones are joined only when all of their bytes are here."""
        self._parts = [data[position:] if position else data]
        self._missing = 1 if self.state != CONNECTED else bytes_missing(data, position)

    def _handle(self, first_byte: int, data: bytes, body: int, end: int) -> None:
        """One packet that is not on the fast path."""
        packet_type = first_byte >> 4
        if packet_type == 3:
            self._publish(first_byte, data, body, end)
        elif packet_type == 4:
            self._acknowledged(first_byte, data, body, end)
        elif packet_type in (5, 6, 7):
            self._exactly_once(first_byte, data, body, end)
        else:
            self._rare(first_byte, data[body:end])

    def _publish(self, first_byte: int, data: bytes, body: int, end: int) -> None:
        session = self.session
        assert session is not None
        engine = self.engine
        topic, packet_id, payload_start = publish_parts(first_byte, data, body, end)
        if engine.trie.cached(topic) is None or session.mount_point:
            check_topic_name(topic)
        qos = first_byte >> 1 & 3
        if qos > self.door.max_qos:
            raise ProtocolViolation(f"a PUBLISH with QoS {qos}; this listener takes {self.door.max_qos}")
        counters = engine.counters
        counters.publishes_received += 1
        counters.publish_bytes_received += end - payload_start
        publication = Publication(
            session.mount_point + topic if session.mount_point else topic,
            data[payload_start:end],
            qos,
            first_byte & 1 == 1,
            session.client_id,
            session.user_name,
            self.door.port,
        )
        if publication.retain and not engine.policy.retain_available:
            raise ProtocolViolation("a retained PUBLISH, and retain_available is false")
        if qos == 0:
            engine.publish_from(session, publication)
        elif qos == 1:
            engine.publish_from(session, publication)
            self._acknowledge(PUBACK, packet_id)  # [MQTT-4.3.2-2]
        else:
            inbound = session.inbound
            if inbound is None:
                inbound = session.inbound = Inbound(engine.store)
            inbound.accept(packet_id, publication, first_byte & 8 == 8)
            engine.note_change(session)
            self._acknowledge(PUBREC, packet_id)  # [MQTT-4.3.3-2]

    def _acknowledge(self, kind_first_byte: int, packet_id: int) -> None:
        self.engine.counters.other_packets_sent += 1
        self.outbox.push(encode_ack(kind_first_byte, packet_id))

    def _acknowledged(self, first_byte: int, data: bytes, body: int, end: int) -> None:
        """PUBACK."""
        session = self.session
        assert session is not None
        if first_byte & 0x0F:
            raise MalformedPacket("PUBACK with flags", "MQTT-2.2.2-2")
        session.outbound.puback(packet_id_of(data, body, end))
        if session.replays is not None:
            self.engine.continue_replay(session)

    def _exactly_once(self, first_byte: int, data: bytes, body: int, end: int) -> None:
        """PUBREC, PUBREL, PUBCOMP."""
        session = self.session
        assert session is not None
        if first_byte & 0x0F != (2 if first_byte >> 4 == 6 else 0):
            raise MalformedPacket("an acknowledgement with wrong flags", "MQTT-2.2.2-2")
        packet_id = packet_id_of(data, body, end)
        packet_type = first_byte >> 4
        if packet_type == 5:
            session.outbound.pubrec(packet_id)
            self.engine.counters.other_packets_sent += 1
        elif packet_type == 7:
            session.outbound.pubcomp(packet_id)
            if session.replays is not None:
                self.engine.continue_replay(session)
        else:
            self._release(session, packet_id)

    def _release(self, session: Session, packet_id: int) -> None:
        """PUBREL: as mosquitto, the message is handed on now; an unknown id is answered all the same."""
        inbound = session.inbound
        message = None if inbound is None else inbound.release(packet_id)
        if message is not None:
            assert isinstance(message, Publication)
            self.engine.note_change(session)
            self.engine.publish_from(session, message)
        self._acknowledge(PUBCOMP, packet_id)

    def _rare(self, first_byte: int, body: bytes) -> None:
        check_connected(first_byte)
        packet = decode(first_byte, body)
        if isinstance(packet, Subscribe):
            self._subscribe(packet)
        elif isinstance(packet, Unsubscribe):
            self._unsubscribe(packet)
        elif first_byte >> 4 == 12:
            self.engine.counters.other_packets_sent += 1
            self.outbox.push(PINGRESP)  # [MQTT-3.12.4-1]
        else:
            self._will_wanted = False  # [MQTT-3.14.4-3]
            self.close("disconnected.")

    def _subscribe(self, packet: Subscribe) -> None:
        session = self.session
        assert session is not None
        engine = self.engine
        granted: list[tuple[bytes, int]] = []
        codes = bytearray()
        for topic_filter, qos in packet.filters:
            if lacks_filter(topic_filter):
                raise ProtocolViolation("a shared subscription without a filter")
            mounted = mount(session.mount_point, topic_filter)
            code = engine.subscribe_session(session, mounted, qos)
            codes.append(code)
            if code <= 2:
                granted.append((mounted, code))
            logger.log(SUBSCRIBE, "%s %d %s", printable(session.client_id), code, printable(topic_filter))
        engine.counters.other_packets_sent += 1
        self.outbox.push(suback(packet.packet_id, bytes(codes)))  # [MQTT-3.8.4-4] [MQTT-3.8.4-5]
        for mounted, code in granted:
            engine.replay(session, mounted, code)

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        session = self.session
        assert session is not None
        for topic_filter in packet.filters:
            self.engine.unsubscribe(session, mount(session.mount_point, topic_filter))
            logger.log(UNSUBSCRIBE, "%s %s", printable(session.client_id), printable(topic_filter))
        self._acknowledge(0xB0, packet.packet_id)  # [MQTT-3.10.4-5]

    def _drained(self) -> None:
        """All that was owed has left: go on with what waited for that."""
        session = self.session
        if session is not None and session.replays is not None:
            self.engine.continue_replay(session)

    # --- trouble -------------------------------------------------------------------------------------------

    def _fail(self, error: ProtocolError) -> None:
        """What the peer sent ends its connection, and nothing else."""
        self.engine.counters.protocol_errors += 1
        if isinstance(error, ConnectRefused):
            self.state = AUTHENTICATING
            self.refuse(error.code, error.reason)
            return
        logger.debug("! %s %s", self.peer, error)
        if self.session is None:
            logger.log(NOTICE, "Connection from %s closed: %s.", self.peer, error)
        if isinstance(error, PacketTooLarge):
            self.close("disconnected due to oversize packet.")
        elif isinstance(error, MalformedPacket):
            self.close("disconnected due to malformed packet.")
        else:
            self.close("disconnected due to protocol error.")


def mount(mount_point: bytes, topic_filter: bytes) -> bytes:
    """The filter inside a listener's mount point; a shared subscription keeps its `$share/GROUP` in front."""
    if not mount_point or topic_filter.startswith(GATEWAY_PREFIX):
        return topic_filter
    if topic_filter.startswith(b"$share/"):
        parts = topic_filter.split(b"/", 2)
        if len(parts) == 3:
            return b"$share/" + parts[1] + b"/" + mount_point + parts[2]
    return mount_point + topic_filter


def suback(packet_id: int, codes: bytes) -> bytes:
    """SUBACK with one code per filter; its remaining length is one or more bytes long."""
    return b"\x90" + encode_remaining_length(2 + len(codes)) + packet_id.to_bytes(2, "big") + codes
