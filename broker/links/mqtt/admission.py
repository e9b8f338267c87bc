"""The end of a CONNECT: let the client in, or keep it out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker.core.names import CONTROL_PREFIX
from broker.core.publication import Publication
from broker.links.listening.judgement import Accepted, Judgement, Refused, Slow, TurnedAway
from broker.links.mqtt import trace, v5
from broker.links.mqtt.admission5 import connack, keep_alive_s, refusal_code, settle
from broker.links.words import NOTICE, printable
from protocol.mqtt.codec import encode_connack
from protocol.mqtt.connection import AUTHENTICATING, silence_max_s
from protocol.mqtt.errors import (
    ConnectRefused,
    MalformedPacket,
    PacketTooLarge,
    ProtocolError,
    ProtocolViolation,
)
from protocol.mqtt.packets import UNSUPPORTED_PROTOCOL_VERSION_5_0, Connect, ConnectReturnCode, Will
from protocol.mqtt.topics import check_topic_name
from protocol.mqtt.v5.codec import encode_refusal
from protocol.mqtt.v5.reasons import ReasonCode

if TYPE_CHECKING:
    from broker.gateway.authentication import Verdict
    from broker.links.mqtt.link import MqttLink

logger = logging.getLogger("broker.links")


def check_will(link: MqttLink, will: Will) -> None:
    """As mosquitto: a will that could not be published closes, without CONNACK.  Raises: ProtocolViolation."""
    if will.topic.startswith(CONTROL_PREFIX):
        raise ProtocolViolation("a will for a topic of $CONTROL")
    check_topic_name(link.door.mount_point + will.topic)
    if will.qos > link.door.max_qos:
        reason = f"a will with QoS {will.qos}; this listener takes {link.door.max_qos}"
        raise ProtocolViolation(reason, reason_code=0x9B)
    if will.retain and not link.engine.policy.retain_available:
        raise ProtocolViolation("a retained will, and retain_available is false", reason_code=0x9A)


def admit(
    link: MqttLink,
    packet: Connect,
    verdict: Verdict | None = None,
    *,
    in_turn: bool = False,
    judgement: Judgement | None = None,
) -> None:
    """Ask the door about a CONNECT, and do what it says.

    Args:
        verdict: what was found out elsewhere, because it took long.
        in_turn: no earlier CONNECT with this client id is still to be decided about.
        judgement: what the door said, if it was asked before.
    """
    if link.state != AUTHENTICATING:
        return  # it left while it was being authenticated
    door = link.door
    if judgement is None:
        judgement = door.judge(packet, link.certificate_identity, link.engine.sessions, verdict)
    check_slowly = link.check_slowly
    if check_slowly is not None and not in_turn and verdict is None:
        is_slow = isinstance(judgement, Slow)
        if (is_slow or isinstance(judgement, Accepted)) and check_slowly(link, packet, is_slow):
            return
    if isinstance(judgement, Slow):
        verdict = door.verdict_for(packet, link.certificate_identity)
        judgement = door.judge(packet, link.certificate_identity, link.engine.sessions, verdict)
    if isinstance(judgement, Accepted):
        link.verdict = judgement.verdict
        _accept(link, packet, judgement.client_id, judgement.verdict.user_name)
    elif isinstance(judgement, Refused):
        refuse(link, judgement.code, judgement.reason)
    elif isinstance(judgement, TurnedAway):
        link.close(judgement.reason)
    if link.departed:
        link.close("closed its connection.")


def fail(link: MqttLink, error: ProtocolError) -> None:
    """What the peer sent ends its connection, and nothing else."""
    link.engine.counters.protocol_errors += 1
    if isinstance(error, ConnectRefused):
        link.state = AUTHENTICATING
        refuse(link, error.code, error.reason)
        return
    logger.debug("! %s %s", link.peer, error)
    link.code = error.reason_code
    if link.session is None:
        logger.log(NOTICE, "Connection from %s closed: %s.", link.peer, error)
        v5.refuse_malformed(link)
    if isinstance(error, PacketTooLarge):
        link.close("disconnected due to oversize packet.")
    elif isinstance(error, MalformedPacket):
        link.close("disconnected due to malformed packet.")
    else:
        link.close("disconnected due to protocol error.")


def _accept(link: MqttLink, packet: Connect, client_id: bytes, user_name: bytes | None) -> None:
    """Take over, open the session, answer, resume; one synchronous step."""
    engine = link.engine
    door = link.door
    _take_over(link, client_id, packet.clean_session)
    session, present = engine.open_session(client_id, packet.clean_session, door.mount_point)
    if present:
        engine.endings.cancel_will(session)
    access = door.access_for(client_id, user_name, link.verdict)
    engine.identify(session, user_name, access, door.mount_point, packet.bridge, door.max_qos, door.port)
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
    link.connected(session)
    settle(link, session, packet, session.will)
    link.silence_max_s = silence_max_s(
        keep_alive_s(link, packet) if packet.protocol_level == 5 else packet.keep_alive_s
    )
    link.choose_path(session)
    engine.counters.connections_accepted += 1
    if door.connection_messages and logger.isEnabledFor(NOTICE):
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
    if link.tracing:
        link.outbox.on_push = lambda data: _trace_sent(client_id, data, link.level)
    too_long = False
    if packet.protocol_level == 5:
        answer = connack(link, session, packet, present)
        sending = session.outbound.sending
        too_long = sending is not None and 0 < sending.packet_max < len(answer)
        if too_long:
            link.outbox.close()  # nothing may be sent [MQTT-3.1.2-24]
        link.outbox.push(answer)
    else:
        is_told = present and packet.protocol_level >= 4  # [MQTT-3.2.2-2]; 3.1 has no room for it
        link.outbox.push(encode_connack(0, is_told))
    engine.counters.other_packets_sent += 1
    engine.attach(session, link, link.outbox)
    link.outbox.on_drained = link.drained
    if too_long:
        link.close("disconnected: it takes no packet as long as its CONNACK.")
        return
    link.resume_reading()


REASONS: Final = {
    ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION: "protocol_version",
    ConnectReturnCode.IDENTIFIER_REJECTED: "client_id",
    ConnectReturnCode.SERVER_UNAVAILABLE: "unavailable",
    ConnectReturnCode.BAD_USER_NAME_OR_PASSWORD: "bad_credentials",
    ConnectReturnCode.NOT_AUTHORIZED: "not_authorized",
    UNSUPPORTED_PROTOCOL_VERSION_5_0: "protocol_version",
}
"""What the metrics call the return codes."""


def refuse(link: MqttLink, code: int, why: str) -> None:
    """CONNACK with the return code, then close [MQTT-3.2.2-5]."""
    link.engine.counters.refuse(REASONS.get(code, "other"))
    link.engine.counters.other_packets_sent += 1
    if link.level == 5 or code == UNSUPPORTED_PROTOCOL_VERSION_5_0:
        code = refusal_code(code)
        link.outbox.push(encode_refusal(code))
    else:
        link.outbox.push(encode_connack(code))
    logger.log(NOTICE, "Client connection from %s refused: %s.", link.peer, why)
    link.close(why)


def _take_over(link: MqttLink, client_id: bytes, clean: bool) -> None:
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
