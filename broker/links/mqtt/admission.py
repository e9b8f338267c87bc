"""The end of a CONNECT: let the client in, or keep it out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from broker.links.listening.judgement import Accepted, Judgement, Refused, Slow, TurnedAway
from broker.links.mqtt import v5
from broker.links.mqtt.accepting import accept
from broker.links.mqtt.forgetting import waits_for_disk
from broker.links.mqtt.refusing import refuse, refuse_outdated
from broker.links.mqtt.succeeding import waits_for_older
from broker.links.words import NOTICE
from protocol.mqtt.connection import AUTHENTICATING
from protocol.mqtt.errors import (
    ConnectRefused,
    MalformedPacket,
    PacketTooLarge,
    ProtocolError,
    ProtocolViolation,
)
from protocol.mqtt.packets import Connect, Will
from protocol.mqtt.reserved import CONTROL_PREFIX
from protocol.mqtt.topics import check_topic_name
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
        raise ProtocolViolation(reason, reason_code=ReasonCode.QOS_NOT_SUPPORTED)
    if will.retain and not link.engine.policy.retain_available:
        raise ProtocolViolation(
            "a retained will, and retain_available is false", reason_code=ReasonCode.RETAIN_NOT_SUPPORTED
        )


def admit(
    link: MqttLink,
    packet: Connect,
    verdict: Verdict | None = None,
    *,
    in_turn: bool = False,
    judgement: Judgement | None = None,
    is_claimed: bool = False,
) -> None:
    """Ask the door about a CONNECT, and do what it says.

    Args:
        verdict: what was found out elsewhere, because it took long.
        in_turn: no earlier CONNECT with this client id is still to be decided about.
        judgement: what the door said, if it was asked before.
        is_claimed: other nodes have let go of the client id for this turn.
    """
    if link.state != AUTHENTICATING:
        return  # it left while it was being authenticated
    door, check_slowly = link.door, link.check_slowly
    if link.engine.review.is_awaited and not in_turn and check_slowly is not None:
        check_slowly(link, packet, False)  # by rules that are still being read
        return
    if judgement is None:
        judgement = door.judge(packet, link.certificate_identity, link.engine.sessions, verdict)
    is_slow = isinstance(judgement, Slow)
    may_wait = is_slow or (link.engine.review.may_wait and isinstance(judgement, Accepted))
    may_wait = may_wait and not in_turn and verdict is None
    if may_wait and check_slowly is not None and check_slowly(link, packet, is_slow):
        return
    if isinstance(judgement, Slow):
        verdict = door.verdict_for(packet, link.certificate_identity)
        judgement = door.judge(packet, link.certificate_identity, link.engine.sessions, verdict)
    if isinstance(judgement, Accepted):
        link.verdict = judgement.verdict
        if in_turn and not door.authenticator.is_still_valid(judgement.verdict):
            refuse_outdated(link)
        elif waits_for_older(link, packet, judgement.client_id, not is_claimed) or (
            link.engine.saving is not None and waits_for_disk(link, packet, judgement.client_id)
        ):
            return
        else:
            accept(link, packet, judgement.client_id, judgement.verdict.user_name)
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
