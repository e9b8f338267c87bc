"""What CONNECT and CONNACK of MQTT 5.0 have of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from broker.core.publication import Publication
from broker.core.session import Session
from broker.links.mqtt.v5 import Terms, expiry_of
from protocol.mqtt.codec import CONNACK, with_fixed_header
from protocol.mqtt.packets import Connack, Connect
from protocol.mqtt.v5.connect import write_connack
from protocol.mqtt.v5.properties import Properties, forwarded_properties
from protocol.mqtt.v5.property_table import (
    ASSIGNED_CLIENT_ID,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    MESSAGE_EXPIRY,
    NEVER,
    RECEIVE_MAXIMUM,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY,
    TOPIC_ALIAS_MAXIMUM,
    WILL_DELAY,
)
from protocol.mqtt.v5.reasons import OF_RETURN_CODE
from protocol.mqtt.v5.sending import Sending

if TYPE_CHECKING:
    from broker.links.mqtt.link import MqttLink


def refusal_code(code: int) -> int:
    """The reason code of a return code of 3.1.1."""
    return OF_RETURN_CODE.get(code, code)


def keep_alive_s(link: MqttLink, packet: Connect) -> int:
    """The keep alive that holds: the server's, where the client asks for more [MQTT-3.1.2-21]."""
    listener = link.door.listener
    wanted = packet.keep_alive_s
    return wanted if listener.allows_keep_alive(wanted) else listener.max_keepalive_s


def settle(link: MqttLink, session: Session, packet: Connect, has_will: Publication | None) -> None:
    """Take over what a CONNECT says of its session and connection."""
    engine = link.engine
    outbound = session.outbound
    session.level = packet.protocol_level if packet.protocol_level == 5 else 4
    outbound.sending = None
    session.will_delay_s = 0
    session.will_expiry_s = -1
    if packet.protocol_level != 5:
        for_ever = 0.0 if packet.clean_session else math.inf
        if session.expiry_s != for_ever:
            engine.endings.keep_for(session, for_ever)  # what an earlier connection of 5.0 said holds no more
        return
    numbers = packet.properties.numbers
    expiry_s = expiry_of(numbers.get(SESSION_EXPIRY, 0))
    engine.endings.keep_for(session, expiry_s)
    outbound.sending = Sending(
        numbers.get(RECEIVE_MAXIMUM, 0),
        numbers.get(MAXIMUM_PACKET_SIZE, 0),
        min(numbers.get(TOPIC_ALIAS_MAXIMUM, 0), link.door.listener.max_topic_alias_broker),
    )
    waiting = 0 if session.inbound is None else session.inbound.count()
    receive_maximum = engine.window.inflight_messages
    # What waits from before is not in this connection's quota.
    receive_maximum = receive_maximum + waiting if receive_maximum else 0
    link.terms = Terms(link.door.listener.max_topic_alias, receive_maximum, expiry_s)
    will = packet.will
    if will is not None and has_will is not None:
        has_will.properties = forwarded_properties(will.properties)
        session.will_delay_s = will.properties.numbers.get(WILL_DELAY, 0)
        session.will_expiry_s = will.properties.numbers.get(MESSAGE_EXPIRY, -1)


def connack(link: MqttLink, session: Session, packet: Connect, present: bool) -> bytes:
    """The CONNACK that lets a client in, with what holds here and is not the standard's default."""
    properties = Properties()
    numbers = properties.numbers
    door = link.door
    if door.listener.max_topic_alias:
        numbers[TOPIC_ALIAS_MAXIMUM] = door.listener.max_topic_alias
    if link.engine.window.inflight_messages:
        numbers[RECEIVE_MAXIMUM] = min(link.engine.window.inflight_messages, 65_535)
    if door.max_packet_size:
        numbers[MAXIMUM_PACKET_SIZE] = door.max_packet_size
    if not link.engine.policy.retain_available:
        numbers[RETAIN_AVAILABLE] = 0  # [MQTT-3.2.2-13]
    if door.max_qos < 2:
        numbers[MAXIMUM_QOS] = door.max_qos  # [MQTT-3.2.2-9]
    longest = link.engine.policy.persistent_client_expiration_s
    if 0 < longest < session.expiry_s:
        numbers[SESSION_EXPIRY] = min(int(longest), NEVER - 1)
    keep_alive = keep_alive_s(link, packet)
    if keep_alive != packet.keep_alive_s:
        numbers[SERVER_KEEP_ALIVE] = keep_alive  # [MQTT-3.2.2-21]
    if session.client_id != packet.client_id:
        properties.texts[ASSIGNED_CLIENT_ID] = session.client_id  # [MQTT-3.2.2-16]
    return with_fixed_header(CONNACK, write_connack(Connack(present, 0, properties)))
