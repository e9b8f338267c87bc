"""What each packet of a connected client does, apart from the QoS 0 PUBLISH that the link hands on itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.session import Session
from broker.links.mqtt import trace
from broker.links.mqtt.answers import answer, answer_release
from broker.links.mqtt.requests import SubscribeRequest, UnsubscribeRequest
from broker.links.words import printable
from protocol.mqtt.codec import (
    DUP,
    PINGREQ_TYPE,
    PINGRESP_PACKET,
    PUBACK,
    PUBACK_TYPE,
    PUBCOMP_TYPE,
    PUBLISH_TYPE,
    PUBREC,
    PUBREC_TYPE,
    PUBREL_TYPE,
    SUBSCRIBE,
    decode,
    packet_id_of,
    publish_parts,
)
from protocol.mqtt.connection import check_connected, without_flags
from protocol.mqtt.errors import MalformedPacket, ProtocolViolation
from protocol.mqtt.packets import Unsubscribe
from protocol.mqtt.subscribing import read_subscribe
from protocol.mqtt.topics import check_topic_name

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")

PUBLISH_STEPS: Final = 2
"""What a PUBLISH that is looked at counts for; any other small packet is one step."""


def handle(link: MqttLink, session: Session, first_byte: int, data: bytes, body: int, end: int) -> None:
    """One packet that is not on the fast path."""
    if link.is_3_1 and first_byte >> 4 != PUBLISH_TYPE:
        first_byte = without_flags(first_byte)
    if link.tracing:
        trace_received(session, first_byte, data[body:end])
    saving = link.engine.saving
    if saving is not None:
        saving.mark()
    packet_type = first_byte >> 4
    link.steps -= PUBLISH_STEPS if packet_type == PUBLISH_TYPE else 1
    if packet_type == PUBLISH_TYPE:
        _publish(link, session, first_byte, data, body, end)
    elif packet_type == PUBACK_TYPE:
        if first_byte & 0x0F:
            raise MalformedPacket("PUBACK with flags", "MQTT-2.2.2-2")
        acknowledged(link.engine, session, packet_id_of(data, body, end))
    elif packet_type in (PUBREC_TYPE, PUBREL_TYPE, PUBCOMP_TYPE):
        _exactly_once(link, session, first_byte, data, body, end)
    else:
        _rare(link, session, first_byte, data[body:end])


def trace_received(session: Session, first_byte: int, body: bytes) -> None:
    """Log a packet as Mosquitto's log does."""
    for line in trace.received(printable(session.client_id), first_byte, body, session.level):
        logger.debug("%s", line)


def _publish(link: MqttLink, session: Session, first_byte: int, data: bytes, body: int, end: int) -> None:
    engine = link.engine
    topic, packet_id, payload_start = publish_parts(first_byte, data, body, end)
    if engine.trie.cached(topic) is None or session.mount_point:
        check_topic_name(session.mount_point + topic if topic else topic)  # what is kept has to fit
    qos = first_byte >> 1 & 3
    if qos > session.max_qos:
        raise ProtocolViolation(f"a PUBLISH with QoS {qos}; this listener takes {session.max_qos}")
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
        session.listener_port,
    )
    if publication.retain and not engine.policy.retain_available:
        raise ProtocolViolation("a retained PUBLISH, and retain_available is false")
    if qos == 0:
        engine.publish_from(session, publication)
    elif qos == 1:
        if session.inbound is not None and session.inbound.forget(packet_id):
            engine.note_change(session)
        publication.packet_id = packet_id
        publication.dup = first_byte & DUP != 0
        engine.publish_from(session, publication)
        answer(link, PUBACK, packet_id, 0, publication)  # [MQTT-4.3.2-2]
    else:
        publication.packet_id = packet_id
        publication.dup = first_byte & DUP != 0
        if not engine.may_publish(session, publication):
            if session.inbound is not None and session.inbound.forget(packet_id):
                engine.note_change(session)
        elif session.expect().accept(packet_id, publication, first_byte & DUP != 0):
            engine.note_change(session)
            publication = offer_once(engine, session, packet_id, publication)
        else:
            counters.dropped_inbound_full += 1
        answer(link, PUBREC, packet_id, 0, publication)  # [MQTT-4.3.3-2]


