"""What the packets of a connected client of MQTT 5.0 do; the mirror of `packets.py`.  `runs5.py` calls it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from broker.core.publication import Publication
from broker.core.session import Session
from broker.links.mqtt.answers import answer
from broker.links.mqtt.packets import PUBLISH_STEPS, offer_once, release, trace_received
from broker.links.mqtt.requests import SubscribeRequest, UnsubscribeRequest
from protocol.mqtt.codec import (
    DUP,
    PINGRESP_PACKET,
    PUBACK,
    PUBACK_TYPE,
    PUBCOMP_TYPE,
    PUBLISH_TYPE,
    PUBREC,
    PUBREC_TYPE,
    PUBREL_TYPE,
)
from protocol.mqtt.connection import AWAITING_CONNECT, check_connected
from protocol.mqtt.errors import MalformedPacket, ProtocolViolation
from protocol.mqtt.packets import Auth, Disconnect, Subscribe, Unsubscribe
from protocol.mqtt.topics import check_topic_name
from protocol.mqtt.v5.codec import (
    AUTH,
    ack_parts,
    decode,
    encode_ack,
    encode_disconnect,
    encode_refusal,
    publish_parts,
)
from protocol.mqtt.v5.properties import publish_properties
from protocol.mqtt.v5.property_table import NEVER, SESSION_EXPIRY
from protocol.mqtt.v5.reasons import FAILURE, ReasonCode

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink


class Terms:
    """What one connection of a client of 5.0 agreed to.

    Args:
        aliases_max: highest topic alias that the client may use; 0 is none.
        receive_maximum: QoS 2 messages that may wait for their PUBREL; 0 is no limit.
        expiry_s: session expiry interval of CONNECT.
    """

    def __init__(self, aliases_max: int, receive_maximum: int, expiry_s: float) -> None:
        self.aliases_max = aliases_max
        self.receive_maximum = receive_maximum
        self.expiry_s = expiry_s
        self.aliases: dict[int, bytes] = {}
        """Those that the client has set on this connection [MQTT-3.3.2-7]."""
        self.forwarded = b""
        """The properties of the last PUBLISH that went on as it came: they are right."""


def say_why(link: MqttLink, session: Session) -> None:
    """The connection of a client of 5.0 is being closed: DISCONNECT with the reason, if there is one to tell."""
    if link.terms is not None and link.code:
        packet = encode_disconnect(link.code, link.server_reference)  # [MQTT-3.14.0-1] [MQTT-4.13.1-1]
        sending = session.outbound.sending
        if sending is not None and 0 < sending.packet_max < len(packet):
            packet = encode_disconnect(link.code)  # [MQTT-3.1.2-24]
        link.outbox.push(packet)
        link.engine.counters.other_packets_sent += 1


def refuse_malformed(link: MqttLink) -> None:
    """A CONNECT of 5.0 that is none: CONNACK with the reason before the close."""
    if link.level == 5 and link.state == AWAITING_CONNECT:
        link.outbox.push(encode_refusal(link.code, link.door.max_qos))
        link.engine.counters.other_packets_sent += 1


def handle(link: MqttLink, session: Session, first_byte: int, data: bytes, body: int, end: int) -> None:
    """Act on one packet of MQTT 5.0, whose body is `data[body:end]`."""
    if link.tracing:
        trace_received(session, first_byte, data[body:end])
    saving = link.engine.saving
    if saving is not None:
        saving.mark()
    packet_type = first_byte >> 4
    link.steps -= PUBLISH_STEPS if packet_type == PUBLISH_TYPE else 1
    if packet_type == PUBLISH_TYPE:
        _publish(link, session, first_byte, data, body, end)
    elif packet_type in (PUBACK_TYPE, PUBREC_TYPE, PUBREL_TYPE, PUBCOMP_TYPE):
        if first_byte & 0x0F != (2 if packet_type == PUBREL_TYPE else 0):
            tag = "MQTT-3.6.1-1" if packet_type == PUBREL_TYPE else "MQTT-2.1.3-1"
            raise MalformedPacket("an acknowledgement with wrong flags", tag)
        packet_id, code = ack_parts(first_byte, data, body, end)
        _acknowledged(link, session, packet_type, packet_id, code)
    else:
        _rare(link, session, first_byte, data[body:end])


def _publish(link: MqttLink, session: Session, first_byte: int, data: bytes, body: int, end: int) -> None:
    engine = link.engine
    topic, packet_id, start, payload_start = publish_parts(first_byte, data, body, end)
    properties = b""
    expiry_s = -1
    alias = 0
    if start != payload_start:
        properties, expiry_s, alias = publish_properties(data, start, payload_start)
    if alias or not topic:
        topic = _aliased(link, topic, alias)
    if engine.trie.cached(topic) is None or session.mount_point:
        check_topic_name(session.mount_point + topic)  # what is kept has to fit
    qos = first_byte >> 1 & 3
    if qos > session.max_qos:
        raise _qos_not_supported(qos, session.max_qos)
    retain = first_byte & 1 == 1
    if retain and not engine.policy.retain_available:
        raise _retain_not_supported()
    counters = engine.counters
    counters.publishes_received += 1
    counters.publish_bytes_received += end - payload_start
    publication = Publication(
        session.mount_point + topic if session.mount_point else topic,
        data[payload_start:end],
        qos,
        retain,
        session.client_id,
        session.user_name,
        session.listener_port,
    )
    publication.properties = properties
    if expiry_s >= 0:
        publication.expires_at = engine.now + expiry_s
    if qos == 0:
        engine.publish_from(session, publication)
    elif qos == 1:
        if session.inbound is not None and session.inbound.forget(packet_id):
            engine.note_change(session)
        publication.packet_id = packet_id
        publication.dup = first_byte & DUP != 0
        code = engine.publish_from(session, publication)
        answer(link, PUBACK, packet_id, code, publication)  # [MQTT-4.3.2-4]
    else:
        _exactly_once(link, session, publication, packet_id, first_byte & DUP != 0)


def _qos_not_supported(qos: int, qos_max: int) -> ProtocolViolation:
    return ProtocolViolation(
        f"a PUBLISH with QoS {qos}; this listener takes {qos_max}",
        "MQTT-3.2.2-11",
        ReasonCode.QOS_NOT_SUPPORTED,
    )


def _retain_not_supported() -> ProtocolViolation:
    return ProtocolViolation(
        "a retained PUBLISH, and retain_available is false",
        "MQTT-3.2.2-14",
        ReasonCode.RETAIN_NOT_SUPPORTED,
    )


def _aliased(link: MqttLink, topic: bytes, alias: int) -> bytes:
    """The topic that a topic alias stands for, or that it is to stand for from now on."""
    terms = link.terms
    assert terms is not None
    if alias == 0:
        raise ProtocolViolation("a PUBLISH without topic and alias", "MQTT-3.3.2-8")
    if alias > terms.aliases_max:
        raise ProtocolViolation(
            f"topic alias {alias}; {terms.aliases_max} is the highest",
            "MQTT-3.3.2-9",
            ReasonCode.TOPIC_ALIAS_INVALID,
        )
    if topic:
        check_topic_name(topic)
        terms.aliases[alias] = topic
        return topic
    known = terms.aliases.get(alias)
    if known is None:
        raise ProtocolViolation(f"topic alias {alias} before it was set", "MQTT-3.3.2-12")
    return known


def _exactly_once(
    link: MqttLink, session: Session, publication: Publication, packet_id: int, dup: bool
) -> None:
    engine = link.engine
    refusal = engine.refusal(session, publication)
    if refusal >= FAILURE:
        if session.inbound is not None and session.inbound.forget(packet_id):
            engine.note_change(session)
        _answer(link, PUBREC, packet_id, refusal)  # [MQTT-4.3.3-9]
        return
    publication.packet_id = packet_id
    publication.dup = dup
    inbound = session.expect()
    terms = link.terms
    assert terms is not None
    if 0 < terms.receive_maximum <= inbound.count() and not inbound.has(packet_id):
        raise ProtocolViolation(
            "more QoS 2 messages than the receive maximum",
            "MQTT-3.3.4-7",
            ReasonCode.RECEIVE_MAXIMUM_EXCEEDED,
        )
    code = 0
    if inbound.accept(packet_id, publication, dup):
        engine.note_change(session)
        publication = offer_once(engine, session, packet_id, publication)
    else:
        engine.counters.dropped_inbound_full += 1
        code = ReasonCode.QUOTA_EXCEEDED
    answer(link, PUBREC, packet_id, code, publication)  # [MQTT-4.3.3-8]


def _answer(link: MqttLink, first_byte: int, packet_id: int, code: int) -> None:
    link.engine.counters.other_packets_sent += 1
    link.outbox.answer(encode_ack(first_byte, packet_id, code))


def _acknowledged(link: MqttLink, session: Session, packet_type: int, packet_id: int, code: int) -> None:
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""
    outbound = session.outbound
    if packet_type == PUBREL_TYPE:
        release(link, session, packet_id)
        return
    if packet_type == PUBACK_TYPE:
        outbound.puback(packet_id)
    elif packet_type == PUBREC_TYPE:
        outbound.pubrec(packet_id, code >= FAILURE)
        link.engine.counters.other_packets_sent += 0 if code >= FAILURE else 1
    else:
        outbound.pubcomp(packet_id)
    if session.replays is not None:
        link.engine.replaying.acknowledged(session)


def _rare(link: MqttLink, session: Session, first_byte: int, body: bytes) -> None:
    if first_byte & 0xF0 != AUTH:
        check_connected(first_byte)
    packet = decode(first_byte, body)
    if isinstance(packet, Subscribe):
        link.act_on(SubscribeRequest(session, packet))
    elif isinstance(packet, Unsubscribe):
        link.act_on(UnsubscribeRequest(session, packet))
    elif isinstance(packet, Auth):
        raise ProtocolViolation("AUTH without an authentication method", "MQTT-4.12.0-6")
    elif isinstance(packet, Disconnect):
        _disconnect(link, session, packet)
    else:
        link.engine.counters.other_packets_sent += 1
        link.outbox.answer(PINGRESP_PACKET)  # [MQTT-3.12.4-1]


def _disconnect(link: MqttLink, session: Session, packet: Disconnect) -> None:
    wanted = packet.properties.numbers.get(SESSION_EXPIRY)
    terms = link.terms
    assert terms is not None
    if wanted is not None:
        if wanted and not terms.expiry_s:
            raise ProtocolViolation("a session that was to end with its connection", "MQTT-3.1.2-23")
        link.engine.endings.keep_for(session, expiry_of(wanted))
    if packet.reason_code == ReasonCode.NORMAL_DISCONNECTION:
        link.will_wanted = False  # [MQTT-3.14.4-3]; with any other code the will goes out [MQTT-3.1.2-8]
    link.code = 0
    link.close("disconnected.")


def expiry_of(interval: int) -> float:
    """Seconds of a session expiry interval."""
    return math.inf if interval == NEVER else float(interval)
