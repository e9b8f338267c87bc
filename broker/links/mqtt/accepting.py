"""A client that may come in: take its session over or open one, answer, and resume."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from broker.core.log_levels import is_logged
from broker.core.publication import Publication
from broker.core.session import Session
from broker.links.mqtt import trace
from broker.links.mqtt.admission5 import connack, keep_alive_s, settle
from broker.links.words import NOTICE, printable
from protocol.mqtt.codec import encode_connack
from protocol.mqtt.connection import silence_max_s
from protocol.mqtt.packets import Connect, Will
from protocol.mqtt.v5.reasons import ReasonCode

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")


def accept(link: MqttLink, packet: Connect, client_id: bytes, user_name: bytes | None) -> None:
    """Take over, open the session, answer, resume; one synchronous step."""
    engine = link.engine
    door = link.door
    if client_id in engine.sessions:
        take_over(link, client_id, packet.clean_session)
    session, present = engine.open_session(client_id, packet.clean_session, door.mount_point)
    if present:
        engine.endings.cancel_will(session)
    access = door.access_for(client_id, user_name, link.verdict)
    if present:
        engine.identify(session, user_name, access, door.mount_point, packet.bridge, door.max_qos, door.port)
    else:
        session.identify(user_name, access, door.mount_point, packet.bridge, door.max_qos, door.port)
    if packet.will is not None:
        session.will = _will(link, packet.will, client_id, user_name)
    link.connected(session)
    if present or packet.protocol_level == 5:
        settle(link, session, packet, session.will)
    link.silence_max_s = silence_max_s(
        keep_alive_s(link, packet) if packet.protocol_level == 5 else packet.keep_alive_s
    )
    link.choose_path(session)
    engine.counters.connections_accepted += 1
    _log_accepted(link, packet, client_id, user_name)
    if link.tracing:
        link.outbox.on_push = lambda data: _trace_sent(client_id, data, link.level)
    too_long = not _answer(link, session, packet, present)
    engine.counters.other_packets_sent += 1
    engine.attach(session, link, link.outbox)
    link.outbox.on_drained = link.drained
    if too_long:
        link.close("disconnected: it takes no packet as long as its CONNACK.")
        return
    link.resume_reading()


def _will(link: MqttLink, will: Will, client_id: bytes, user_name: bytes | None) -> Publication:
    door = link.door
    return Publication(
        door.mount_point + will.topic, will.payload, will.qos, will.retain, client_id, user_name, door.port
    )


def _log_accepted(link: MqttLink, packet: Connect, client_id: bytes, user_name: bytes | None) -> None:
    if link.door.connection_messages and is_logged(logger, NOTICE):
        logger.log(
            NOTICE,
            "New client connected from %s as %s (p%d, c%d, k%d%s).",
            link.peer,
            printable(client_id),
            packet.protocol_level,
            packet.clean_session,
            packet.keep_alive_s,
            "" if user_name is None else f", u'{printable(user_name)}'",
        )


def _answer(link: MqttLink, session: Session, packet: Connect, present: bool) -> bool:
    """Push CONNACK; False if it is longer than the client takes."""
    if packet.protocol_level == 5:
        answer = connack(link, session, packet, present)
        sending = session.outbound.sending
        if sending is not None and 0 < sending.packet_max < len(answer):
            link.outbox.close()  # nothing may be sent [MQTT-3.1.2-24]
            return False
        link.outbox.push(answer)
    else:
        is_told = present and packet.protocol_level >= 4  # [MQTT-3.2.2-2]; 3.1 has no room for it
        link.outbox.push(encode_connack(0, is_told))
    return True


def take_over(link: MqttLink, client_id: bytes, clean: bool) -> None:
    """End an older connection with this client id [MQTT-3.1.4-2]."""
    session = link.engine.sessions.get(client_id)
    if session is None:
        return
    older = session.link
    if older is not None:
        if link.door.connection_messages:
            logger.log(NOTICE, "Client %s already connected, closing old connection.", printable(client_id))
        # As mosquitto: no will when a persistent session just moves to another connection; of 5.0, only when it has
        # a delay, which is not over [MQTT-3.1.2-8].
        moves = not (clean or session.clean or session.mount_point != link.door.mount_point)
        older.will_wanted = not moves or (session.level == 5 and session.will_delay_s == 0)
        older.code = ReasonCode.SESSION_TAKEN_OVER  # [MQTT-3.1.4-3]
        older.close("disconnected: taken over by another connection.")


def _trace_sent(client_id: bytes, data: bytes, level: int) -> None:
    for line in trace.sent(printable(client_id), data, level):
        logger.debug("%s", line)