def offer_once(engine: Engine, session: Session, packet_id: int, publication: Publication) -> Publication:
    """Let tables and the log have a QoS 2 message before its PUBREC, once; the message that waits for its PUBREL.

    Whoever had a PUBREC forgets the message, so what is promised of it has to be kept before that.
    """
    ingest = engine.ingest
    log = engine.log
    if (ingest is None and log is None) or session.inbound is None:
        return publication
    waiting = session.inbound.get(packet_id)
    if isinstance(waiting, Publication):
        publication.is_ingested = waiting.is_ingested
        if waiting is not publication and not waiting.is_ingested:
            waiting.packet_id = packet_id  # it was read from the file
            waiting.dup = True
        if not waiting.is_ingested:
            waiting.is_ingested = True
            waiting.promise = None  # of an earlier connection, if tables had no room then
            if ingest is not None:
                ingest(waiting)  # may say that it was not taken
            if log is not None and waiting.is_ingested:
                log(waiting)
        return waiting
    return publication


def take_pubacks(link: MqttLink, session: Session, data: bytes, body: int) -> int:
    """PUBACKs that follow each other, as long as the link has steps; where what comes behind them begins.

    Args:
        body: where the two bytes of the first one's body are; it is counted already.
    """
    engine = link.engine
    counters = engine.counters
    size = len(data)
    while True:
        packet_id = data[body] * 256 + data[body + 1]
        if packet_id == 0:
            tag = "MQTT-2.2.1-5" if session.level == 5 else "MQTT-2.3.1-6"
            raise MalformedPacket("an acknowledgement of packet id 0", tag)
        link.steps -= 1
        acknowledged(engine, session, packet_id)
        position = body + 2
        if position + 4 > size or data[position] != PUBACK or data[position + 1] != 2:
            return position
        if link.steps <= 0 or link.session is not session:
            return position
        counters.packets_received += 1
        body = position + 2


def acknowledged(engine: Engine, session: Session, packet_id: int) -> None:
    """PUBACK."""
    session.outbound.puback(packet_id)
    if session.replays is not None:
        engine.replaying.acknowledged(session)


def _exactly_once(
    link: MqttLink, session: Session, first_byte: int, data: bytes, body: int, end: int
) -> None:
    """PUBREC, PUBREL, PUBCOMP."""
    if first_byte & 0x0F != (2 if first_byte >> 4 == PUBREL_TYPE else 0):
        raise MalformedPacket("an acknowledgement with wrong flags", "MQTT-2.2.2-2")
    packet_id = packet_id_of(data, body, end)
    packet_type = first_byte >> 4
    if packet_type == PUBREC_TYPE:
        session.outbound.pubrec(packet_id)
        link.engine.counters.other_packets_sent += 1
    elif packet_type == PUBCOMP_TYPE:
        session.outbound.pubcomp(packet_id)
        if session.replays is not None:
            link.engine.replaying.acknowledged(session)
    else:
        release(link, session, packet_id)


def release(link: MqttLink, session: Session, packet_id: int) -> None:
    """PUBREL: as mosquitto, the message is handed on now; an unknown id is answered all the same."""
    inbound = session.inbound
    message = None if inbound is None else inbound.release(packet_id)
    if message is not None:
        assert isinstance(message, Publication)
        link.engine.note_change(session)
        message.is_ingested = True  # before its PUBREC
        link.engine.publish_from(session, message)
    answer_release(link, session, packet_id)


def _rare(link: MqttLink, session: Session, first_byte: int, body: bytes) -> None:
    if first_byte == SUBSCRIBE:
        link.act_on(SubscribeRequest(session, read_subscribe(body)))
        return
    check_connected(first_byte)
    packet = decode(first_byte, body)
    if isinstance(packet, Unsubscribe):
        link.act_on(UnsubscribeRequest(session, packet))
    elif first_byte >> 4 == PINGREQ_TYPE:
        link.engine.counters.other_packets_sent += 1
        link.outbox.answer(PINGRESP_PACKET)  # [MQTT-3.12.4-1]
    else:
        link.will_wanted = False  # [MQTT-3.14.4-3]
        link.close("disconnected.")
